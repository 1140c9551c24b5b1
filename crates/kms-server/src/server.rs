//! The composition root: adapters, pipeline, listeners, and their orderly end.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use kms_core::{Service, ports::Clock};
use tokio::{
    net::TcpListener,
    signal::unix::Signal,
    sync::watch,
    task::JoinHandle,
    time::{Sleep, interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server as TonicServer;
use tonic_reflection::server as reflection;

use crate::{
    admin,
    archiving::{self, Archiver},
    carriers,
    clock::SystemClock,
    config::{Config, FileError},
    dew::{self, Rest},
    floods::{self, SummingLog},
    gate::{Gate, HSM_PATIENCE},
    grpc,
    health::{HEALTH_INTERVAL, report_health, watch_health},
    identity::{CurrentIdentities, reload},
    listeners::{Inherited, ListenError, Listeners},
    metering::{self, Metering},
    metrics::Metrics,
    opening::{Adapters, Opened, open},
    reading::ReadableLog,
    rotation::{self, Rotation},
    sockets::Sockets,
    start_watch::StartWatch,
    tls,
    traffic::{self, BudgetClock, ProfileSource, TrafficControl},
    upkeep, usage,
    witness::{self, Witness},
};
pub use crate::{opening::initialise, serve_error::ServeError};

/// How many calls one connection may have in flight.
const STREAMS_PER_CONNECTION: u32 = 1024;
/// For how many looks at its health a stuck HSM is waited for before a supervised process gives up.
const STUCK_LIMIT: u32 = 20;
/// How often idle users' traffic budgets are forgotten.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// How long the last checkpoint may take to leave the machine.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long everything that is under way may take to end once the service is told to stop: calls of all listeners, what
/// the service does by itself, and changes whose clients have gone.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// For how much longer than that the HSM's module is waited for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A service that answers calls.
#[allow(missing_debug_implementations, reason = "holds the service, which has nothing to show")]
pub struct RunningServer {
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where DEW's REST protocol is, if anywhere.
    pub dew: Option<SocketAddr>,
    /// Where metrics and health are, if anywhere.
    pub admin: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    background: Vec<JoinHandle<()>>,
    /// They end after the log, with its last checkpoint.
    carriers: Vec<JoinHandle<()>>,
    gate: Arc<Gate>,
    adapters: Adapters,
}

/// Opens everything, settles what a crash left, and listens.
pub async fn start(config: &Config) -> Result<RunningServer, ServeError> {
    start_on(config, Inherited::default(), &StartWatch::default()).await
}

/// As [`start`], on sockets that listen already; `watch` learns when the start waits for the module of an HSM.
pub async fn start_on(
    config: &Config,
    inherited: Inherited,
    watch: &StartWatch,
) -> Result<RunningServer, ServeError> {
    prepare(config, watch).await?.listen(config, inherited).await
}

/// A service that is whole, and that nobody can reach yet.
pub(crate) struct Prepared {
    tls: rustls::ServerConfig,
    /// `None`: plain HTTP.
    dew_tls: Option<rustls::ServerConfig>,
    gate: Arc<Gate>,
    log: ReadableLog,
    metering: Arc<Metering>,
    adapters: Adapters,
    carriers: Vec<JoinHandle<()>>,
}

impl Prepared {
    /// The pipeline, for what has to be done before the first call.
    pub(crate) fn service(&self) -> &Service {
        &self.gate.service
    }

    /// Lets callers in.
    pub(crate) async fn listen(
        self,
        config: &Config,
        inherited: Inherited,
    ) -> Result<RunningServer, ServeError> {
        listen(Listeners::open(config, inherited)?, self).await
    }
}

/// Opens everything and settles what a crash left.
pub(crate) async fn prepare(config: &Config, watch: &StartWatch) -> Result<Prepared, ServeError> {
    let identities = CurrentIdentities::load(&config.identity_file)?;
    let source = ProfileSource::of(&config.traffic_control);
    let (profile, _) = source.read()?;
    let tls = tls::mutual(&config.grpc)?;
    let dew_tls = dew_tls(config)?;
    let mut places = carriers::places(&config.audit.checkpoints)?;
    let witnessed = witness::logs(&config.audit.witness)?;
    let (owned, watched) = (config.clone(), watch.clone());
    let opening = tokio::task::spawn_blocking(move || open_readable(&owned, &watched)).await;
    let (Opened { mut ports, mut adapters, open_intents }, log) =
        opening.map_err(|error| ServeError::Grpc(error.to_string()))??;
    let machine: Arc<dyn Clock> = adapters.machine.clone();
    carriers::attach(&mut places, &adapters.log)?;
    let (carriers, carried) = carriers::start(places, &adapters.checkpoints, &machine);
    adapters.carried = carried;
    let directory = config.data_dir.join("audit");
    let archiver = |archive: &_| Arc::new(Archiver::new(&directory, archive));
    adapters.archiver = config.audit.archive.as_ref().map(archiver);
    let file_log = adapters.log.clone();
    let floods = Arc::new(SummingLog::new(ports.audit, move || file_log.healthy(), machine.clone()));
    ports.audit = floods.clone();
    watch.waits_while("the service's keys are derived");
    let service = Arc::new(Service::start(ports, config.settings()).await?);
    watch.goes_on();
    service.replace_quotas(profile.quotas.clone());
    service.reconcile(&open_intents).await.map_err(|error| {
        ServeError::Reconcile(error.operator_detail().unwrap_or_else(|| error.to_string()))
    })?;
    usage::catch_up(&service, directory).await?;
    let own = adapters.log.key().ok_or_else(|| ServeError::Witness("the log has no key".to_owned()))?;
    let witness = Arc::new(Witness::open(&config.data_dir, own, witnessed, machine)?);
    let rotation = Arc::new(Rotation::new(HSM_PATIENCE));
    let budget_clock = BudgetClock::new(adapters.machine.clone(), adapters.manual_clock.clone());
    let gate = Arc::new(Gate {
        service,
        identities,
        traffic: TrafficControl::new(config.traffic_control.mode, source, &profile, budget_clock),
        metrics: Metrics::new(&adapters, floods.clone(), rotation.clone()),
        floods,
        rotation,
        upkeep: Arc::default(),
        witness,
        clock: adapters.machine.clone(),
        changes: adapters.changes.clone(),
    });
    let metering = Arc::new(Metering::new(log.clone(), config.data_dir.join("metering")));
    Ok(Prepared { tls, dew_tls, gate, log, metering, adapters, carriers })
}

/// With what DEW's listener shows who it is; `None`: there is none, or it speaks plain HTTP.
pub(crate) fn dew_tls(config: &Config) -> Result<Option<rustls::ServerConfig>, FileError> {
    let Some(dew) = &config.dew else { return Ok(None) };
    let (certificate, private_key) = match &dew.tls {
        Some(own) => (&own.certificate, &own.private_key),
        None => (&config.grpc.certificate, &config.grpc.private_key),
    };
    if dew.insecure_plain_http {
        tracing::warn!(listen = %dew.listen, "data keys are sent over plain HTTP: anyone on the way can read them");
        return Ok(None);
    }
    tls::one_sided(certificate, private_key).map(Some)
}

/// Opens the adapters, with a log that tells its readers what has become durable.
fn open_readable(config: &Config, watch: &StartWatch) -> Result<(Opened, ReadableLog), ServeError> {
    let mut opened = open(config, watch)?;
    let (log, announced) = ReadableLog::of(config.data_dir.join("audit"), opened.ports.audit)?;
    opened.ports.audit = Arc::new(announced);
    Ok((opened, log))
}

#[allow(clippy::too_many_lines, reason = "the listeners, one after another; nothing here decides anything")]
async fn listen(listeners: Listeners, prepared: Prepared) -> Result<RunningServer, ServeError> {
    let Prepared { tls, dew_tls, gate, log, metering, adapters, carriers } = prepared;
    let address = |listener: &TcpListener| listener.local_addr().map_err(ListenError::Socket);
    let grpc_address = address(&listeners.grpc)?;
    let (stop, told_stop) = watch::channel(false);
    let (ready_sender, ready) = watch::channel(true);
    let (reporter, health) = tonic_health::server::health_reporter();
    report_health(&reporter, true).await;
    let mut background = work(&gate, &metering, &adapters, &told_stop);
    let (watched, log_health) = (gate.clone(), adapters.log.clone());
    background.push(tokio::spawn(watch_health(
        watched,
        log_health,
        reporter,
        ready_sender,
        told_stop.clone(),
    )));
    let mut dew_address = None;
    if let Some(listener) = listeners.dew {
        dew_address = Some(address(&listener)?);
        let scheme = if dew_tls.is_some() { "https" } else { "http" };
        let rest = Rest::new(gate.clone(), scheme).map_err(|error| ServeError::Dew(error.to_string()))?;
        background.push(tokio::spawn(dew::serve(listener, dew_tls, Arc::new(rest), told_stop.clone())));
    }
    let mut admin = None;
    if let Some(listener) = listeners.admin {
        admin = Some(address(&listener)?);
        background.push(tokio::spawn(admin::serve(listener, gate.clone(), ready, told_stop.clone())));
    }
    let manual_clock = adapters.manual_clock.clone();
    let described = |error: reflection::Error| ServeError::Grpc(error.to_string());
    let reflection = descriptors(manual_clock.is_some()).build_v1().map_err(described)?;
    // Tools of before 2023 know only this one.
    let older_reflection = descriptors(manual_clock.is_some()).build_v1alpha().map_err(described)?;
    let dev = manual_clock.map(|clock| grpc::dev_service(gate.clone(), clock));
    let router = TonicServer::builder()
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .add_routes(grpc::routes(gate.clone()))
        .add_service(grpc::audit_service(gate.clone(), log, metering, told_stop.clone()))
        .add_service(health)
        .add_service(reflection)
        .add_service(older_reflection)
        .add_optional_service(dev);
    let incoming = ReceiverStream::new(tls::accept(Sockets::of(listeners.grpc), tls));
    let mut told = told_stop;
    let until_told = async move { stopped(&mut told).await };
    let serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, until_told));
    Ok(RunningServer {
        grpc: grpc_address,
        dew: dew_address,
        admin,
        stop,
        serving,
        background,
        carriers,
        gate,
        adapters,
    })
}

