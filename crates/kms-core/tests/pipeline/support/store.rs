//! The fake store with a spy in front of it: it counts, shows what lies in the store, and lets
//! tests act at the moment of a commit.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use kms_core::{
    ports::{
        BoxFuture, KeyStore, Mutation, Revision, Snapshot, StoreError, StoreKey, Transaction, Versioned,
    },
    testing::store::FakeKeyStore,
};

use super::now;

/// Takes the place of one commit.
type Instead = Box<dyn FnOnce(&FakeKeyStore, Transaction) -> Result<Revision, StoreError> + Send>;

/// Happens before a read.
type Watch = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct SpyStore {
    inner: FakeKeyStore,
    reads: AtomicUsize,
    commits: AtomicUsize,
    instead: Mutex<VecDeque<Instead>>,
    watch: Mutex<Option<(StoreKey, Watch)>>,
    no_snapshot: Mutex<Option<StoreError>>,
}

impl SpyStore {
    /// How often something was read.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// How often a commit was tried.
    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// The next snapshot fails with this.
    pub(crate) fn instead_of_snapshot(&self, error: StoreError) {
        *self.no_snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The next commit is what `instead` does; several of these take their turns.
    pub(crate) fn instead_of_commit(
        &self,
        instead: impl FnOnce(&FakeKeyStore, Transaction) -> Result<Revision, StoreError> + Send + 'static,
    ) {
        self.instead.lock().unwrap_or_else(PoisonError::into_inner).push_back(Box::new(instead));
    }

    /// Before the next read of a key under this prefix, `happens` happens.
    pub(crate) fn before_read(&self, prefix: &[u8], happens: impl FnOnce() + Send + 'static) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((prefix.to_vec(), Box::new(happens)));
    }

    /// Before the next commit, another writer writes the value of `path` anew.
    pub(crate) fn touch_before_commit(&self, path: StoreKey) {
        self.instead_of_commit(move |store, transaction| {
            let value = now(store.get_many(std::slice::from_ref(&path))).expect("the fake works");
            let value = value.into_iter().next().flatten().expect("there is a value").value.to_vec();
            put(store, path, value);
            now(store.transact(transaction))
        });
    }

    /// All that lies in the store.
    pub(crate) fn dump(&self) -> BTreeMap<StoreKey, Vec<u8>> {
        self.under(b"").into_iter().collect()
    }

    /// What lies under a prefix.
    pub(crate) fn under(&self, prefix: &[u8]) -> Vec<(StoreKey, Vec<u8>)> {
        let entries = now(self.inner.range(prefix, None, usize::MAX)).expect("the fake works");
        entries.into_iter().map(|(path, value)| (path, value.value.to_vec())).collect()
    }

    pub(crate) fn value(&self, path: &[u8]) -> Vec<u8> {
        self.dump().remove(path).expect("there is a value")
    }

    /// Writes past the service.
    pub(crate) fn overwrite(&self, path: &[u8], value: Vec<u8>) {
        put(&self.inner, path.to_vec(), value);
    }

    /// Deletes past the service.
    pub(crate) fn delete(&self, path: &[u8]) {
        let mutations = vec![Mutation::Delete(path.to_vec())];
        now(self.inner.transact(Transaction { conditions: vec![], mutations })).expect("the fake works");
    }
}

fn put(store: &FakeKeyStore, path: StoreKey, value: Vec<u8>) {
    let mutations = vec![Mutation::Put(path, value)];
    now(store.transact(Transaction { conditions: vec![], mutations })).expect("the fake works");
}

impl KeyStore for SpyStore {
    fn get_many<'a>(
        &'a self,
        keys: &'a [StoreKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        // The guard ends here: what happens may read something itself.
        let watched = {
            let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.take_if(|(prefix, _)| keys.iter().any(|key| key.starts_with(prefix)))
        };
        if let Some((_, happens)) = watched {
            happens();
        }
        self.inner.get_many(keys)
    }

    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(StoreKey, Versioned)>, StoreError>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.range(prefix, after, limit)
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, StoreError>> {
        if let Some(error) = self.no_snapshot.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.inner.fail_next(error);
        }
        self.inner.snapshot()
    }

    fn transact(&self, transaction: Transaction) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        // The guard ends here: what happens instead may commit something itself.
        let instead = self.instead.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match instead {
            Some(instead) => {
                let result = instead(&self.inner, transaction);
                Box::pin(std::future::ready(result))
            }
            None => self.inner.transact(transaction),
        }
    }
}
