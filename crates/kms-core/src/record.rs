//! What the log keeps of one operation.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

use crate::{
    Timestamp,
    bucket_key::BucketKeyId,
    grant::GrantId,
    identity::{Caller, Stranger},
    key::{KeyId, KeyOrigin, KeySpec},
    operation::{Action, OperationName},
};

/// The reason of a change that was made by somebody else, or is not to be made any more: the record stands for none.
pub const OVERTAKEN: &str = "OVERTAKEN";

/// Names one call; given to the caller and written in the log.
pub type RequestId = Uuid;

/// Which of an operation's records this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The only one: reads, uses, and whatever was refused before it changed anything.
    Complete,
    /// Before a change: what is about to be tried.
    Intent,
    /// After a change: what came of its intent.
    Outcome,
    /// Written at start: what came of an intent whose outcome a crash had swallowed.
    Recovery,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not ended yet: an intent.
    Pending,
    /// Done.
    Succeeded,
    /// Refused to this caller: identity, permission or traffic.
    Denied,
    /// Not possible: state, input, or a fault of the service.
    Failed,
}

/// A ciphertext that was moved under another version of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The version that sealed it.
    pub from_version: u32,
    /// Which one it was: the first bytes of its nonce, which tell one ciphertext of a key from another.
    pub item: [u8; 8],
}

/// What an operation has to do with a bucket key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketKeyNote {
    /// Which one it is.
    pub id: BucketKeyId,
    /// The end of its validity, where it is made.
    pub valid_until: Option<Timestamp>,
    /// How many objects hang on it, where that is reported.
    pub uses: Option<u64>,
}

/// Of what kind a key is that an operation makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeKey {
    /// Its algorithm.
    pub spec: KeySpec,
    /// Where its material comes from.
    pub origin: KeyOrigin,
}

/// One record of the log. Holds no plaintext, no ciphertext and no key bytes.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the call arrived.
    pub time: Timestamp,
    /// The call.
    pub request_id: RequestId,
    /// What was asked.
    pub operation: OperationName,
    /// Which record of the operation this is.
    pub phase: Phase,
    /// How it ended.
    pub verdict: Verdict,
    /// Who called; absent in records that the service writes by itself.
    pub caller: Option<Caller>,
    /// Where a call came from whose caller is not known.
    pub stranger: Option<Stranger>,
    /// The key, if the call named one that exists for the caller.
    pub key_id: Option<KeyId>,
    /// The key version that was used.
    pub key_version: Option<u32>,
    /// What was moved under that version, where the operation moves ciphertexts.
    pub moved: Option<Moved>,
    /// The bucket key that was made, opened, moved or reported on.
    pub bucket_key: Option<BucketKeyNote>,
    /// The stable reason of a refusal or failure; or why a success changed nothing, or why the service
    /// changed something by itself.
    pub reason: Option<&'static str>,
    /// The permission that was missing.
    pub missing_action: Option<Action>,
    /// The grant of the key that allowed the call, where the caller's permissions did not.
    pub grant_id: Option<GrantId>,
    /// What decided against the call: the statement that denies it, or how many there are that do not allow it.
    pub ruling: Option<String>,
    /// The encryption context: its keys, and each value as a keyed hash (hex).
    pub context: BTreeMap<String, String>,
    /// The key that opened what `key_id` sealed anew: of a re-encryption.
    pub source_key_id: Option<KeyId>,
    /// The version of that key which opened it: of a re-encryption.
    pub source_key_version: Option<u32>,
    /// The context of what was opened, as `context`: of a re-encryption.
    pub source_context: BTreeMap<String, String>,
    /// SHA-256 of the key record that the change left in the store.
    pub state_digest: Option<[u8; 32]>,
    /// How many lines at the beginning of the log are in its archive: of an archiving.
    pub archived_lines: Option<u64>,
    /// What kind of key is made: of each operation that makes one.
    pub made: Option<MadeKey>,
    /// From arrival to the making of this record.
    pub latency: Duration,
    /// How many calls this record stands for: more than 1 only where refusals are aggregated.
    pub count: u64,
}

/// An intent without an outcome, found in the log at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIntent {
    /// The call that meant to change something.
    pub request_id: RequestId,
    /// What it meant to do.
    pub operation: OperationName,
    /// The key that it meant to change.
    pub key_id: Option<KeyId>,
}
