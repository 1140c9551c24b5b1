//! Random transactions: every engine gives the answers that the fake gives.

use futures_executor::block_on;
use kms_core::{
    ports::{Condition, KeyStore, Mutation, StoreKey, Transaction},
    testing::store::FakeKeyStore,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{TestCaseError, TestRunner},
};
use tempfile::TempDir;

mod support;
use kms_store::EngineKind;
use support::{on_every_engine, open};

on_every_engine!(answers_are_those_of_the_fake);

fn keys() -> impl Strategy<Value = StoreKey> {
    // Few enough that transactions meet, with neighbours in order and a shared prefix.
    vec(prop_oneof![Just(0_u8), Just(b'a'), Just(0xff)], 0..3)
}

fn transactions() -> impl Strategy<Value = Transaction> {
    let condition = prop_oneof![
        keys().prop_map(Condition::Absent),
        (keys(), 0..30_u64).prop_map(|(key, revision)| Condition::Revision(key, revision)),
    ];
    let mutation = prop_oneof![
        3 => (keys(), vec(any::<u8>(), 0..50)).prop_map(|(key, value)| Mutation::Put(key, value)),
        1 => keys().prop_map(Mutation::Delete),
    ];
    (vec(condition, 0..2), vec(mutation, 0..5))
        .prop_map(|(conditions, mutations)| Transaction { conditions, mutations })
}

fn answers_are_those_of_the_fake(engine: EngineKind) {
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    let bursts = vec(vec(transactions(), 1..6), 1..12);
    let read = (keys(), proptest::option::of(keys()), 0..9_usize);
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&(bursts, vec(keys(), 0..5), read), |(bursts, looked_up, read)| {
        compare(engine, bursts, &looked_up, &read)
    });
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
}

type Read = (StoreKey, Option<StoreKey>, usize);

fn compare(
    engine: EngineKind,
    bursts: Vec<Vec<Transaction>>,
    looked_up: &[StoreKey],
    (prefix, after, limit): &Read,
) -> Result<(), TestCaseError> {
    let directory = TempDir::new().expect("a temporary directory");
    let (store, fake) = (open(directory.path(), engine), FakeKeyStore::default());
    for burst in bursts {
        // All of a burst are queued before the first is waited for, so that they share commits.
        let queued: Vec<_> = burst.iter().map(|transaction| store.transact(transaction.clone())).collect();
        let expected: Vec<_> = burst.iter().map(|each| block_on(fake.transact(each.clone()))).collect();
        let answered: Vec<_> = queued.into_iter().map(block_on).collect();
        prop_assert_eq!(answered, expected);
        prop_assert_eq!(block_on(store.get_many(looked_up)), block_on(fake.get_many(looked_up)));
    }
    let after = after.as_deref();
    prop_assert_eq!(
        block_on(store.range(prefix, after, *limit)),
        block_on(fake.range(prefix, after, *limit))
    );
    drop(store);
    let store = open(directory.path(), engine);
    prop_assert_eq!(block_on(store.range(&[], None, 100)), block_on(fake.range(&[], None, 100)));
    Ok(())
}
