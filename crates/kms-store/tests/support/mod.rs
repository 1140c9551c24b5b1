//! What the tests of the store share.
#![allow(dead_code, reason = "each test program uses a part of this module")]

use std::path::Path;

use futures_executor::block_on;
use kms_core::ports::{
    Condition, KeyStore, Mutation, Revision, StoreError, StoreKey, Transaction, Versioned,
};
use kms_store::RedbStore;

pub(crate) fn open(directory: &Path) -> RedbStore {
    RedbStore::open(directory).expect("the store opens")
}

pub(crate) fn key(name: &str) -> StoreKey {
    name.as_bytes().to_vec()
}

pub(crate) fn put(store: &impl KeyStore, name: &str, value: &[u8]) -> Result<Revision, StoreError> {
    let mutations = vec![Mutation::Put(key(name), value.to_vec())];
    block_on(store.transact(Transaction { conditions: vec![], mutations }))
}

pub(crate) fn create(store: &impl KeyStore, name: &str, value: &[u8]) -> Result<Revision, StoreError> {
    let conditions = vec![Condition::Absent(key(name))];
    let mutations = vec![Mutation::Put(key(name), value.to_vec())];
    block_on(store.transact(Transaction { conditions, mutations }))
}

pub(crate) fn read(store: &impl KeyStore, name: &str) -> Result<Option<Versioned>, StoreError> {
    block_on(store.get_many(&[key(name)])).map(|mut found| found.pop().flatten())
}
