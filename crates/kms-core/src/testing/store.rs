//! The store port: an in-memory fake, and the suite that it and every real adapter pass.

mod contract;

use std::{
    collections::{BTreeMap, btree_map},
    future::ready,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use contract::key_store_contract;

use crate::ports::{
    BoxFuture, Condition, KeyStore, MAX_KEY_BYTES, MAX_MUTATIONS, MAX_VALUE_BYTES, Mutation, Revision,
    Snapshot, StoreError, StoreKey, Transaction, Versioned,
};

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<StoreKey, Versioned>,
    revision: Revision,
    failure: Option<StoreError>,
}

/// A store in memory. Every call is answered at once.
#[derive(Debug, Default)]
pub struct FakeKeyStore {
    state: Mutex<State>,
}

impl FakeKeyStore {
    /// Lets the next call of any kind answer `error`, and change nothing.
    pub fn fail_next(&self, error: StoreError) {
        self.lock().failure = Some(error);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.lock();
        match state.failure.take() {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }
}

impl KeyStore for FakeKeyStore {
    fn get_many<'a>(
        &'a self,
        keys: &'a [StoreKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        Box::pin(async move {
            let state = self.working()?;
            Ok(keys.iter().map(|key| state.entries.get(key).cloned()).collect())
        })
    }

    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(StoreKey, Versioned)>, StoreError>> {
        Box::pin(async move {
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let state = self.working()?;
            let entries = state.entries.range::<[u8], _>((start, Bound::Unbounded));
            let wanted = entries.filter(|(key, _)| key.starts_with(prefix)).take(limit);
            Ok(wanted.map(|(key, value)| (key.clone(), value.clone())).collect())
        })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, StoreError>> {
        let copied = self.working().map(|state| {
            let entries = state.entries.clone().into_iter();
            Box::new(FakeSnapshot { revision: state.revision, entries }) as Box<dyn Snapshot>
        });
        Box::pin(ready(copied))
    }

    fn transact(&self, transaction: Transaction) -> BoxFuture<'_, Result<Revision, StoreError>> {
        let result = self.working().and_then(|mut state| state.transact(transaction));
        Box::pin(ready(result))
    }
}

struct FakeSnapshot {
    revision: Revision,
    entries: btree_map::IntoIter<StoreKey, Versioned>,
}

impl Snapshot for FakeSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn page(&mut self, limit: usize) -> BoxFuture<'_, Result<Vec<(StoreKey, Versioned)>, StoreError>> {
        Box::pin(ready(Ok(self.entries.by_ref().take(limit).collect())))
    }
}

impl State {
    fn transact(&mut self, transaction: Transaction) -> Result<Revision, StoreError> {
        check_limits(&transaction)?;
        if let Some(index) = transaction.conditions.iter().position(|condition| !self.holds(condition)) {
            return Err(StoreError::Conflict { index });
        }
        self.revision += 1;
        for mutation in transaction.mutations {
            match mutation {
                Mutation::Put(key, value) => {
                    let value = Versioned { revision: self.revision, value: value.into() };
                    self.entries.insert(key, value);
                }
                Mutation::Delete(key) => drop(self.entries.remove(&key)),
            }
        }
        Ok(self.revision)
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Absent(key) => !self.entries.contains_key(key),
            Condition::Revision(key, revision) => {
                self.entries.get(key).is_some_and(|value| value.revision == *revision)
            }
        }
    }
}

fn check_limits(transaction: &Transaction) -> Result<(), StoreError> {
    let conditions = transaction.conditions.iter().map(|condition| match condition {
        Condition::Absent(key) | Condition::Revision(key, _) => (key.len(), 0),
    });
    let mutations = transaction.mutations.iter().map(|mutation| match mutation {
        Mutation::Put(key, value) => (key.len(), value.len()),
        Mutation::Delete(key) => (key.len(), 0),
    });
    let fits = transaction.mutations.len() <= MAX_MUTATIONS
        && conditions.chain(mutations).all(|(key, value)| key <= MAX_KEY_BYTES && value <= MAX_VALUE_BYTES);
    if fits { Ok(()) } else { Err(StoreError::TooLarge { detail: "over a limit of the port".into() }) }
}
