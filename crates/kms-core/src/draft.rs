//! The record of an operation while the operation is under way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{
    Timestamp,
    access::Ruling,
    context::EncryptionContext,
    error::Error,
    grant::GrantId,
    identity::{Caller, Stranger},
    key::KeyId,
    operation::OperationName,
    ports::{Clock, Mac},
    quotas::Place,
    record::{BucketKeyNote, MadeKey, Moved, OVERTAKEN, Phase, Record, RequestId, Verdict},
};

/// How many bytes of a context value's keyed hash the log keeps.
const CONTEXT_HASH_BYTES: usize = 16;
/// What stands in the place of a context's key before the hash of authenticated data.
const DATA_NAME: &str = "additional_authenticated_data";

/// Hides the values of encryption contexts in the log: an operator who knows a value and may use
/// the HSM can search for it; nobody can read it back.
pub(crate) struct ContextHash(Hmac<Sha256>);

impl ContextHash {
    pub(crate) fn new(key: &Mac) -> Result<Self, Error> {
        let keyed = Hmac::new_from_slice(&key[..]);
        keyed.map(Self).map_err(|_| Error::Internal { detail: "HMAC takes keys of any length" })
    }

    fn hash(&self, key: &str, value: &str) -> String {
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX); // at most MAX_CONTEXT_BYTES
        let mac = self.0.clone().chain_update(length.to_be_bytes()).chain_update(key).chain_update(value);
        hex::encode(&mac.finalize().into_bytes()[..CONTEXT_HASH_BYTES])
    }

    /// The same of authenticated data; the number before it is no length of a key.
    fn hash_data(&self, data: &[u8]) -> String {
        let mac = self.0.clone().chain_update(u32::MAX.to_be_bytes()).chain_update(data);
        hex::encode(&mac.finalize().into_bytes()[..CONTEXT_HASH_BYTES])
    }

    /// A context as the log keeps it.
    pub(crate) fn hash_all(&self, context: &EncryptionContext) -> BTreeMap<String, String> {
        let pairs = context.pairs().iter().map(|(key, value)| (key.clone(), self.hash(key, value)));
        let data = context.authenticated_data().map(|data| (DATA_NAME.to_owned(), self.hash_data(data)));
        pairs.chain(data).collect()
    }
}

/// Collects what the record of one operation will say.
#[allow(missing_debug_implementations, reason = "passed down, never kept or shown")]
pub struct Draft {
    /// Boxed: it is long, and goes through many hands.
    record: Box<Record>,
    /// The calls that this one stands for: what each is, with its key and version.
    parts: Vec<(OperationName, KeyId, u32)>,
    /// The place that is kept for the key that the operation makes.
    pub(crate) place: Option<Place>,
    started: Duration,
    clock: Arc<dyn Clock>,
}

/// What is known of a call before its work goes to an HSM worker, draft and all.
pub(crate) struct Outline {
    time: Timestamp,
    started: Duration,
    key_id: Option<KeyId>,
    key_version: Option<u32>,
    source_key_id: Option<KeyId>,
    source_key_version: Option<u32>,
    grant_id: Option<GrantId>,
}

impl Draft {
    pub(crate) fn new(
        operation: OperationName,
        request_id: RequestId,
        caller: Option<Caller>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let record = Box::new(Record {
            time: clock.now(),
            request_id,
            operation,
            phase: Phase::Complete,
            verdict: Verdict::Succeeded,
            caller,
            stranger: None,
            key_id: None,
            key_version: None,
            moved: None,
            bucket_key: None,
            reason: None,
            missing_action: None,
            grant_id: None,
            ruling: None,
            context: BTreeMap::new(),
            source_key_id: None,
            source_key_version: None,
            source_context: BTreeMap::new(),
            state_digest: None,
            archived_lines: None,
            made: None,
            latency: Duration::ZERO,
            count: 1,
        });
        Self { record, place: None, parts: Vec::new(), started: clock.monotonic(), clock }
    }

    /// When the call arrived.
    pub(crate) fn time(&self) -> Timestamp {
        self.record.time
    }

    /// Names the key. Only for keys that exist for the caller.
    pub(crate) fn key(&mut self, id: KeyId, version: Option<u32>) {
        self.record.key_id = Some(id);
        self.record.key_version = version;
    }

    /// Names the key that is made, and its kind.
    pub(crate) fn makes(&mut self, id: KeyId, kind: MadeKey) {
        self.key(id, None);
        self.record.made = Some(kind);
    }

    /// The same of a replica; it gets the material of `source`.
    pub(crate) fn makes_replica(&mut self, id: KeyId, kind: MadeKey, source: KeyId) {
        self.makes(id, kind);
        self.record.source_key_id = Some(source);
    }

    /// The id that an earlier attempt of the same call named for the replica that it makes.
    pub(crate) fn replica_id(&self) -> Option<KeyId> {
        self.record.source_key_id.and(self.record.key_id)
    }

    /// Says that a grant of the key that is named next allows the call.
    pub(crate) fn admitted_by(&mut self, grant: GrantId) {
        self.record.grant_id = Some(grant);
        self.record.ruling = None;
    }

