//! `dewctl audit`: records of the service's log.

mod export;
mod proof;
mod verify;

use std::{io::Write as _, time::Duration};

use kms_client::{
    Client, Error,
    proto::{
        AuditRecord, QueryRecordsRequest, QueryRecordsResponse, RecordFilter, RecordOrder,
        StreamRecordsRequest, Verdict,
    },
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::sleep;

use crate::{
    connection::ConnectionOptions,
    input::ContextOptions,
    key::name,
    output::{Failure, moment, print, show_all},
};
use export::ExportOptions;

/// The most records of a page.
const PAGE: u32 = 1000;
/// How long `tail -f` waits before it goes on with a stream that broke off.
const PAUSE: Duration = Duration::from_secs(1);
/// What a table shows of records.
const COLUMNS: [&str; 8] = ["seq", "time", "account", "user", "operation", "key_id", "verdict", "reason"];

/// What to do about the audit log.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditCommand {
    /// The newest records, and with -f those that follow
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u32,
        /// Go on with the records that are still to come, also over restarts of the service
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        reader: ReaderOptions,
    },
    /// Find records, newest first
    Query {
        /// The most records to find
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// The other way, from the beginning of the log
        #[arg(long)]
        oldest_first: bool,
        #[command(flatten)]
        reader: ReaderOptions,
    },
    /// Write records in a form that other systems take: one JSON object a line
    ///
    /// docs/audit-export.md explains the forms. If it breaks off it says where: --from-seq goes on there.
    Export(ExportOptions),
    /// Check the whole log from its files alone: signatures, tree, every record, order, gaps
    ///
    /// Names the first bad record by file, byte and line, and ends with 1. Needs neither the service nor its HSM.
    /// docs/audit-verify.md tells of a program of another make that does the same.
    Verify(verify::VerifyOptions),
    /// Print the newest checkpoint, to be kept where whoever can write the log cannot
    Checkpoint(proof::Asked),
    /// Prove that a line is in the log that the newest checkpoint covers
    Prove(proof::ProveOptions),
    /// Prove that the log continues what a kept checkpoint covers
    ProveGrowth(proof::GrowthOptions),
}

/// Who reads, and what to look for.
#[derive(Debug, clap::Args)]
pub(crate) struct ReaderOptions {
    /// With --dev-json: as the operator, who sees the records of all accounts
    #[arg(long)]
    operator: bool,
    /// Only calls that arrived at this time (RFC 3339) or later
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<OffsetDateTime>,
    /// Only calls that arrived before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<OffsetDateTime>,
    /// Only what was done with this key; of an own key, whoever did it
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    key_id: String,
    /// Only calls of this account
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    account_id: String,
    /// Only calls of this user or operator
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    user_id: String,
    /// Only this operation, as DecryptDataKey
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    operation: String,
    /// Only calls that ended so
    #[arg(long, value_name = "VERDICT")]
    verdict: Option<Ending>,
    /// Only what was refused or failed for this reason, as KEY_DISABLED
    #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
    reason: String,
    /// Only this call
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
    #[command(flatten)]
    context: ContextOptions,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Ending {
    Pending,
    Succeeded,
    Denied,
    Failed,
}

pub(crate) fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string())
}

fn timestamp(time: OffsetDateTime) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.nanosecond()).unwrap_or(0); // below 10^9
    prost_types::Timestamp { seconds: time.unix_timestamp(), nanos }
}

impl ReaderOptions {
    async fn connect(&self, connection: &ConnectionOptions) -> Result<Client, Failure> {
        if self.operator { connection.operator().await } else { connection.user().await }
    }

    fn filter(&self) -> Result<RecordFilter, Failure> {
        let verdict = match self.verdict {
            None => Verdict::Unspecified,
            Some(Ending::Pending) => Verdict::Pending,
            Some(Ending::Succeeded) => Verdict::Succeeded,
            Some(Ending::Denied) => Verdict::Denied,
            Some(Ending::Failed) => Verdict::Failed,
        };
        Ok(RecordFilter {
            from: self.from.map(timestamp),
            until: self.until.map(timestamp),
            key_id: self.key_id.clone(),
            account: self.account_id.clone(),
            user: self.user_id.clone(),
            operation: self.operation.clone(),
            verdict: verdict.into(),
            reason: self.reason.clone(),
            request_id: self.request_id.clone(),
            encryption_context: self.context.pairs()?,
            additional_authenticated_data: self.context.aad()?.into(),
        })
    }
}

