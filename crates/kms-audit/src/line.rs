//! The lines of the log: one canonical JSON object each, a segment's header or a record.

use std::{borrow::Cow, collections::BTreeMap, io::Write, net::SocketAddr};

use kms_core::{
    OpenIntent, Phase, Record, RequestId, Timestamp, Verdict,
    identity::Credential,
    key::{KeyId, KeyOrigin, KeySpec},
    operation::OperationName,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::fields;

/// The version of the line format, in the field `v` of every line.
pub const FORMAT_VERSION: u32 = 1;

/// What only a header begins with, since keys are sorted.
const HEADER_START: &[u8] = br#"{"open_intents":"#;

/// A record as it lies in the log.
///
/// The fields are declared in the order in which RFC 8785 sorts their names; absent ones are left
/// out of the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordLine<'a> {
    /// The access key that signed the request; of an unknown caller, the one that it claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<Cow<'a, str>>,
    /// The caller's account; absent, like all that follows from the caller, where the service
    /// wrote by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Cow<'a, str>>,
    /// The service that called for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acting_service: Option<Cow<'a, str>>,
    /// The permission that the operation needs.
    pub action: Cow<'a, str>,
    /// How many lines at the beginning of the log are in its archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_lines: Option<u64>,
    /// The bucket key that was made, opened, moved or reported on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket_key: Option<Uuid>,
    /// SHA-256 of the client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::digest")]
    pub certificate: Option<[u8; 32]>,
    /// The encryption context: each value is a keyed hash in hex.
    #[serde(default, skip_serializing_if = "context_is_empty", serialize_with = "fields::context")]
    pub context: Cow<'a, BTreeMap<String, String>>,
    /// How many calls the record stands for.
    pub count: u64,
    /// The version that sealed the ciphertext which was moved under `key_version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_version: Option<u32>,
    /// The grant that allowed the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<Cow<'a, str>>,
    /// Which ciphertext was moved.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::item")]
    pub item: Option<[u8; 8]>,
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// Of a key that is made: where its material comes from.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::named_if_any")]
    pub key_origin: Option<KeyOrigin>,
    /// Of a key that is made: its algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::named_if_any")]
    pub key_spec: Option<KeySpec>,
    /// The key version that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<u32>,
    /// From arrival to the making of the record, in microseconds.
    pub latency_us: u64,
    /// The permission that was missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_action: Option<Cow<'a, str>>,
    /// The operation.
    #[serde(with = "fields::named")]
    pub operation: OperationName,
    /// Of a log-in that was refused: the user whose password was to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_of: Option<Cow<'a, str>>,
    /// Which record of the operation this is.
    #[serde(with = "fields::named")]
    pub phase: Phase,
    /// The caller's project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Cow<'a, str>>,
    /// The stable reason of a refusal or failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// The project's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Cow<'a, str>>,
    /// The call.
    pub request_id: RequestId,
    /// What decided against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruling: Option<Cow<'a, str>>,
    /// The line's place in the log, over all segments, counted from 0.
    pub seq: u64,
    /// Address and port that the call came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SocketAddr>,
    /// Of a re-encryption: the context of what was opened, as `context`.
    #[serde(default, skip_serializing_if = "context_is_empty", serialize_with = "fields::context")]
    pub source_context: Cow<'a, BTreeMap<String, String>>,
    /// Of a re-encryption: the key that opened what `key_id` sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_key_id: Option<KeyId>,
    /// Of a re-encryption: the version that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_key_version: Option<u32>,
    /// SHA-256 of the key record that a change left in the store.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::digest")]
    pub state_digest: Option<[u8; 32]>,
    /// When the call arrived.
    #[serde(with = "fields::moment")]
    pub time: Timestamp,
    /// When the token was issued that the call was made with.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::optional_moment")]
    pub token_issued: Option<Timestamp>,
    /// DEW's name of the operation in its traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_name: Option<Cow<'a, str>>,
    /// The caller's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Cow<'a, str>>,
    /// How many objects hang on the bucket key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
    /// The format version.
    pub v: u32,
    /// The end of the validity of a bucket key that was made.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::optional_moment")]
    pub valid_until: Option<Timestamp>,
    /// How the operation ended.
    #[serde(with = "fields::named")]
    pub verdict: Verdict,
}

#[expect(clippy::ptr_arg, reason = "the signature that serde calls")]
fn context_is_empty(context: &Cow<'_, BTreeMap<String, String>>) -> bool {
    context.is_empty()
}