    /// Says what was considered before the call was refused.
    pub(crate) fn ruling(&mut self, ruling: &Ruling) {
        self.record.ruling = match ruling {
            Ruling::Denied(statement) => Some(format!("denied by {statement}")),
            Ruling::NotAllowed { statements, grants } => {
                Some(format!("allowed by none of {statements} statements and {grants} grants"))
            }
            Ruling::AllowedByPolicy(_) | Ruling::AllowedByGrant(_) => None,
        };
    }

    /// Whether a grant allows the call.
    pub(crate) fn is_admitted(&self) -> bool {
        self.record.grant_id.is_some()
    }

    /// What a second draft of the same call needs to know of this one.
    pub(crate) fn outline(&self) -> Outline {
        Outline {
            time: self.record.time,
            started: self.started,
            key_id: self.record.key_id,
            key_version: self.record.key_version,
            source_key_id: self.record.source_key_id,
            grant_id: self.record.grant_id,
            source_key_version: self.record.source_key_version,
        }
    }

    /// Begins where the call began.
    pub(crate) fn resume(&mut self, outline: &Outline) {
        self.record.time = outline.time;
        self.started = outline.started;
        self.record.key_id = outline.key_id;
        self.record.key_version = outline.key_version;
        self.record.source_key_id = outline.source_key_id;
        self.record.grant_id = outline.grant_id;
        self.record.source_key_version = outline.source_key_version;
    }

    /// The key that was named last.
    pub(crate) fn key_id(&self) -> Option<KeyId> {
        self.record.key_id
    }

    /// Says where a call came from whose caller is not known.
    pub(crate) fn stranger(&mut self, stranger: Stranger) {
        self.record.stranger = Some(stranger);
    }

    /// Says that the call made nothing, because what it asked for existed.
    pub(crate) fn existed(&mut self) {
        self.record.reason = Some("EXISTED_ALREADY");
    }

    /// Says that the call made nothing, because another one made it unnecessary.
    pub(crate) fn overtaken(&mut self) {
        self.record.reason = Some(OVERTAKEN);
    }

    /// Says why the service makes a change by itself.
    pub(crate) fn cause(&mut self, cause: &'static str) {
        self.record.reason = Some(cause);
    }

    /// Says which ciphertext is moved.
    pub(crate) fn moved(&mut self, moved: Moved) {
        self.record.moved = Some(moved);
    }

    /// Says which bucket key the call is about.
    pub(crate) fn bucket_key(&mut self, note: BucketKeyNote) {
        self.record.bucket_key = Some(note);
    }

    /// Says whether the key that has a place may be committed from now on.
    pub(crate) fn committing(&mut self, committing: bool) {
        if let Some(place) = &mut self.place {
            place.committing(committing);
        }
    }

    pub(crate) fn state_digest(&mut self, digest: [u8; 32]) {
        self.record.state_digest = Some(digest);
    }

    /// Says how many lines of the log are in its archive.
    pub(crate) fn archived(&mut self, lines: u64) {
        self.record.archived_lines = Some(lines);
    }

    pub(crate) fn hash_context(&mut self, hash: &ContextHash, context: &EncryptionContext) {
        self.record.context = hash.hash_all(context);
    }

    /// The same of the context of what is opened to be sealed anew.
    pub(crate) fn hash_source_context(&mut self, hash: &ContextHash, context: &EncryptionContext) {
        self.record.source_context = hash.hash_all(context);
    }

    /// The key that was named last is the one that opens; the one that seals is still to be named.
    pub(crate) fn key_opens(&mut self) {
        self.record.source_key_id = self.record.key_id.take();
        self.record.key_version = None;
    }

    /// Names the version that opens: one that the key which opens has.
    pub(crate) fn version_opens(&mut self, version: u32) {
        self.record.source_key_version = Some(version);
    }

    /// Says that the call stands for one of `operation` more, which gets a record of its own.
    pub(crate) fn part(&mut self, operation: OperationName, key: KeyId, version: u32) {
        self.parts.push((operation, key, version));
    }

    /// Whether the call stands for others.
    pub(crate) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The records of the calls that it stands for, then its own; `name` gives the id of each.
    pub(crate) fn into_records(
        mut self,
        phase: Phase,
        name: impl Fn(RequestId, usize) -> RequestId,
    ) -> Vec<Record> {
        let parts = std::mem::take(&mut self.parts);
        let own = self.into_record(phase);
        let parts = parts.into_iter().enumerate().map(|(number, (operation, key, version))| Record {
            request_id: name(own.request_id, number),
            operation,
            key_id: Some(key),
            key_version: Some(version),
            ..own.clone()
        });
        let mut records: Vec<Record> = parts.collect();
        records.push(own);
        records
    }

    pub(crate) fn error(&mut self, error: &Error) {
        self.record.verdict = error.verdict();
        self.record.reason = Some(error.code());
        if let Error::PermissionDenied { missing, .. } = error {
            self.record.missing_action = Some(*missing);
        }
    }

    /// The record that says what is about to be tried.
    pub(crate) fn intent(&self) -> Record {
        let latency = self.latency();
        Record { phase: Phase::Intent, verdict: Verdict::Pending, latency, ..(*self.record).clone() }
    }

    pub(crate) fn into_record(mut self, phase: Phase) -> Record {
        self.record.latency = self.latency();
        self.record.phase = phase;
        *self.record
    }

    fn latency(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }
}