/// Runs one of them.
pub(crate) async fn run(
    command: &AuditCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    match command {
        AuditCommand::Tail { lines, follow, reader } => {
            let (client, filter) = (reader.connect(connection).await?, reader.filter()?);
            let (mut newest, end) = find(&client, &filter, RecordOrder::NewestFirst, *lines).await?;
            newest.reverse();
            print_each(&newest, as_json)?;
            if *follow { tail(&client, &filter, end, as_json).await } else { Ok(()) }
        }
        AuditCommand::Query { limit, oldest_first, reader } => {
            let (client, filter) = (reader.connect(connection).await?, reader.filter()?);
            let order = if *oldest_first { RecordOrder::OldestFirst } else { RecordOrder::NewestFirst };
            let (records, _) = find(&client, &filter, order, *limit).await?;
            let records =
                records.iter().map(|record| shown(record, as_json)).collect::<Result<Vec<_>, _>>()?;
            show_all(&records, &COLUMNS, as_json)
        }
        AuditCommand::Export(options) => export::run(options, connection).await,
        AuditCommand::Verify(options) => verify::run(options, as_json),
        AuditCommand::Checkpoint(asked) => proof::checkpoint(asked, connection).await,
        AuditCommand::Prove(options) => proof::prove(options, connection, as_json).await,
        AuditCommand::ProveGrowth(options) => proof::prove_growth(options, connection, as_json).await,
    }
}

/// Up to `limit` records, and the place behind the last line that the log had at first.
async fn find(
    client: &Client,
    filter: &RecordFilter,
    order: RecordOrder,
    limit: u32,
) -> Result<(Vec<AuditRecord>, u64), Failure> {
    let (mut found, mut page_token, mut end) = (Vec::new(), String::new(), None);
    loop {
        let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        // 0 would stand for a size of the service's choice.
        let page_size = left.clamp(1, PAGE);
        let filter = Some(filter.clone());
        let request = QueryRecordsRequest { filter, order: order.into(), page_size, page_token };
        let QueryRecordsResponse { records, next_page_token, end_seq } =
            client.query_records(request).await?;
        found.extend(records);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let end = *end.get_or_insert(end_seq);
        if next_page_token.is_empty() || found.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return Ok((found, end));
        }
        page_token = next_page_token;
    }
}

/// Prints what comes from `next` on, for ever.
async fn tail(client: &Client, filter: &RecordFilter, mut next: u64, as_json: bool) -> Result<(), Failure> {
    loop {
        let request =
            StreamRecordsRequest { filter: Some(filter.clone()), from_seq: Some(next), follow: true };
        match client.stream_records(request).await {
            Ok(mut stream) => loop {
                match stream.next().await {
                    Ok(Some(message)) => {
                        print_each(&message.records, as_json)?;
                        next = message.next_seq;
                    }
                    Ok(None) => break,
                    Err(error) if may_come_back(&error) => break,
                    Err(error) => return Err(error.into()),
                }
            },
            Err(error) if may_come_back(&error) => {}
            Err(error) => return Err(error.into()),
        }
        sleep(PAUSE).await;
    }
}

/// Whether the service is away, and not of another opinion.
fn may_come_back(error: &Error) -> bool {
    match error {
        Error::Transport { .. } | Error::Deadline => true,
        error => error.refusal().is_some_and(|refusal| refusal.code == kms_client::Code::Unavailable),
    }
}

/// Prints records one by one, as they come: a line each.
fn print_each(records: &[AuditRecord], as_json: bool) -> Result<(), Failure> {
    for record in records {
        if as_json {
            print(&line(record)?)?;
        } else {
            let shown = shown(record, false)?;
            let text = |column: &str| match &shown[column] {
                Value::String(text) if !text.is_empty() => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => "-".to_owned(),
            };
            print(&COLUMNS.map(text).join("  "))?;
        }
    }
    // Whoever reads from a pipe shall see them now.
    std::io::stdout().flush().map_err(|error| Failure::Usage(format!("stdout: {error}")))
}

/// A record as it is shown: all of its line, or what a table tells.
fn shown(record: &AuditRecord, as_json: bool) -> Result<Value, Failure> {
    if as_json {
        return parsed(record);
    }
    Ok(json!({
        "seq": record.seq,
        "time": moment(record.time.as_ref().map(|time| (time.seconds, time.nanos))),
        "account": record.account,
        "user": record.user,
        "operation": record.operation,
        "key_id": record.key_id,
        "verdict": name(record.verdict().as_str_name(), "VERDICT_"),
        "reason": record.reason,
    }))
}

/// The canonical line.
fn line(record: &AuditRecord) -> Result<String, Failure> {
    let line = String::from_utf8(record.line.to_vec());
    line.map_err(|_| Error::InvalidAnswer("a line of the log is no text").into())
}

fn parsed(record: &AuditRecord) -> Result<Value, Failure> {
    let parsed = serde_json::from_slice(&record.line);
    parsed.map_err(|_| Error::InvalidAnswer("a line of the log is no JSON").into())
}
