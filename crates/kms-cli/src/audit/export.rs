//! `dewctl audit export`: records in the forms that other systems take. docs/audit-export.md has the mappings.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use indicatif::{ProgressBar, ProgressStyle};
use kms_client::proto::{AuditRecord, RecordPhase, StreamRecordsRequest, Verdict};
use serde_json::{Value, json};

use super::{ReaderOptions, line};
use crate::{connection::ConnectionOptions, input::directory_of, output::Failure};

/// What to export, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportOptions {
    /// The form of a record
    #[arg(long, value_name = "FORM", default_value = "jsonl")]
    format: Format,
    /// Into this file, which must not exist, in place of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Begin at this place in the log
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from_seq: u64,
    #[command(flatten)]
    reader: ReaderOptions,
}

/// A form of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The lines of the log, byte by byte
    Jsonl,
    /// Traces as Huawei Cloud's Cloud Trace Service has them
    Cloudtrace,
    /// Events of the Open Cybersecurity Schema Framework: API Activity
    Ocsf,
}

/// Exports what the log holds now.
pub(super) async fn run(options: &ExportOptions, connection: &ConnectionOptions) -> Result<(), Failure> {
    let client = options.reader.connect(connection).await?;
    let (filter, from_seq) = (Some(options.reader.filter()?), Some(options.from_seq));
    let mut out = Out::open(options)?;
    let bar = ProgressBar::new(0).with_style(style());
    let mut next = options.from_seq;
    let mut count = 0_u64;
    let written = async {
        let request = StreamRecordsRequest { filter, from_seq, follow: false };
        let mut stream = client.stream_records(request).await?;
        while let Some(message) = stream.next().await? {
            count += out.take(options.format, &message.records)?;
            next = message.next_seq;
            bar.set_length(message.end_seq.saturating_sub(options.from_seq));
            bar.set_position(next.saturating_sub(options.from_seq));
            bar.set_message(format!("{count} exported"));
        }
        // What could not be made to last may be missing from its beginning.
        out.finish().inspect_err(|_| next = options.from_seq)
    }
    .await;
    bar.finish_and_clear();
    match &written {
        Ok(()) => eprintln!("dewctl: {count} records exported; go on later with --from-seq {next}"),
        Err(_) => eprintln!("dewctl: broke off after {count} records; --from-seq {next} goes on"),
    }
    written
}

