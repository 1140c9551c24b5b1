//! How often each key version was used, and when: a sum over the log.
//!
//! The log is the truth. What it acknowledges is added up in memory, without any wait, and written to the store
//! from time to time together with the place in the log up to which it counts. What was not written when the
//! process ended is counted from the log at the next start, before the first call.

mod keeping;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{Phase, Record, Timestamp, Verdict, key::KeyId, operation::OperationName, record::Moved};

/// How many moved ciphertexts may wait to be written: more wait only if the store fails.
pub(crate) const MAX_WAITING_ITEMS: usize = 200_000;

/// How often a key version was used, successfully and on record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionUsage {
    /// Data keys that it sealed for callers: made, encrypted, or re-encrypted; key pairs and bucket keys, too.
    pub data_keys: u64,
    /// Small data that it sealed.
    pub encryptions: u64,
    /// Ciphertexts that it opened for callers, or to be sealed anew by a re-encryption.
    pub decryptions: u64,
    /// Signatures, codes and whatever else it did.
    pub others: u64,
    /// Different ciphertexts of older versions that campaigns moved under it.
    pub moved_in: u64,
    /// Different ciphertexts of it that campaigns moved under a newer version.
    pub moved_out: u64,
    /// When it was used last.
    pub last_used: Option<Timestamp>,
}

impl VersionUsage {
    /// How many ciphertexts it has sealed that somebody may hold.
    pub fn sealed(&self) -> u64 {
        self.data_keys.saturating_add(self.encryptions).saturating_add(self.moved_in)
    }

    fn add(&mut self, more: &Self) {
        self.data_keys += more.data_keys;
        self.encryptions += more.encryptions;
        self.decryptions += more.decryptions;
        self.others += more.others;
        self.moved_in += more.moved_in;
        self.moved_out += more.moved_out;
        self.last_used = self.last_used.max(more.last_used);
    }
}

/// How a key was used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// By version; those that were never used are left out.
    pub versions: BTreeMap<u32, VersionUsage>,
    /// What versions did that were made before this moment is not known completely: the log that tells of it is
    /// another deployment's, or begins later.
    pub unknown_before: Option<Timestamp>,
}

impl KeyUse {
    /// When the key was used last.
    pub fn last_used(&self) -> Option<Timestamp> {
        self.versions.values().filter_map(|version| version.last_used).max()
    }

    /// What one version did.
    pub fn version(&self, number: u32) -> VersionUsage {
        self.versions.get(&number).cloned().unwrap_or_default()
    }
}

/// What is counted of one record of the log.
#[derive(Debug, Clone)]
pub struct Use {
    /// The key.
    pub key_id: KeyId,
    /// Its version.
    pub version: u32,
    /// What it did.
    pub kind: UseKind,
    /// How often.
    pub count: u64,
    /// When.
    pub time: Timestamp,
    /// Which ciphertext was moved, where it was that.
    pub moved: Option<Moved>,
}

/// What a key version did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "as the fields of VersionUsage")]
pub enum UseKind {
    DataKey,
    Encryption,
    Decryption,
    Moving,
    Other,
}

impl UseKind {
    /// What a record with these fields counts as; `None`: it tells of no use of a key's material.
    pub fn of(
        operation: OperationName,
        phase: Phase,
        verdict: Verdict,
        reason: Option<&str>,
    ) -> Option<Self> {
        use OperationName as Name;
        // A success with a reason has made nothing.
        if phase != Phase::Complete || verdict != Verdict::Succeeded || reason.is_some() {
            return None;
        }
        match operation {
            Name::GenerateDataKey
            | Name::GenerateDataKeyWithoutPlaintext
            | Name::GenerateDataKeyPair
            | Name::GenerateBucketKey
            | Name::EncryptDataKey
            | Name::ReEncrypt => Some(Self::DataKey),
            Name::EncryptData => Some(Self::Encryption),
            Name::DecryptDataKey | Name::DecryptBucketKey | Name::DecryptData => Some(Self::Decryption),
            Name::Rewrap => Some(Self::Moving),
            Name::Sign | Name::Verify | Name::GenerateMac | Name::VerifyMac | Name::DeriveSharedSecret => {
                Some(Self::Other)
            }
            _ => None,
        }
    }
}

impl Use {
    /// What a record counts as: nothing, one use, or two.
    pub fn of(record: &Record) -> Vec<Self> {
        let kind = UseKind::of(record.operation, record.phase, record.verdict, record.reason);
        let Some(((kind, key_id), version)) = kind.zip(record.key_id).zip(record.key_version) else {
            return Vec::new();
        };
        let (count, time, moved) = (record.count, record.time, record.moved);
        let one = Self { key_id, version, kind, count, time, moved };
        one.and_opening(record.source_key_id.zip(record.source_key_version))
    }

    /// This use, and before it that of the key version which opened what was sealed anew, if there was one.
    pub fn and_opening(self, source: Option<(KeyId, u32)>) -> Vec<Self> {
        let opening = source.map(|(key_id, version)| Self {
            key_id,
            version,
            kind: UseKind::Decryption,
            moved: None,
            ..self
        });
        opening.into_iter().chain([self]).collect()
    }
}

/// What is to be added to what the store says of one key.
#[derive(Debug, Clone, Default)]
struct Delta {
    versions: BTreeMap<u32, VersionUsage>,
    /// Ciphertexts that were moved, in the order of the log: the version that sealed them, which one it was,
    /// and the version that seals them now. One may have been moved before.
    moved: Vec<(u32, u64, u32)>,
}

