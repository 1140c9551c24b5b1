//! What operators can see in numbers, in Prometheus' text format.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use kms_audit::FileLog;
use kms_core::operation::OperationName;
use kms_hsm::Pkcs11Hsm;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text::encode},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use crate::{
    archiving::Archiver, carriers::Carried, floods::SummingLog, keystores::Keystores, opening,
    rotation::Rotation,
};

/// Upper bounds of the latency histogram, in seconds.
const LATENCY_BOUNDS: [f64; 12] =
    [0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.5];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

type Latencies = Family<OperationLabels, Histogram, fn() -> Histogram>;

/// All metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    latencies: Latencies,
    over_limit: Family<OperationLabels, Counter>,
    no_calls: Family<CodeLabels, Counter>,
}

impl Metrics {
    /// Registers them; the adapters count for themselves and are read at each scrape.
    pub(crate) fn new(parts: &opening::Adapters, floods: Arc<SummingLog>, rotation: Arc<Rotation>) -> Self {
        let mut metrics = Self::of_calls();
        let (hsm, keystores, log) = (parts.hsm.clone(), parts.keystores.clone(), parts.log.clone());
        let (carried, archiver) = (parts.carried.clone(), parts.archiver.clone());
        metrics.registry.register_collector(Box::new(Adapters {
            hsm,
            keystores,
            log,
            carried,
            archiver,
            floods,
            rotation,
        }));
        metrics
    }

    /// Those that are counted here.
    pub(crate) fn of_calls() -> Self {
        let mut registry = Registry::with_prefix("dewpoint");
        let calls = Family::default();
        let latencies = Latencies::new_with_constructor(|| Histogram::new(LATENCY_BOUNDS));
        let (over_limit, no_calls) = (Family::default(), Family::default());
        registry.register("calls", "Calls by operation and outcome", calls.clone());
        let help = "From the arrival of a call to its answer";
        registry.register_with_unit("call_latency", help, Unit::Seconds, latencies.clone());
        let help = "Calls over a limit that passed because traffic control only reports";
        registry.register("calls_over_limit", help, over_limit.clone());
        let help = "Requests of DEW's protocol that were no calls, by the code that they were refused with";
        registry.register("dew_no_calls", help, no_calls.clone());
        Self { registry, calls, latencies, over_limit, no_calls }
    }

    /// The state of all metrics as text.
    pub(crate) fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    pub(crate) fn call(&self, name: OperationName, outcome: &'static str, elapsed: Duration) {
        let operation = name.info().name;
        self.calls.get_or_create(&CallLabels { operation, outcome }).inc();
        self.latencies.get_or_create(&OperationLabels { operation }).observe(elapsed.as_secs_f64());
    }

    pub(crate) fn no_call(&self, code: &'static str) {
        self.no_calls.get_or_create(&CodeLabels { code }).inc();
    }

    pub(crate) fn over_limit(&self, name: OperationName) {
        self.over_limit.get_or_create(&OperationLabels { operation: name.info().name }).inc();
    }
}

struct Adapters {
    hsm: Arc<Pkcs11Hsm>,
    keystores: Arc<Keystores>,
    log: Arc<FileLog>,
    carried: Vec<Arc<Carried>>,
    archiver: Option<Arc<Archiver>>,
    floods: Arc<SummingLog>,
    rotation: Arc<Rotation>,
}

impl fmt::Debug for Adapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Adapters")
    }
}

