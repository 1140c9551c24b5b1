//! What was read, authenticated and decoded before, up to so many bytes.

use std::{collections::HashMap, sync::Arc};

use crate::{directory::Stored, key::KeyId, ports::Revision};

/// How much is kept, in bytes as they lie in the store. At half a KiB a key record, this is more than there are keys loaded
/// in the HSM by default, for whoever uses those needs these.
const CAPACITY: usize = 16 * 1024 * 1024;
/// What an entry costs beyond the bytes of its value.
const ENTRY_OVERHEAD: usize = 512;

/// Values by the keys that they are of, each at the revision that it was read at.
pub(crate) struct Decoded<T: ?Sized> {
    entries: HashMap<KeyId, Entry<T>>,
    bytes: usize,
}

struct Entry<T: ?Sized> {
    stored: Stored<Arc<T>>,
    bytes: usize,
}

impl<T: ?Sized> Default for Decoded<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), bytes: 0 }
    }
}

impl<T: ?Sized> Decoded<T> {
    /// The value of `key`, if it is known as of this revision.
    pub(crate) fn at(&self, key: KeyId, revision: Revision) -> Option<Arc<T>> {
        let known = self.entries.get(&key).filter(|known| known.stored.revision == revision);
        known.map(|known| known.stored.value.clone())
    }

    /// Keeps what was decoded from so many bytes.
    pub(crate) fn keep(&mut self, key: KeyId, stored: Stored<Arc<T>>, encoded_bytes: usize) {
        let bytes = encoded_bytes.saturating_add(ENTRY_OVERHEAD);
        self.forget(key);
        if self.bytes.saturating_add(bytes) > CAPACITY {
            // Rare, and what is in use comes back at once: simpler than an order of last use.
            self.entries.clear();
            self.bytes = 0;
        }
        if bytes <= CAPACITY {
            self.entries.insert(key, Entry { stored, bytes });
            self.bytes += bytes;
        }
    }

    fn forget(&mut self, key: KeyId) {
        if let Some(forgotten) = self.entries.remove(&key) {
            self.bytes -= forgotten.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn key(number: usize) -> KeyId {
        KeyId::from_uuid(Uuid::from_u128(number as u128))
    }

    fn keep(decoded: &mut Decoded<usize>, number: usize, revision: Revision, bytes: usize) {
        decoded.keep(key(number), Stored { revision, value: Arc::new(number) }, bytes);
    }

    #[test]
    fn what_is_known_is_known_of_its_revision_only() {
        let mut decoded = Decoded::default();
        keep(&mut decoded, 1, 7, 100);
        assert_eq!(decoded.at(key(1), 7).as_deref(), Some(&1));
        assert_eq!((decoded.at(key(1), 8), decoded.at(key(2), 7)), (None, None));
        keep(&mut decoded, 1, 8, 200);
        assert_eq!((decoded.at(key(1), 7), decoded.at(key(1), 8).as_deref()), (None, Some(&1)));
        assert_eq!(decoded.bytes, 200 + ENTRY_OVERHEAD);
    }

    #[test]
    fn long_values_take_as_much_room_as_they_are_long() {
        let mut decoded = Decoded::default();
        let long = CAPACITY / 4;
        for number in 0..100 {
            keep(&mut decoded, number, 1, long);
            assert!(decoded.entries.len() < 4 && decoded.bytes <= CAPACITY);
            assert!(decoded.at(key(number), 1).is_some());
        }
        for number in 0..100_000 {
            keep(&mut decoded, number, 1, 0);
        }
        assert!(decoded.bytes <= CAPACITY && decoded.entries.len() <= CAPACITY / ENTRY_OVERHEAD);
        keep(&mut decoded, 1, 1, CAPACITY);
        assert_eq!((decoded.at(key(1), 1), decoded.bytes), (None, 0), "what has no room is read each time");
    }
}