fn style() -> ProgressStyle {
    let template = "{spinner} {wide_bar} {pos}/{len} lines  {msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Where records go.
struct Out {
    to: BufWriter<Box<dyn Write>>,
    name: String,
    /// What has to be on the disk at the end: the file and its directory.
    kept: Vec<File>,
}

impl Out {
    fn open(options: &ExportOptions) -> Result<Self, Failure> {
        let Some(path) = &options.out else {
            return Ok(Self::to(io::stdout(), "stdout".to_owned(), Vec::new()));
        };
        let name = path.display().to_string();
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let kept =
            opened.and_then(|file| Ok((file.try_clone()?, vec![file, File::open(directory_of(path))?])));
        let (file, kept) = kept.map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
        Ok(Self::to(file, name, kept))
    }

    fn to(to: impl Write + 'static, name: String, kept: Vec<File>) -> Self {
        Self { to: BufWriter::new(Box::new(to)), name, kept }
    }

    /// Takes what came together; answers how many records that are. When it returns, nothing of it waits in this program,
    /// so that who goes on behind it misses nothing.
    fn take(&mut self, format: Format, records: &[AuditRecord]) -> Result<u64, Failure> {
        let mut count = 0;
        for record in records {
            let Some(text) = format.render(record)? else { continue };
            writeln!(self.to, "{text}").map_err(|error| self.failed(&error))?;
            count += 1;
        }
        self.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().map_err(|error| self.failed(&error))
    }

    /// All of it is on the disk when this returns, if it goes into a file.
    fn finish(&mut self) -> Result<(), Failure> {
        self.flush()?;
        self.kept.iter().try_for_each(File::sync_all).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::Usage(format!("{}: {error}", self.name))
    }
}

impl Format {
    /// A record in this form. `None`: the form has no place for it, as for intents, whose outcome tells all.
    fn render(self, record: &AuditRecord) -> Result<Option<String>, Failure> {
        let is_intent = record.phase() == RecordPhase::Intent;
        match self {
            Self::Jsonl => line(record).map(Some),
            _ if is_intent => Ok(None),
            Self::Cloudtrace => Ok(Some(trace(record).to_string())),
            Self::Ocsf => Ok(Some(event(record, &line(record)?).to_string())),
        }
    }
}

/// Reasons of failures that nobody who calls can do anything about.
fn is_fault(reason: &str) -> bool {
    reason.ends_with("_UNAVAILABLE") || matches!(reason, "INTERNAL" | "RECORD_TAMPERED" | "OUTCOME_UNKNOWN")
}

/// As a code of HTTP.
fn code(record: &AuditRecord) -> u16 {
    let reason = record.reason.as_str();
    match record.verdict() {
        Verdict::Denied if record.account.is_empty() => 401,
        Verdict::Denied if reason == "THROTTLED" => 429,
        Verdict::Denied => 403,
        Verdict::Failed if reason.ends_with("_UNAVAILABLE") => 503,
        Verdict::Failed if is_fault(reason) => 500,
        Verdict::Failed if reason.ends_with("_NOT_FOUND") => 404,
        Verdict::Failed => 400,
        Verdict::Succeeded | Verdict::Pending | Verdict::Unspecified => 200,
    }
}

/// Milliseconds since 1970.
fn milliseconds(record: &AuditRecord) -> i64 {
    let time = record.time.unwrap_or_default();
    time.seconds * 1000 + i64::from(time.nanos / 1_000_000)
}

/// Address and port of the caller, apart.
fn source(record: &AuditRecord) -> (String, Option<u16>) {
    match record.source.parse::<std::net::SocketAddr>() {
        Ok(source) => (source.ip().to_string(), Some(source.port())),
        Err(_) => (String::new(), None),
    }
}

/// A trace.
// DEW: §10, fields of traces; operations that DEW does not trace go by their own name.
fn trace(record: &AuditRecord) -> Value {
    let name = if record.trace_name.is_empty() { &record.operation } else { &record.trace_name };
    let rating = match record.verdict() {
        Verdict::Failed if is_fault(&record.reason) => "incident",
        Verdict::Failed | Verdict::Denied => "warning",
        _ => "normal",
    };
    let domain = json!({ "id": record.account, "name": record.account });
    let mut user = json!({ "id": record.user, "name": record.user, "domain": domain });
    if !record.access_key_id.is_empty() {
        user["access_key_id"] = record.access_key_id.clone().into();
    }
    json!({
        "trace_id": format!("{}-{}", record.request_id, record.seq),
        "trace_name": name,
        "trace_type": if is_own(record) { "SystemAction" } else { "ApiCall" },
        "trace_rating": rating,
        "service_type": "KMS",
        "resource_type": if record.operation == "GenerateRandom" { "rng" } else { "cmk" },
        "resource_id": record.key_id,
        "resource_name": record.key_id,
        "user": user,
        "source_ip": source(record).0,
        "time": milliseconds(record),
        "record_time": milliseconds(record) + i64::try_from(record.latency_us / 1000).unwrap_or(0),
        "api_version": "v1",
        "code": code(record).to_string(),
        "request_id": record.request_id,
        "message": record.reason,
        "request": "",
        "response": "",
    })
}

/// The class API Activity of the category Application Activity.
const CLASS: u32 = 6003;

/// What kind of activity an operation is.
fn activity(operation: &str) -> (u32, &'static str) {
    let begins = |verbs: &[&str]| verbs.iter().any(|verb| operation.starts_with(verb));
    if begins(&["Create", "Generate", "BatchCreate", "Import", "Replicate", "StartCampaign"]) {
        (1, "Create")
    } else if begins(&["Describe", "List", "Get", "Count", "Query", "Stream", "Explain", "Read"]) {
        (2, "Read")
    } else if begins(&["Delete", "BatchDelete", "Destroy", "Retire", "Revoke", "Expire"]) {
        (4, "Delete")
    } else if begins(&["Encrypt", "Decrypt", "ReEncrypt", "Rewrap", "Sign", "Verify", "Derive"]) {
        (99, "Other")
    } else {
        (3, "Update")
    }
}

/// An event of the Open Cybersecurity Schema Framework, version 1.3.0. `line` is the record as it lies in the log.
fn event(record: &AuditRecord, line: &str) -> Value {
    let (activity_id, activity_name) = activity(&record.operation);
    let (severity_id, severity) = match record.verdict() {
        Verdict::Denied => (3, "Medium"),
        Verdict::Failed if is_fault(&record.reason) => (4, "High"),
        Verdict::Failed => (2, "Low"),
        _ => (1, "Informational"),
    };
    let (status_id, status, status_code) = match record.verdict() {
        Verdict::Succeeded => (1, "Success", "OK"),
        _ => (2, "Failure", record.reason.as_str()),
    };
    json!({
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "API Activity",
        "activity_id": activity_id,
        "activity_name": activity_name,
        "type_uid": CLASS * 100 + activity_id,
        "type_name": format!("API Activity: {activity_name}"),
        "time": milliseconds(record),
        "duration": record.latency_us / 1000,
        "count": record.count,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "status_code": status_code,
        "metadata": {
            "version": "1.3.0",
            "product": { "name": "Dewpoint", "vendor_name": "Dewpoint" },
            "uid": record.seq.to_string(),
            "correlation_uid": record.request_id,
            "sequence": record.seq,
        },
        "actor": actor(record),
        "src_endpoint": endpoint(record),
        "api": {
            "operation": record.operation,
            "service": { "name": "kms" },
            "version": "v1",
            "request": { "uid": record.request_id },
            "response": { "code": code(record), "error": record.reason },
        },
        "resources": resources(record),
        "raw_data": line,
    })
}

/// The keys.
fn resources(record: &AuditRecord) -> Vec<Value> {
    let keys = [&record.key_id, &record.source_key_id].into_iter().filter(|id| !id.is_empty());
    keys.map(|id| json!({ "uid": id, "type": "cmk", "region": record.region })).collect()
}

/// Whether the service did it without a call.
fn is_own(record: &AuditRecord) -> bool {
    record.source.is_empty()
}

fn actor(record: &AuditRecord) -> Value {
    if is_own(record) {
        return json!({ "app_name": "dewpoint" });
    }
    let uid = if record.user.is_empty() { "unknown" } else { &record.user };
    let mut actor = json!({ "user": { "uid": uid, "account": { "uid": record.account } } });
    if !record.access_key_id.is_empty() {
        actor["user"]["credential_uid"] = record.access_key_id.clone().into();
    }
    if !record.acting_service.is_empty() {
        actor["app_name"] = record.acting_service.clone().into();
    }
    actor
}

fn endpoint(record: &AuditRecord) -> Value {
    match source(record) {
        (ip, Some(port)) => json!({ "ip": ip, "port": port }),
        _ => json!({ "svc_name": "dewpoint" }),
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs, path::Path};

    use super::*;

    fn record() -> AuditRecord {
        AuditRecord {
            seq: 7,
            line: "{}".into(),
            time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 123_456_000 }),
            request_id: "r".to_owned(),
            operation: "DecryptDataKey".to_owned(),
            trace_name: "decryptDatakey".to_owned(),
            phase: RecordPhase::Complete.into(),
            verdict: Verdict::Succeeded.into(),
            account: "acme".to_owned(),
            user: "ada".to_owned(),
            source: "[2001:db8::1]:4711".to_owned(),
            key_id: "k".to_owned(),
            latency_us: 2500,
            count: 1,
            ..AuditRecord::default()
        }
    }

    fn options(out: &Path) -> ExportOptions {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            options: ExportOptions,
        }
        let arguments = [OsStr::new("export"), OsStr::new("--out"), out.as_os_str()];
        <Command as clap::Parser>::try_parse_from(arguments).expect("options").options
    }

    #[test]
    fn records_are_on_their_way_before_the_export_goes_on_behind_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out");
        let mut out = Out::open(&options(&path)).expect("a new file");
        let intent = AuditRecord { phase: RecordPhase::Intent.into(), ..record() };
        assert_eq!(out.take(Format::Ocsf, &[record(), intent, record()]).expect("room"), 2);
        assert_eq!(fs::read_to_string(&path).expect("a file").lines().count(), 2, "before the end");
        out.finish().expect("a disk");
        assert!(Out::open(&options(&path)).is_err(), "an existing file is not replaced");
        // A disk without room.
        let full = OpenOptions::new().write(true).open("/dev/full").expect("a device");
        out.to = BufWriter::new(Box::new(full));
        assert!(matches!(out.take(Format::Jsonl, &[record()]), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_trace_has_the_fields_of_the_trace_service() {
        let trace = trace(&record());
        assert_eq!(
            (&trace["trace_name"], &trace["resource_type"]),
            (&json!("decryptDatakey"), &json!("cmk"))
        );
        assert_eq!(
            trace["user"],
            json!({"id": "ada", "name": "ada", "domain": {"id": "acme", "name": "acme"}})
        );
        assert_eq!(
            (&trace["source_ip"], &trace["time"]),
            (&json!("2001:db8::1"), &json!(1_800_000_000_123_i64))
        );
        assert_eq!((&trace["trace_rating"], &trace["code"]), (&json!("normal"), &json!("200")));
    }

    #[test]
    fn outcomes_are_rated_by_who_can_do_something_about_them() {
        for (verdict, reason, rating, code, severity) in [
            (Verdict::Denied, "PERMISSION_DENIED", "warning", "403", 3),
            (Verdict::Denied, "THROTTLED", "warning", "429", 3),
            (Verdict::Failed, "KEY_NOT_FOUND", "warning", "404", 2),
            (Verdict::Failed, "KEY_DISABLED", "warning", "400", 2),
            (Verdict::Failed, "HSM_UNAVAILABLE", "incident", "503", 4),
            (Verdict::Failed, "RECORD_TAMPERED", "incident", "500", 4),
        ] {
            let record = AuditRecord { verdict: verdict.into(), reason: reason.to_owned(), ..record() };
            let (trace, event) = (trace(&record), event(&record, "{}"));
            assert_eq!((&trace["trace_rating"], &trace["code"]), (&json!(rating), &json!(code)), "{reason}");
            assert_eq!((&event["severity_id"], &event["status_code"]), (&json!(severity), &json!(reason)));
            assert_eq!(event["status_id"], 2, "{reason}");
        }
    }

    #[test]
    fn an_event_is_of_the_class_api_activity_and_holds_the_line() {
        let event = event(&record(), "{\"seq\":7}");
        assert_eq!((&event["class_uid"], &event["type_uid"]), (&json!(6003), &json!(600_399)));
        assert_eq!((&event["raw_data"], &event["status_id"]), (&json!("{\"seq\":7}"), &json!(1)));
        assert_eq!(event["src_endpoint"], json!({"ip": "2001:db8::1", "port": 4711}));
        assert_eq!(event["actor"]["user"]["account"]["uid"], "acme");
        assert_eq!(event["resources"], json!([{"uid": "k", "type": "cmk", "region": ""}]));
    }

    #[test]
    fn the_access_key_of_a_call_is_named() {
        let record = AuditRecord { access_key_id: "AK1".to_owned(), ..record() };
        assert_eq!(trace(&record)["user"]["access_key_id"], "AK1");
        assert_eq!(event(&record, "{}")["actor"]["user"]["credential_uid"], "AK1");
    }

    #[test]
    fn what_the_service_does_by_itself_has_no_user_and_intents_are_left_to_their_outcome() {
        let own = AuditRecord {
            operation: "DestroyKey".to_owned(),
            trace_name: String::new(),
            account: String::new(),
            user: String::new(),
            source: String::new(),
            ..record()
        };
        let (trace, event) = (trace(&own), event(&own, "{}"));
        assert_eq!(
            (&trace["trace_type"], &trace["trace_name"]),
            (&json!("SystemAction"), &json!("DestroyKey"))
        );
        assert_eq!((&event["activity_id"], &event["actor"]), (&json!(4), &json!({"app_name": "dewpoint"})));
        let intent = AuditRecord { phase: RecordPhase::Intent.into(), ..own };
        for (format, is_written) in
            [(Format::Jsonl, true), (Format::Cloudtrace, false), (Format::Ocsf, false)]
        {
            let rendered = format.render(&intent).expect("a record");
            assert_eq!(rendered.is_some(), is_written, "{format:?}");
        }
    }
}