impl Delta {
    /// Adds what was counted after it.
    fn merge(&mut self, later: Self) {
        for (number, more) in &later.versions {
            self.versions.entry(*number).or_default().add(more);
        }
        self.moved.extend(later.moved);
    }

    /// The versions that sealed what was moved.
    fn sealing_versions(&self) -> BTreeSet<u32> {
        self.moved.iter().map(|(from, ..)| *from).collect()
    }

    fn add(&mut self, one: &Use) {
        let version = self.versions.entry(one.version).or_default();
        version.last_used = version.last_used.max(Some(one.time));
        match one.kind {
            UseKind::DataKey => version.data_keys += one.count,
            UseKind::Encryption => version.encryptions += one.count,
            UseKind::Decryption => version.decryptions += one.count,
            UseKind::Other => version.others += one.count,
            UseKind::Moving => {
                if let Some(moved) = one.moved {
                    self.moved.push((moved.from_version, u64::from_be_bytes(moved.item), one.version));
                }
            }
        }
    }
}

/// What was counted since the store was written last.
#[derive(Debug, Clone, Default)]
struct Batch {
    /// The place in the log up to which it counts: the first that it does not.
    up_to: u64,
    keys: HashMap<KeyId, Delta>,
}

#[derive(Default)]
struct State {
    waiting: Batch,
    /// What is being written. It stays here until all of it is in the store.
    writing: Option<Arc<Batch>>,
    /// Which ciphertexts of a version were moved, as the store says; read when they are needed.
    known: HashMap<(KeyId, u32), HashSet<u64>>,
    checkpoint: Checkpoint,
}

/// Adds up what the log acknowledges.
#[derive(Default)]
pub(crate) struct Usage {
    state: Mutex<State>,
    /// Moved ciphertexts that are not in the store yet.
    items: AtomicUsize,
    /// Somebody is writing.
    busy: AtomicBool,
}

/// Up to where the store counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    /// Which log it is about: each restore begins another one.
    epoch: u32,
    /// The backup that this store was made of, as the epoch began.
    origin: Option<[u8; 32]>,
    /// The first place in the log that the store does not count for every key.
    up_to: u64,
    unknown_before: Option<Timestamp>,
}

/// What the store says of one key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct StoredUse {
    epoch: u32,
    /// The first place in the log that it does not count.
    up_to: u64,
    versions: BTreeMap<u32, VersionUsage>,
    /// How many moved ciphertexts of each version are listed.
    listed: BTreeMap<u32, u64>,
}

impl Usage {
    /// Counts an acknowledged record. Called in the order of the log; costs a lock and a look-up.
    pub(crate) fn note<'a>(&self, sequence: u64, uses: impl IntoIterator<Item = &'a Use>) {
        let mut state = self.state();
        state.waiting.up_to = state.waiting.up_to.max(sequence + 1);
        for one in uses {
            if one.moved.is_some() {
                self.items.fetch_add(1, Ordering::Relaxed);
            }
            state.waiting.keys.entry(one.key_id).or_default().add(one);
        }
    }

    /// Says where the log begins: what it held before that is lost.
    fn begins_at(&self, first: u64, now: Timestamp) {
        let mut state = self.state();
        if first > state.checkpoint.up_to {
            state.checkpoint.unknown_before = Some(now);
        }
    }

    /// Whether so much waits to be written that no more should be moved.
    pub(crate) fn is_full(&self) -> bool {
        self.items.load(Ordering::Relaxed) >= MAX_WAITING_ITEMS
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written next: what could not be written before, or all that waits.
    fn take(&self) -> Option<Arc<Batch>> {
        let mut state = self.state();
        if state.writing.is_none() {
            let up_to = state.waiting.up_to;
            let idle = up_to.saturating_sub(state.checkpoint.up_to) < IDLE_RECORDS;
            if state.waiting.keys.is_empty() && idle {
                return None;
            }
            let next = Batch { up_to, keys: HashMap::new() };
            state.writing = Some(Arc::new(std::mem::replace(&mut state.waiting, next)));
        }
        state.writing.clone()
    }
}

/// How many records that count as no use are passed before the checkpoint follows them.
const IDLE_RECORDS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: UseKind) -> Use {
        Use {
            key_id: KeyId::from_uuid(uuid::Uuid::from_u128(1)),
            version: 3,
            kind,
            count: 2,
            time: Timestamp::from_micros(5),
            moved: None,
        }
    }

    #[test]
    fn a_use_counts_as_what_it_was() {
        let mut delta = Delta::default();
        for kind in
            [UseKind::DataKey, UseKind::DataKey, UseKind::Encryption, UseKind::Decryption, UseKind::Other]
        {
            delta.add(&one(kind));
        }
        let version = &delta.versions[&3];
        assert_eq!(
            (version.data_keys, version.encryptions, version.decryptions, version.others),
            (4, 2, 2, 2)
        );
        assert_eq!((version.sealed(), version.last_used), (6, Some(Timestamp::from_micros(5))));
    }

    #[test]
    fn what_failed_or_made_nothing_is_no_use() {
        let kind =
            |phase, verdict, reason| UseKind::of(OperationName::GenerateDataKey, phase, verdict, reason);
        assert_eq!(kind(Phase::Complete, Verdict::Succeeded, None), Some(UseKind::DataKey));
        assert_eq!(kind(Phase::Complete, Verdict::Succeeded, Some("EXISTED_ALREADY")), None);
        assert_eq!(kind(Phase::Complete, Verdict::Failed, Some("HSM_UNAVAILABLE")), None);
        assert_eq!(kind(Phase::Intent, Verdict::Pending, None), None);
    }
}
