//! The keys that are not destroyed, a million of them in some 35 MiB.

use std::sync::Arc;

use kms_core::{Timestamp, key::KeyId};

use super::KeyKind;

/// Among so many shelves the keys are spread. With ten million of them one holds 2,500, so that to put a key between two
/// others moves 40 KiB on average.
const SHELVES: usize = 4096;
/// A full shelf gets room for one key in so many more; a list that doubles would be a quarter empty.
const GROWTH: usize = 8;

/// Whose keys, of which kind. All of them share one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) account: Arc<str>,
    pub(super) kind: KeyKind,
}

/// A key that was not destroyed yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) key: KeyId,
    pub(super) owner: Arc<Owner>,
    pub(super) made: Timestamp,
}

const _: () = assert!(size_of::<Life>() == 32, "there may be millions");

/// Each shelf is sorted by its keys. A map would take half as much again, or twice as much while it grows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lives {
    shelves: Box<[Vec<Life>]>,
}

impl Default for Lives {
    fn default() -> Self {
        Self { shelves: (0..SHELVES).map(|_| Vec::new()).collect() }
    }
}

impl Lives {
    pub(super) fn get(&self, key: KeyId) -> Option<&Life> {
        let shelf = &self.shelves[shelf(key)];
        place(shelf, key).ok().map(|place| &shelf[place])
    }

    /// Takes it, unless it has one of the same key; answers whether it took it.
    pub(super) fn insert(&mut self, life: Life) -> bool {
        let shelf = &mut self.shelves[shelf(life.key)];
        let Err(place) = place(shelf, life.key) else { return false };
        if shelf.len() == shelf.capacity() {
            shelf.reserve_exact(shelf.len() / GROWTH + 1);
        }
        shelf.insert(place, life);
        true
    }

    pub(super) fn remove(&mut self, key: KeyId) {
        let shelf = &mut self.shelves[shelf(key)];
        if let Ok(place) = place(shelf, key) {
            shelf.remove(place);
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.shelves.iter().map(|shelf| shelf.len() as u64).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Life> {
        self.shelves.iter().flatten()
    }
}

/// Where the key is on its shelf, or where it would be.
fn place(shelf: &[Life], key: KeyId) -> Result<usize, usize> {
    shelf.binary_search_by_key(&key, |life| life.key)
}

/// The shelf of a key. The last bits of an identifier are random, whatever its version.
fn shelf(key: KeyId) -> usize {
    let [.., high, low] = *key.as_bytes();
    usize::from(u16::from_be_bytes([high, low])) % SHELVES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Keys of which many share a shelf.
    fn key(number: u64) -> KeyId {
        KeyId::from_uuid(uuid::Uuid::from_u64_pair(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number % 7))
    }

    #[test]
    fn shelves_hold_what_a_map_holds() {
        let owner = Arc::new(Owner { account: "a".into(), kind: KeyKind::Symmetric });
        let (mut lives, mut map) = (Lives::default(), BTreeMap::new());
        for step in 0..6_000_i64 {
            let key = key(step.unsigned_abs() * 31 % 1_000);
            if step % 3 == 2 {
                lives.remove(key);
                map.remove(&key);
            } else {
                let made = Timestamp::from_micros(step);
                let is_new = !map.contains_key(&key);
                map.entry(key).or_insert(made);
                assert_eq!(lives.insert(Life { key, owner: owner.clone(), made }), is_new);
            }
        }
        assert!(map.len() > 100);
        for key in (0..1_000).map(key) {
            assert_eq!(lives.get(key).map(|life| life.made), map.get(&key).copied());
        }
        let all: BTreeMap<_, _> = lives.iter().map(|life| (life.key, life.made)).collect();
        assert_eq!((lives.len(), all), (map.len() as u64, map));
    }
}