/// What the service does by itself beside its calls.
fn work(
    gate: &Arc<Gate>,
    metering: &Arc<Metering>,
    adapters: &Adapters,
    stop: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let mut tasks = vec![
        tokio::spawn(tidy(gate.clone(), stop.clone())),
        carry_out_rotations(gate, stop.clone()),
        tokio::spawn(floods::drive(gate.floods.clone(), stop.clone())),
        tokio::spawn(usage::drive(gate.service.clone(), stop.clone())),
        tokio::spawn(metering::drive(metering.clone(), stop.clone())),
        tokio::spawn(upkeep::drive(gate.upkeep.clone(), gate.service.clone(), stop.clone())),
    ];
    if let Some(archiver) = adapters.archiver.clone() {
        let (service, log) = (gate.service.clone(), adapters.log.clone());
        tasks.push(tokio::spawn(archiving::drive(archiver, service, metering.clone(), log, stop.clone())));
    }
    tasks
}

impl RunningServer {
    /// Whether testers advance its clock.
    pub(crate) fn clock_is_manual(&self) -> bool {
        self.adapters.manual_clock.is_some()
    }

    /// Ends when the HSM has not returned from its calls for so long that only another process helps. For a
    /// process that a supervisor replaces.
    pub fn beyond_help(&self) -> impl Future<Output = ()> + Send + 'static {
        let hsm = self.adapters.hsm.clone();
        async move {
            let mut ticks = interval(HEALTH_INTERVAL);
            let mut stuck = 0;
            while stuck < STUCK_LIMIT {
                ticks.tick().await;
                stuck = if hsm.is_stuck() { stuck + 1 } else { 0 };
            }
        }
    }

    /// Reads the identity file and the profile anew at each of these signals, from now on: what each says is recorded
    /// and holds from the next call on, or changes nothing if it cannot be used.
    pub fn reload_files_at(&mut self, mut signals: Signal) {
        let (gate, mut stop) = (self.gate.clone(), self.stop.subscribe());
        self.background.push(tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stopped(&mut stop) => return,
                    told = signals.recv() => if told.is_none() { return },
                }
                reload::by_signal(&gate).await;
                traffic::reload::by_signal(&gate).await;
            }
        }));
    }

    /// Runs until `told` resolves, then drains: no new calls, those in flight end, what they
    /// recorded is durable, the token is left in order.
    pub async fn run_until(mut self, told: impl Future<Output = ()>) -> Result<(), ServeError> {
        let failed = tokio::select! {
            () = told => None,
            ended = &mut self.serving => Some(ended),
        };
        self.stop.send_replace(true);
        // One time for all that drains: whoever stops the service waits only so long for it.
        let mut deadline = pin!(sleep(DRAIN_TIMEOUT));
        let ended = match failed {
            Some(ended) => Some(ended),
            None => before(deadline.as_mut(), &mut self.serving).await,
        };
        if ended.is_none() {
            tracing::warn!(
                "calls were still in flight after {DRAIN_TIMEOUT:?}; their connections are closed"
            );
            self.serving.abort();
        }
        for task in self.background {
            drop(before(deadline.as_mut(), task).await);
        }
        // Clients that hung up do not hold the end up, but what they asked for may still be under way.
        self.adapters.changes.close();
        if before(deadline.as_mut(), self.adapters.changes.wait()).await.is_none() {
            tracing::warn!(
                "changes were still under way after {DRAIN_TIMEOUT:?}; the next start settles them"
            );
        }
        usage::flush(&self.gate.service).await;
        self.gate.floods.close();
        let Adapters { hsm, keystores, log, .. } = self.adapters;
        // The last checkpoint needs the token. What is still recorded after this finds the log closed.
        drop(tokio::task::spawn_blocking(move || log.shutdown()).await);
        let mut carried = pin!(sleep(CARRIER_TIMEOUT));
        for carrier in self.carriers {
            drop(before(carried.as_mut(), carrier).await);
        }
        let closed = tokio::task::spawn_blocking(move || {
            hsm.shut_down();
            keystores.shut_down();
        });
        leave_module(closed, deadline).await;
        match ended {
            Some(Ok(Err(error))) => Err(ServeError::Grpc(error.to_string())),
            Some(Err(error)) => Err(ServeError::Grpc(error.to_string())),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }
}