impl Collector for Adapters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let hsm = self.hsm.statistics();
        let help = "Calls to the PKCS#11 module by C function";
        let mut calls = encoder.encode_descriptor("hsm_calls", help, None, MetricType::Counter)?;
        for call in &hsm.calls {
            let labels = [("function", call.function)];
            ConstCounter::new(call.calls).encode(calls.encode_family(&labels)?)?;
        }
        let help = "Calls to the PKCS#11 module that failed, by C function";
        let mut errors = encoder.encode_descriptor("hsm_errors", help, None, MetricType::Counter)?;
        for call in &hsm.calls {
            let labels = [("function", call.function)];
            ConstCounter::new(call.errors).encode(errors.encode_family(&labels)?)?;
        }
        counter(&mut encoder, "hsm_key_loads", "Backing keys unwrapped for use", hsm.loads)?;
        let help = "Session objects that were destroyed";
        counter(&mut encoder, "hsm_objects_destroyed", help, hsm.destroyed)?;
        let help = "How often a lost token was opened anew";
        counter(&mut encoder, "hsm_heals", help, hsm.heals)?;
        let help = "How often the module was renewed, to free what it leaks";
        counter(&mut encoder, "hsm_renewals", help, hsm.renewals)?;
        let help = "1 if every HSM worker waits in a call that does not return";
        gauge(&mut encoder, "hsm_stuck", help, self.hsm.is_stuck().into())?;
        gauge(&mut encoder, "hsm_loaded_keys", "Backing keys that are loaded", hsm.loaded_keys)?;
        gauge(&mut encoder, "hsm_queue", "Jobs that wait for an HSM worker", hsm.queued)?;
        let help = "1 if the keystore's token can be used; else its keys are refused";
        let mut up = encoder.encode_descriptor("keystore_up", help, None, MetricType::Gauge)?;
        for (id, works) in self.keystores.states() {
            let labels = [("keystore", id.as_str())];
            ConstGauge::new(i64::from(works)).encode(up.encode_family(&labels)?)?;
        }
        let rotation = self.rotation.progress();
        let help = "Keys that were moved under a new root key";
        counter(&mut encoder, "root_keys_moved", help, self.rotation.moved_in_all())?;
        let help = "Keys that a rotation of the root key has still to move";
        gauge(&mut encoder, "root_keys_left", help, rotation.left)?;
        let help = "Keys that it cannot move; the old root key stays because of them";
        gauge(&mut encoder, "root_keys_blocked", help, rotation.blocked)?;
        self.encode_log(&mut encoder)
    }
}

impl Adapters {
    fn encode_log(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let log = self.log.statistics();
        counter(encoder, "audit_commits", "Commits of the audit log", log.commits)?;
        counter(encoder, "audit_records", "Records in those commits", log.records)?;
        counter(encoder, "audit_failures", "Commits, reopenings and checkpoints that failed", log.failures)?;
        if let Some(coverage) = self.log.coverage() {
            let help = "Lines of the audit log in its tree";
            counter(encoder, "audit_lines_followed", help, coverage.followed)?;
            let help = "Lines of the audit log that its newest checkpoint covers";
            counter(encoder, "audit_lines_signed", help, coverage.signed)?;
        }
        self.encode_carriers(encoder)?;
        if let Some(archiver) = &self.archiver {
            let help = "Lines of the audit log that are in its archive";
            counter(encoder, "audit_archived_lines", help, archiver.lines.load(Relaxed))?;
            let help = "Archived segments that were removed from the audit log";
            counter(encoder, "audit_segments_removed", help, archiver.removed.load(Relaxed))?;
            let help = "Attempts to archive the audit log that failed";
            counter(encoder, "audit_archive_failures", help, archiver.failures.load(Relaxed))?;
        }
        let help = "Refused calls that one record tells of together with others";
        counter(encoder, "audit_summed_refusals", help, self.floods.summed())?;
        gauge(encoder, "audit_healthy", "1 if the audit log takes records", self.log.healthy().into())
    }

    fn encode_carriers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help =
            "Lines of the audit log that the newest checkpoint covers which has left the machine, by place";
        let mut sizes =
            encoder.encode_descriptor("checkpoint_carried_lines", help, None, MetricType::Counter)?;
        for carried in &self.carried {
            let size = carried.size.load(Relaxed);
            ConstCounter::new(size).encode(sizes.encode_family(&[("place", carried.place)])?)?;
        }
        let help = "Attempts to carry a checkpoint elsewhere that failed, by place";
        let mut failures =
            encoder.encode_descriptor("checkpoint_carry_failures", help, None, MetricType::Counter)?;
        for carried in &self.carried {
            let count = carried.failures.load(Relaxed);
            ConstCounter::new(count).encode(failures.encode_family(&[("place", carried.place)])?)?;
        }
        Ok(())
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: usize) -> fmt::Result {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}
