//! Campaigns: what older versions of a key sealed is moved under a newer one, and is counted as it goes.

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    identity::UserId,
    key::{KeyId, KeyRecord, KeyVersion},
    usage::KeyUse,
};

/// A campaign: one for each key and version at the most. How far it has come is counted from the log
/// ([`usage`](crate::usage)), so it goes on after any interruption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// Of which key.
    pub key_id: KeyId,
    /// The version that everything older is moved under.
    pub target: u32,
    /// When it was begun.
    pub started: Timestamp,
    /// Who began it.
    pub started_by: UserId,
}

/// What is known of one old version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionProgress {
    /// Which one.
    pub number: u32,
    /// How many ciphertexts it has sealed.
    pub sealed: u64,
    /// How many different ones of them were moved.
    pub moved: u64,
    /// Whether the log knows all that it sealed. Never of a key that shares its material with other regions.
    pub is_known: bool,
}

impl VersionProgress {
    pub(crate) fn of(record: &KeyRecord, version: &KeyVersion, usage: &KeyUse) -> Self {
        let used = usage.version(version.number);
        // What other keys sealed with the same version, or moved, is not told apart.
        let is_known = record.replication.is_none()
            && usage.unknown_before.is_none_or(|moment| version.created > moment);
        Self { number: version.number, sealed: used.sealed(), moved: used.moved_out, is_known }
    }

    /// How many ciphertexts may still need it, as far as is known.
    pub fn left(&self) -> u64 {
        self.sealed.saturating_sub(self.moved)
    }

    /// The gate: everything that it sealed is known, and was moved.
    pub fn is_open(&self) -> bool {
        self.is_known && self.moved == self.sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_only_when_all_is_known_and_moved() {
        let progress = VersionProgress { number: 1, sealed: 3, moved: 3, is_known: true };
        assert!(progress.is_open());
        assert!(!VersionProgress { moved: 2, ..progress }.is_open());
        assert!(!VersionProgress { moved: 4, ..progress }.is_open(), "more was moved than is known of");
        assert!(!VersionProgress { is_known: false, ..progress }.is_open());
        assert_eq!(VersionProgress { moved: 1, ..progress }.left(), 2);
    }
}