/// Waits until the HSM's module is closed. If it does not return, neither does this.
async fn leave_module(closed: impl Future, deadline: Pin<&mut Sleep>) {
    let patience = async {
        deadline.await;
        sleep(CLOSE_TIMEOUT).await;
    };
    tokio::select! {
        _ = closed => {}
        () = patience => {
            // A thread is inside the module, and an orderly exit under it may crash or wait for ever.
            tracing::error!(
                "the HSM's module does not return; what was recorded is on the disk, and this process aborts"
            );
            std::process::abort();
        }
    }
}

/// What the task gives, unless the deadline comes before it.
async fn before<T>(deadline: Pin<&mut Sleep>, task: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased; // what has ended counts, however late it is looked at
        given = task => Some(given),
        () = deadline => None,
    }
}

/// What reflection tells of the services that are there.
fn descriptors(has_dev_service: bool) -> reflection::Builder<'static> {
    let contract =
        if has_dev_service { kms_proto::DEV_FILE_DESCRIPTOR_SET } else { kms_proto::FILE_DESCRIPTOR_SET };
    reflection::Builder::configure()
        .register_encoded_file_descriptor_set(contract)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Resolves when the service is told to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the service.
    drop(stop.wait_for(|stop| *stop).await);
}

fn carry_out_rotations(gate: &Gate, stop: watch::Receiver<bool>) -> JoinHandle<()> {
    let (rotation, service) = (gate.rotation.clone(), gate.service.clone());
    tokio::spawn(rotation::drive(rotation, service, gate.clock.clone(), stop))
}

async fn tidy(gate: Arc<Gate>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(TIDY_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let gate = gate.clone();
                drop(tokio::task::spawn_blocking(move || gate.traffic.forget_idle()).await);
            }
            () = stopped(&mut stop) => return,
        }
    }
}

/// The system's clock, for what runs beside the service.
pub(crate) fn now() -> kms_core::Timestamp {
    SystemClock::start().now()
}
