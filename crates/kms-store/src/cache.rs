//! The read cache: a part of the store's state at one revision, and of no other.

use kms_core::ports::{Mutation, Revision, StoreKey, Versioned};
use lru::LruCache;

/// How much the cache may hold, in bytes; what an entry costs beyond its key and value counts too,
/// so this bounds the number of entries as well.
const CAPACITY: usize = 8 * 1024 * 1024;

/// What an entry costs beyond the bytes of its key and value.
const ENTRY_OVERHEAD: usize = 128;

/// Least recently used entries go first.
///
/// Every entry is the key's value at [`revision`](Self::revision). Two rules keep this so: a commit
/// moves all its keys and the revision under one lock, and what was read from a snapshot is taken in
/// only if the snapshot is of exactly that revision.
#[derive(Debug)]
pub(crate) struct ReadCache {
    entries: LruCache<StoreKey, Versioned>,
    bytes: usize,
    /// `None` while the store is closed: nothing is taken in.
    revision: Option<Revision>,
}

impl ReadCache {
    pub(crate) fn new() -> Self {
        Self { entries: LruCache::unbounded(), bytes: 0, revision: None }
    }

    /// Forgets everything; from now on the cache is of `revision`.
    pub(crate) fn reset(&mut self, revision: Option<Revision>) {
        self.entries.clear();
        self.bytes = 0;
        self.revision = revision;
    }

    /// The values of all `keys`, or `None` if one is not here: a mix of cache and snapshot could
    /// show one half of a transaction.
    pub(crate) fn lookup(&mut self, keys: &[StoreKey]) -> Option<Vec<Option<Versioned>>> {
        keys.iter().map(|key| self.entries.get(key).cloned().map(Some)).collect()
    }

    /// Takes in what a snapshot of revision `snapshot` held.
    pub(crate) fn fill(&mut self, snapshot: Revision, keys: &[StoreKey], values: &[Option<Versioned>]) {
        if self.revision != Some(snapshot) {
            return;
        }
        for (key, value) in keys.iter().zip(values) {
            if let Some(value) = value {
                self.insert(key.clone(), value.clone());
            }
        }
        self.shrink();
    }

    /// Moves the cache to `revision`: `changes` are all transactions committed since, in order.
    pub(crate) fn advance<'a>(
        &mut self,
        revision: Revision,
        changes: impl Iterator<Item = (Revision, &'a Mutation)>,
    ) {
        for (writer, change) in changes {
            match change {
                Mutation::Delete(key) => self.remove(key),
                // Only what is read is kept: a load of new keys must not push out the hot ones.
                Mutation::Put(key, value) if self.entries.contains(key) => {
                    let value = Versioned { revision: writer, value: value.as_slice().into() };
                    self.insert(key.clone(), value);
                }
                Mutation::Put(..) => {}
            }
        }
        self.revision = Some(revision);
        self.shrink();
    }

    fn insert(&mut self, key: StoreKey, value: Versioned) {
        let length = key.len();
        self.bytes += cost(length, &value);
        if let Some(replaced) = self.entries.put(key, value) {
            self.bytes -= cost(length, &replaced);
        }
    }

    fn remove(&mut self, key: &StoreKey) {
        if let Some(removed) = self.entries.pop(key) {
            self.bytes -= cost(key.len(), &removed);
        }
    }

    fn shrink(&mut self) {
        while self.bytes > CAPACITY {
            let Some((key, value)) = self.entries.pop_lru() else { return };
            self.bytes -= cost(key.len(), &value);
        }
    }
}

fn cost(key_length: usize, value: &Versioned) -> usize {
    key_length + value.value.len() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> StoreKey {
        name.as_bytes().to_vec()
    }

    fn versioned(revision: Revision, length: usize) -> Versioned {
        Versioned { revision, value: vec![0; length].into() }
    }

    fn filled(names: &[&str]) -> ReadCache {
        let mut cache = ReadCache::new();
        cache.reset(Some(7));
        let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
        cache.fill(7, &keys, &vec![Some(versioned(7, 10)); keys.len()]);
        cache
    }

    #[test]
    fn a_snapshot_of_another_revision_is_not_taken_in() {
        let mut cache = filled(&[]);
        cache.fill(6, &[key("a")], &[Some(versioned(6, 1))]);
        cache.fill(8, &[key("a")], &[Some(versioned(8, 1))]);
        assert_eq!(cache.lookup(&[key("a")]), None);
    }

    #[test]
    fn nothing_is_taken_in_while_closed() {
        let mut cache = filled(&["a"]);
        cache.reset(None);
        cache.fill(7, &[key("a")], &[Some(versioned(7, 1))]);
        assert_eq!((cache.lookup(&[key("a")]), cache.bytes), (None, 0));
    }

    #[test]
    fn a_commit_replaces_and_removes_what_is_here_and_adds_nothing() {
        let mut cache = filled(&["a", "b"]);
        let changes =
            [Mutation::Put(key("a"), vec![1]), Mutation::Delete(key("b")), Mutation::Put(key("c"), vec![2])];
        cache.advance(8, changes.iter().map(|change| (8, change)));

        let replaced = Versioned { revision: 8, value: [1].as_slice().into() };
        assert_eq!(cache.lookup(&[key("a")]), Some(vec![Some(replaced)]));
        assert_eq!(cache.lookup(&[key("b")]), None);
        assert_eq!(cache.lookup(&[key("c")]), None);
        assert_eq!(cache.bytes, ENTRY_OVERHEAD + 2);
    }

    #[test]
    fn one_missing_key_makes_the_whole_lookup_a_miss() {
        let mut cache = filled(&["a"]);
        assert_eq!(cache.lookup(&[key("a"), key("b")]), None);
    }

    #[test]
    fn the_least_recently_used_goes_when_the_bytes_are_over() {
        let mut cache = filled(&["old", "used"]);
        assert!(cache.lookup(&[key("used")]).is_some());
        let large = CAPACITY - 2 * ENTRY_OVERHEAD - 20;
        cache.fill(7, &[key("large")], &[Some(versioned(7, large))]);

        assert!(cache.bytes <= CAPACITY);
        assert_eq!(cache.lookup(&[key("old")]), None);
        assert!(cache.lookup(&[key("used"), key("large")]).is_some());
    }

    #[test]
    fn many_small_entries_stay_within_the_bound() {
        let mut cache = filled(&[]);
        for number in 0..100_000_u32 {
            cache.fill(7, &[number.to_be_bytes().to_vec()], &[Some(versioned(7, 0))]);
        }
        assert!(cache.entries.len() <= CAPACITY / ENTRY_OVERHEAD);
    }
}