impl<'a> RecordLine<'a> {
    /// The line of `record` at the place `sequence`.
    pub fn new(sequence: u64, record: &'a Record) -> Self {
        let info = record.operation.info();
        let caller = record.caller.as_ref();
        let stranger = record.stranger.as_ref();
        let credential = match (caller, stranger) {
            (Some(caller), _) => Some(&caller.credential),
            (None, stranger) => stranger.and_then(|stranger| stranger.credential.as_ref()),
        };
        let shown = credential.map(Shown::of).unwrap_or_default();
        Self {
            access_key_id: shown.access_key_id,
            account: caller.map(|caller| caller.account.as_str().into()),
            acting_service: caller.and_then(|caller| Some(caller.acting_service.as_ref()?.as_str().into())),
            action: info.action.name().into(),
            archived_lines: record.archived_lines,
            bucket_key: record.bucket_key.map(|note| note.id.as_uuid()),
            certificate: shown.certificate,
            context: Cow::Borrowed(&record.context),
            count: record.count,
            from_version: record.moved.map(|moved| moved.from_version),
            grant_id: record.grant_id.map(|id| id.to_string().into()),
            item: record.moved.map(|moved| moved.item),
            key_id: record.key_id,
            key_origin: record.made.map(|made| made.origin),
            key_spec: record.made.map(|made| made.spec),
            key_version: record.key_version,
            latency_us: u64::try_from(record.latency.as_micros()).unwrap_or(u64::MAX),
            missing_action: record.missing_action.map(|action| action.name().into()),
            operation: record.operation,
            password_of: shown.password_of,
            phase: record.phase,
            project: caller.map(|caller| caller.project.as_str().into()),
            reason: record.reason.map(Cow::Borrowed),
            region: caller.map(|caller| caller.region.as_str().into()),
            request_id: record.request_id,
            ruling: record.ruling.as_deref().map(Into::into),
            seq: sequence,
            source: caller.map(|caller| caller.source).or(stranger.map(|one| one.source)),
            source_context: Cow::Borrowed(&record.source_context),
            source_key_id: record.source_key_id,
            source_key_version: record.source_key_version,
            state_digest: record.state_digest,
            time: record.time,
            token_issued: shown.token_issued,
            trace_name: info.trace_name.map(Cow::Borrowed),
            user: caller.map(|caller| caller.user.as_str().into()),
            uses: record.bucket_key.and_then(|note| note.uses),
            v: FORMAT_VERSION,
            valid_until: record.bucket_key.and_then(|note| note.valid_until),
            verdict: record.verdict,
        }
    }
}

/// The members that tell what showed who called: one of them, at the most.
#[derive(Default)]
struct Shown<'a> {
    access_key_id: Option<Cow<'a, str>>,
    certificate: Option<[u8; 32]>,
    password_of: Option<Cow<'a, str>>,
    token_issued: Option<Timestamp>,
}

impl<'a> Shown<'a> {
    fn of(credential: &'a Credential) -> Self {
        let none = Self::default();
        match credential {
            Credential::AccessKey(id) => Self { access_key_id: Some(id.as_str().into()), ..none },
            Credential::Certificate(digest) => Self { certificate: Some(*digest), ..none },
            Credential::Password(user) => Self { password_of: Some(user.as_str().into()), ..none },
            Credential::Token { issued } => Self { token_issued: Some(*issued), ..none },
        }
    }
}

/// An intent without outcome, as a header lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntentEntry {
    /// The key that the call meant to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// What it meant to do.
    #[serde(with = "fields::named")]
    pub operation: OperationName,
    /// The call.
    pub request_id: RequestId,
}

impl From<&OpenIntent> for IntentEntry {
    fn from(intent: &OpenIntent) -> Self {
        Self { key_id: intent.key_id, operation: intent.operation, request_id: intent.request_id }
    }
}

impl From<&IntentEntry> for OpenIntent {
    fn from(entry: &IntentEntry) -> Self {
        Self { request_id: entry.request_id, operation: entry.operation, key_id: entry.key_id }
    }
}

/// The first line of a segment: ties it to the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentHeader {
    /// The intents that had no outcome when the segment began, by request id.
    pub open_intents: Vec<IntentEntry>,
    /// SHA-256 of the last line of the segment before; absent in the first segment.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::digest")]
    pub previous: Option<[u8; 32]>,
    /// The line's place in the log: a header counts like every line.
    pub seq: u64,
    /// Always `segment`.
    pub r#type: HeaderType,
    /// The format version.
    pub v: u32,
}

/// The type of a line that is not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderType {
    /// Begins a segment.
    Segment,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Begins a segment.
    Header(SegmentHeader),
    /// Tells of an operation.
    Record(Box<RecordLine<'static>>),
}

/// Why bytes are no line of the log.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, not UTF-8, or not the fields of a line.
    #[error("malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A version that this reader does not know.
    #[error("format version {0} is not known")]
    Version(u32),
    /// The same content is written in other bytes than the format demands.
    #[error("not in canonical form")]
    NotCanonical,
}

impl Line {
    /// Reads one line, given without its newline; its bytes must be the canonical ones.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let line = if bytes.starts_with(HEADER_START) {
            serde_json::from_slice(bytes).map(Self::Header)
        } else {
            serde_json::from_slice(bytes).map(|record| Self::Record(Box::new(record)))
        };
        let line = line.map_err(|error| explain(bytes, error))?;
        if line.version() != FORMAT_VERSION {
            return Err(ParseError::Version(line.version()));
        }
        let mut canonical = Vec::with_capacity(bytes.len());
        line.write(&mut canonical)?;
        if canonical == bytes { Ok(line) } else { Err(ParseError::NotCanonical) }
    }

    /// The line's place in the log.
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Header(header) => header.seq,
            Self::Record(record) => record.seq,
        }
    }

    fn version(&self) -> u32 {
        match self {
            Self::Header(header) => header.v,
            Self::Record(record) => record.v,
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match self {
            Self::Header(header) => serde_json::to_writer(out, header),
            Self::Record(record) => serde_json::to_writer(out, record),
        }
    }
}

/// Tells a line of another version from a broken one.
fn explain(bytes: &[u8], error: serde_json::Error) -> ParseError {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(Versioned { v }) if v != FORMAT_VERSION => ParseError::Version(v),
        _ => ParseError::Malformed(error),
    }
}

/// Appends the line of `value` and its newline to `out`.
pub(crate) fn push_line<T: Serialize>(out: &mut Vec<u8>, value: &T) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// SHA-256 of a line without its newline: what the next segment's header names.
pub(crate) fn hash(line: &[u8]) -> [u8; 32] {
    Sha256::digest(line).into()
}
