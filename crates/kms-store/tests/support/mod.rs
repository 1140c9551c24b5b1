//! What the tests of the store share.
#![allow(dead_code, reason = "each test program uses a part of this module")]

use std::path::{Path, PathBuf};

use futures_executor::block_on;
use kms_core::ports::{
    Condition, KeyStore, Mutation, Revision, StoreError, StoreKey, Transaction, Versioned,
};
use kms_store::{EmbeddedStore, EngineKind};

/// Makes of each function a test on every engine.
macro_rules! on_every_engine {
    ($($test:ident),+ $(,)?) => {
        mod redb {
            $(#[test] fn $test() { super::$test(kms_store::EngineKind::Redb); })+
        }
        mod sled {
            $(#[test] fn $test() { super::$test(kms_store::EngineKind::Sled); })+
        }
    };
}
#[allow(unused_imports, reason = "each test program uses a part of this module")]
pub(crate) use on_every_engine;

pub(crate) fn open(directory: &Path, engine: EngineKind) -> EmbeddedStore {
    EmbeddedStore::open(directory, engine).expect("the store opens")
}

/// The file in a store's directory that holds the records.
pub(crate) fn data_file(directory: &Path, engine: EngineKind) -> PathBuf {
    match engine {
        EngineKind::Redb => directory.join("keys.redb"),
        EngineKind::Sled => directory.join("keys.sled/db"),
    }
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
