//! Many callers at once: nothing lost, nothing stale, nothing torn.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};

use futures_executor::block_on;
use kms_core::ports::{Condition, KeyStore, Mutation, StoreError, StoreKey, Transaction, Versioned};
use kms_store::{EmbeddedStore, EngineKind};
use tempfile::TempDir;

mod support;
use support::{key, on_every_engine, open, put, read};

on_every_engine!(
    a_read_sees_what_was_acknowledged_before_it_began_and_no_half_of_it,
    a_deleted_value_does_not_come_back,
    threads_that_compare_and_set_one_counter_lose_no_increment,
    dropping_the_store_commits_what_is_queued,
);

const READERS: usize = 2;

fn store(engine: EngineKind) -> (TempDir, EmbeddedStore) {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path(), engine);
    (directory, store)
}

fn number(versioned: &Versioned) -> u64 {
    u64::from_be_bytes(versioned.value.as_ref().try_into().expect("8 bytes were written"))
}

fn commit(store: &EmbeddedStore, mutations: Vec<Mutation>) {
    block_on(store.transact(Transaction { conditions: vec![], mutations })).expect("the store works");
}

/// Sets the flag however the scope is left: a failed test must end, not go on reading.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Runs `read` on several threads, over and over, until `write` returns.
fn while_reading(read: impl Fn() + Sync, write: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    read();
                    thread::yield_now();
                }
            });
        }
        let _done = SetOnDrop(&done);
        write();
    });
}

fn a_read_sees_what_was_acknowledged_before_it_began_and_no_half_of_it(engine: EngineKind) {
    const KEYS: usize = 50;
    let (_directory, store) = store(engine);
    let acknowledged = AtomicU64::new(0);
    let keys: Vec<_> = (0..KEYS).map(|number| key(&number.to_string())).collect();
    let write = |number: u64| {
        let put = |key: &StoreKey| Mutation::Put(key.clone(), number.to_be_bytes().to_vec());
        commit(&store, keys.iter().map(put).collect());
        acknowledged.store(number, SeqCst);
    };
    write(0);
    // The key that is absent makes every read of all keys go to the file and fill the cache, while
    // a commit goes on; the two of them alone are then answered from the cache.
    let two = keys[..2].to_vec();
    let mut all = keys.clone();
    all.push(key("absent"));
    while_reading(
        || {
            for (keys, there) in [(&all, KEYS), (&two, 2)] {
                let least = acknowledged.load(SeqCst);
                let found = block_on(store.get_many(keys)).expect("the store works");
                let numbers: Vec<_> = found.iter().flatten().map(number).collect();
                assert_eq!(numbers, vec![numbers[0]; there], "one transaction wrote all");
                assert!(numbers[0] >= least, "{} was read after {least} was acknowledged", numbers[0]);
            }
        },
        || (1..500).for_each(write),
    );
}

fn a_deleted_value_does_not_come_back(engine: EngineKind) {
    let (_directory, store) = store(engine);
    let with_absent = [key("key"), key("absent")];
    while_reading(
        || {
            block_on(store.get_many(&with_absent)).expect("the store works");
        },
        || {
            for _ in 0..300 {
                put(&store, "key", b"value").expect("the store works");
                assert!(read(&store, "key").expect("the store works").is_some());
                commit(&store, vec![Mutation::Delete(key("key"))]);
                assert_eq!(read(&store, "key"), Ok(None), "it was deleted");
            }
        },
    );
}

fn threads_that_compare_and_set_one_counter_lose_no_increment(engine: EngineKind) {
    const WRITERS: u64 = 8;
    const INCREMENTS: u64 = 50;
    let (_directory, store) = store(engine);
    put(&store, "counter", &0_u64.to_be_bytes()).expect("the store works");
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| (0..INCREMENTS).for_each(|_| increment(&store)));
        }
    });
    let counter = read(&store, "counter").expect("the store works").expect("it is there");
    assert_eq!(number(&counter), WRITERS * INCREMENTS);
}

fn increment(store: &EmbeddedStore) {
    loop {
        let current = read(store, "counter").expect("the store works").expect("it is there");
        let conditions = vec![Condition::Revision(key("counter"), current.revision)];
        let next = (number(&current) + 1).to_be_bytes();
        let mutations = vec![Mutation::Put(key("counter"), next.to_vec())];
        match block_on(store.transact(Transaction { conditions, mutations })) {
            Ok(_) => return,
            Err(StoreError::Conflict { index: 0 }) => {}
            Err(error) => panic!("the store failed: {error}"),
        }
    }
}

fn dropping_the_store_commits_what_is_queued(engine: EngineKind) {
    let (directory, store) = store(engine);
    for number in 0..500 {
        let mutations = vec![Mutation::Put(key(&number.to_string()), vec![0; 100])];
        drop(store.transact(Transaction { conditions: vec![], mutations }));
    }
    drop(store);
    let store = open(directory.path(), engine);
    assert_eq!(block_on(store.range(b"", None, 1000)).expect("the store works").len(), 500);
}
