//! The store port's contract, on the fake and on every engine.

use std::{cell::Cell, fs};

use futures_executor::block_on;
use kms_core::{
    ports::{StoreError, Versioned},
    testing::store::{FakeKeyStore, key_store_contract},
};
use kms_store::{EmbeddedStore, EngineKind};
use tempfile::TempDir;

mod support;
use support::{on_every_engine, put, read};

on_every_engine!(the_engine_keeps_the_contract);

#[test]
fn the_fake_keeps_the_contract() {
    block_on(key_store_contract(async || FakeKeyStore::default()));
}

fn the_engine_keeps_the_contract(engine: EngineKind) {
    let parent = TempDir::new().expect("a temporary directory");
    let count = Cell::new(0);
    block_on(key_store_contract(async || {
        count.set(count.get() + 1);
        let directory = parent.path().join(count.get().to_string());
        fs::create_dir(&directory).expect("a new directory");
        EmbeddedStore::open(&directory, engine).expect("the store opens")
    }));
}

#[test]
fn the_fake_fails_once_when_told_to() {
    let store = FakeKeyStore::default();
    let error = StoreError::Unavailable { detail: "told to".into() };

    store.fail_next(error.clone());
    assert_eq!(put(&store, "key", b"value"), Err(error.clone()));
    assert_eq!(read(&store, "key"), Ok(None));

    store.fail_next(error.clone());
    assert_eq!(read(&store, "key"), Err(error));
    let revision = put(&store, "key", b"value").expect("only the next call fails");
    assert_eq!(read(&store, "key"), Ok(Some(Versioned { revision, value: b"value"[..].into() })));
}
