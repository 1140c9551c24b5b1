//! What falls due for keys, and when: a function of their records.
//!
//! The store keeps an entry for each thing that falls due, in the order of time, so that the scheduler finds it
//! without looking at every key. The entries follow from the record alone, and [`Directory::put_key`] writes both in
//! one transaction: no operation names an entry, so none can forget one.
//!
//! [`Directory::put_key`]: crate::directory::Directory::put_key

use std::collections::BTreeSet;

use crate::{
    Timestamp,
    error::Error,
    key::{KeyId, KeyRecord, KeyState},
    ports::StoreKey,
};

/// All entries lie under this prefix.
pub(crate) const DUE_PREFIX: &[u8] = b"s/";

/// What falls due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Due {
    /// The deletion of a key.
    Deletion = 1,
    /// The next rotation of a key.
    Rotation = 2,
    /// The deletion of imported material.
    MaterialExpiry = 3,
}

impl Due {
    const ALL: [Self; 3] = [Self::Deletion, Self::Rotation, Self::MaterialExpiry];
}

/// One thing that falls due for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueEntry {
    at: Timestamp,
    kind: Due,
    key_id: KeyId,
}

impl DueEntry {
    pub(crate) fn new(at: Timestamp, kind: Due, key_id: KeyId) -> Self {
        Self { at: at.max(Timestamp::from_micros(0)), kind, key_id } // before 1970: at once
    }

    /// When it falls due.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// For which key.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    pub(crate) fn kind(&self) -> Due {
        self.kind
    }

    /// Where the store keeps it: rising with the time.
    pub(crate) fn path(&self) -> StoreKey {
        let micros = self.at.as_micros().to_be_bytes(); // never negative, so they sort
        [DUE_PREFIX, &micros, &[self.kind as u8], self.key_id.as_bytes()].concat()
    }

    /// What the store keeps under `path`.
    pub(crate) fn parse(path: &[u8]) -> Result<Self, Error> {
        let parse = || {
            let (micros, rest) = path.strip_prefix(DUE_PREFIX)?.split_first_chunk::<8>()?;
            let at = Timestamp::from_micros(i64::from_be_bytes(*micros));
            let (kind, id) = rest.split_first()?;
            let kind = Due::ALL.into_iter().find(|known| *known as u8 == *kind)?;
            let id = uuid::Uuid::from_slice(id).ok()?;
            Some(Self::new(at, kind, KeyId::from_uuid(id)))
        };
        let unknown = || "an entry of what falls due that this version does not know".to_owned();
        parse().ok_or_else(|| Error::RecordTampered { detail: unknown() })
    }
}

impl KeyRecord {
    /// Everything that falls due for this key.
    pub(crate) fn due(&self) -> BTreeSet<DueEntry> {
        if self.is_destroyed() {
            return BTreeSet::new();
        }
        let deletion = self.deletion_due;
        // DEW: §4, only an enabled key is rotated; one that is enabled again is rotated at once if that is overdue.
        let rotation = self.rotation.as_ref().filter(|_| self.state == KeyState::Enabled);
        let expiry = self.import.as_ref().filter(|_| !self.versions.is_empty());
        let due = [
            (deletion, Due::Deletion),
            (rotation.map(|policy| policy.next), Due::Rotation),
            (expiry.and_then(|import| import.expires), Due::MaterialExpiry),
        ];
        due.into_iter().filter_map(|(at, kind)| Some(DueEntry::new(at?, kind, self.id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_again() {
        let id = KeyId::from_uuid(uuid::Uuid::from_u128(7));
        for (micros, at) in [(0, 0), (1, 1), (-5, 0), (i64::MAX, i64::MAX)] {
            for kind in Due::ALL {
                let entry = DueEntry::new(Timestamp::from_micros(micros), kind, id);
                assert_eq!(entry.at(), Timestamp::from_micros(at), "{micros}");
                assert_eq!(DueEntry::parse(&entry.path()).expect("its own path"), entry);
            }
        }
        let earlier = DueEntry::new(Timestamp::from_micros(255), Due::MaterialExpiry, id);
        let later = DueEntry::new(Timestamp::from_micros(256), Due::Deletion, id);
        assert!(earlier.path() < later.path() && earlier < later);
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        let path =
            DueEntry::new(Timestamp::from_micros(1), Due::Rotation, KeyId::from_uuid(uuid::Uuid::nil()))
                .path();
        let mut unknown_kind = path.clone();
        unknown_kind[10] = 9;
        for wrong in [&path[..path.len() - 1], &[&path[..], b"x"].concat(), &unknown_kind, b"s/", b""] {
            assert!(matches!(DueEntry::parse(wrong), Err(Error::RecordTampered { .. })), "{wrong:?}");
        }
    }
}
