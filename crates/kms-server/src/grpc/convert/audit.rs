//! Conversions of what reads the log.

use kms_audit::{Entry, Line, RecordLine};
use kms_core::{
    Error, Phase, RequestId, Verdict,
    error::Field,
    identity::{AccountId, UserId},
    key::{KeyId, KeyOrigin, KeySpec},
    operation::OperationName,
    reading::RecordFilter,
};
use kms_proto::v1;

use super::{either, moment, time};

/// No reason is longer.
const MAX_REASON: usize = 64;

pub(crate) fn filter(filter: Option<v1::RecordFilter>) -> Result<RecordFilter, Error> {
    let filter = filter.unwrap_or_default();
    let has_context =
        !filter.encryption_context.is_empty() || !filter.additional_authenticated_data.is_empty();
    let context = either(filter.encryption_context, &filter.additional_authenticated_data)?;
    Ok(RecordFilter {
        from: moment(Field::From, filter.from)?,
        until: moment(Field::Until, filter.until)?,
        key_id: given(&filter.key_id).map(str::parse::<KeyId>).transpose()?,
        account: parsed(&filter.account, Field::Account, "must be the id of an account", AccountId::parse)?,
        user: parsed(
            &filter.user,
            Field::User,
            "must be the id of a user or the name of an operator",
            UserId::parse,
        )?,
        operation: parsed(
            &filter.operation,
            Field::Operation,
            "must be the name of an operation",
            operation,
        )?,
        verdict: verdict(filter.verdict)?,
        reason: parsed(&filter.reason, Field::Reason, "must be a reason, as KEY_DISABLED", reason)?,
        request_id: parsed(&filter.request_id, Field::RequestId, "must be a UUID", |id| {
            RequestId::parse_str(id).ok()
        })?,
        context: Some(context).filter(|_| has_context),
    })
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// What a field means, if it is given.
fn parsed<T>(
    text: &str,
    field: Field,
    problem: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    let Some(text) = given(text) else { return Ok(None) };
    parse(text).map(Some).ok_or(Error::invalid(field, problem))
}

fn operation(name: &str) -> Option<OperationName> {
    OperationName::ALL.iter().copied().find(|operation| operation.info().name == name)
}

fn reason(text: &str) -> Option<String> {
    let is_one = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (text.len() <= MAX_REASON && text.bytes().all(is_one)).then(|| text.to_owned())
}

fn verdict(number: i32) -> Result<Option<Verdict>, Error> {
    match v1::Verdict::try_from(number) {
        Ok(v1::Verdict::Unspecified) => Ok(None),
        Ok(v1::Verdict::Pending) => Ok(Some(Verdict::Pending)),
        Ok(v1::Verdict::Succeeded) => Ok(Some(Verdict::Succeeded)),
        Ok(v1::Verdict::Denied) => Ok(Some(Verdict::Denied)),
        Ok(v1::Verdict::Failed) => Ok(Some(Verdict::Failed)),
        Err(_) => Err(Error::invalid(Field::Verdict, "must be a verdict of the contract")),
    }
}

/// The records among some lines.
pub(crate) fn records(entries: Vec<Entry>) -> Vec<v1::AuditRecord> {
    let records = entries.into_iter().filter_map(|Entry { bytes, line, .. }| match line {
        Line::Record(line) => Some(record(*line, bytes)),
        Line::Header(_) => None,
    });
    records.collect()
}

fn record(line: RecordLine<'_>, bytes: Vec<u8>) -> v1::AuditRecord {
    let text = |member: Option<std::borrow::Cow<'_, str>>| member.unwrap_or_default().into_owned();
    let key = |id: Option<KeyId>| id.map(|id| id.to_string()).unwrap_or_default();
    let (origin, spec) = (line.key_origin.map(KeyOrigin::name), line.key_spec.map(KeySpec::name));
    v1::AuditRecord {
        seq: line.seq,
        line: bytes.into(),
        time: Some(time(line.time)),
        request_id: line.request_id.to_string(),
        operation: line.operation.info().name.to_owned(),
        action: line.action.into_owned(),
        trace_name: text(line.trace_name),
        phase: phase(line.phase).into(),
        verdict: ending(line.verdict).into(),
        reason: text(line.reason),
        missing_action: text(line.missing_action),
        ruling: text(line.ruling),
        grant_id: text(line.grant_id),
        account: text(line.account),
        user: text(line.user),
        project: text(line.project),
        region: text(line.region),
        acting_service: text(line.acting_service),
        certificate: line.certificate.map(|digest| digest.to_vec().into()).unwrap_or_default(),
        source: line.source.map(|source| source.to_string()).unwrap_or_default(),
        key_id: key(line.key_id),
        key_version: line.key_version,
        source_key_id: key(line.source_key_id),
        source_key_version: line.source_key_version,
        from_version: line.from_version,
        item: line.item.map(|item| item.to_vec().into()).unwrap_or_default(),
        context: line.context.into_owned().into_iter().collect(),
        source_context: line.source_context.into_owned().into_iter().collect(),
        state_digest: line.state_digest.map(|digest| digest.to_vec().into()).unwrap_or_default(),
        latency_us: line.latency_us,
        count: line.count,
        v: line.v,
        archived_lines: line.archived_lines,
        key_origin: origin.unwrap_or_default().to_owned(),
        key_spec: spec.unwrap_or_default().to_owned(),
        access_key_id: text(line.access_key_id),
        token_issued: line.token_issued.map(time),
        password_of: text(line.password_of),
        bucket_key: line.bucket_key.map(|id| id.to_string()).unwrap_or_default(),
        valid_until: line.valid_until.map(time),
        uses: line.uses,
    }
}

fn phase(phase: Phase) -> v1::RecordPhase {
    match phase {
        Phase::Complete => v1::RecordPhase::Complete,
        Phase::Intent => v1::RecordPhase::Intent,
        Phase::Outcome => v1::RecordPhase::Outcome,
        Phase::Recovery => v1::RecordPhase::Recovery,
    }
}

fn ending(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Pending => v1::Verdict::Pending,
        Verdict::Succeeded => v1::Verdict::Succeeded,
        Verdict::Denied => v1::Verdict::Denied,
        Verdict::Failed => v1::Verdict::Failed,
    }
}
