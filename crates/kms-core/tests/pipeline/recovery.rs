//! What a crash cuts off: the next start finds out and records what came of it.

use futures_executor::block_on;
use kms_core::{
    Error, OpenIntent, Phase, Verdict,
    key::{KeyId, KeyState},
    operation::OperationName,
    ops::{DescribeKey, DisableKey, KeySelector},
    ports::{KeyStore as _, StoreError, Transaction},
    testing::store::FakeKeyStore,
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::support::{World, finish, generate, key_path, now, obs, owner, poll};

fn state(world: &World, id: KeyId) -> KeyState {
    world.run(&owner(), DescribeKey { key: KeySelector::Id(id) }).expect("it exists").state
}

/// Begins to disable a key and stops when the intent is durable and nothing is changed yet.
fn begun(world: &World, key_id: KeyId) -> crate::support::Running<'_, DisableKey> {
    world.audit.hold();
    let mut running = world.begin(&owner(), DisableKey { key: key_id.into() });
    assert!(poll(&mut running).is_pending(), "went on without a durable intent");
    assert_eq!(state_of_store(world, key_id), KeyState::Enabled);
    world.audit.release();
    running
}

fn state_of_store(world: &World, id: KeyId) -> KeyState {
    state(&world.sibling(), id)
}

#[test]
fn a_change_whose_outcome_cannot_be_recorded_has_happened_and_is_settled_at_the_next_start() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let running = begun(&world, key);
    world.audit.fail_next(1);
    assert_eq!(finish(running).expect_err("no outcome").code(), "OUTCOME_UNKNOWN");
    assert_eq!(state_of_store(&world, key), KeyState::Disabled);

    let (open, restarted) = (world.open_intents(), world.sibling());
    assert_eq!(open.len(), 1);
    block_on(restarted.service.reconcile(&open)).expect("the log works");
    let records = restarted.audit.records();
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.phase, record.verdict), (Phase::Recovery, Verdict::Succeeded));
    assert_eq!((record.request_id, record.key_id), (open[0].request_id, Some(key)));
    assert_eq!((record.operation, record.reason), (OperationName::DisableKey, None));
    assert!(record.caller.is_none(), "the service writes it by itself");
    let stored = Sha256::digest(world.store.value(&key_path(key)));
    assert_eq!(record.state_digest, Some(stored.into()));
    assert!(world.store.under(b"o/").is_empty(), "the traces are cleared");
    assert_eq!(state(&restarted, key), KeyState::Disabled);
}

#[test]
fn an_outcome_that_failed_is_written_before_the_next_record() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let running = begun(&world, key);
    world.audit.fail_next(1);
    finish(running).expect_err("no outcome");
    let (_, records) = world.records_of(|| state(&world, key));
    let phases: Vec<_> = records.iter().map(|record| record.phase).collect();
    assert_eq!(phases, [Phase::Outcome, Phase::Complete]);
    assert!(world.open_intents().is_empty());
}

#[test]
fn a_change_that_a_crash_kept_from_its_commit_is_settled_as_failed() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    drop(begun(&world, key)); // the process dies here
    let (open, restarted) = (world.open_intents(), world.sibling());
    assert_eq!(open.len(), 1);
    block_on(restarted.service.reconcile(&open)).expect("the log works");
    let record = restarted.audit.records().pop().expect("a record");
    assert_eq!((record.phase, record.verdict), (Phase::Recovery, Verdict::Failed));
    assert_eq!((record.reason, record.state_digest), (Some("NOT_COMMITTED"), None));
    assert_eq!(state(&restarted, key), KeyState::Enabled);
}

/// What the store does, and how a restart then judges the change.
type Commit = fn(&FakeKeyStore, Transaction);

#[test]
fn a_commit_that_nobody_can_tell_of_is_settled_at_the_next_start() {
    let committed: Commit = |store, transaction| {
        now(store.transact(transaction)).expect("it commits");
    };
    let lost: Commit = |_, _| {};
    for (commit, verdict) in [(committed, Verdict::Succeeded), (lost, Verdict::Failed)] {
        let world = World::new();
        let key_id = world.key(&owner(), "key").id;
        world.store.instead_of_commit(move |store, transaction| {
            commit(store, transaction);
            store.fail_next(StoreError::Unavailable { detail: "the line is dead".to_owned() });
            Err(StoreError::Unknown { detail: "time-out".to_owned() })
        });
        let error = world.run(&owner(), DisableKey { key: key_id.into() }).expect_err("nobody knows");
        assert_eq!(error, Error::OutcomeUnknown { detail: "time-out".to_owned() });
        assert_eq!(world.hsm.calls().evict, 1, "it may be disabled, so no handle of it is kept");
        let (open, restarted) = (world.open_intents(), world.sibling());
        assert_eq!(open.len(), 1, "the intent stays open");
        block_on(restarted.service.reconcile(&open)).expect("the log works");
        assert_eq!(restarted.audit.records().pop().expect("a record").verdict, verdict);
        let disabled = verdict == Verdict::Succeeded;
        assert_eq!(state(&restarted, key_id) == KeyState::Disabled, disabled);
    }
}

#[test]
fn a_default_key_whose_outcome_is_lost_is_settled_and_used() {
    let world = World::new();
    world.store.instead_of_commit(|store, transaction| {
        now(store.transact(transaction)).expect("it commits");
        store.fail_next(StoreError::Unavailable { detail: "the line is dead".to_owned() });
        Err(StoreError::Unknown { detail: "time-out".to_owned() })
    });
    let error = world.run(&owner(), generate(obs())).expect_err("nobody knows");
    assert_eq!(error.code(), "OUTCOME_UNKNOWN");
    let (open, restarted) = (world.open_intents(), world.sibling());
    assert_eq!(
        open.iter().map(|intent| intent.operation).collect::<Vec<_>>(),
        [OperationName::CreateDefaultKey]
    );
    block_on(restarted.service.reconcile(&open)).expect("the log works");
    let sealed = restarted.run(&owner(), generate(obs())).expect("it was made").sealed;
    assert_eq!(Some(sealed.key_id), open[0].key_id);
}

#[test]
fn traces_stay_until_all_recoveries_are_recorded() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let running = begun(&world, key);
    world.audit.fail_next(1);
    finish(running).expect_err("no outcome");
    let (open, restarted) = (world.open_intents(), world.sibling());
    restarted.audit.fail_next(1);
    let error = block_on(restarted.service.reconcile(&open)).expect_err("no record");
    assert_eq!(error.code(), "AUDIT_UNAVAILABLE");
    block_on(restarted.service.reconcile(&open)).expect("the log works again");
    assert_eq!(restarted.audit.records().pop().expect("a record").verdict, Verdict::Succeeded);
}

#[test]
fn many_traces_are_cleared_and_many_intents_settled() {
    let world = World::new();
    let open: Vec<_> = (0..120)
        .map(|_| OpenIntent { request_id: Uuid::new_v4(), operation: OperationName::CreateKey, key_id: None })
        .collect();
    for intent in &open {
        world.store.overwrite(&[b"o/", &intent.request_id.as_bytes()[..]].concat(), vec![1]);
    }
    let tampered = block_on(world.service.reconcile(&open)).expect_err("no trace of the service");
    assert_eq!(tampered.code(), "RECORD_TAMPERED");
    block_on(world.service.reconcile(&[])).expect("nothing to settle");
    assert!(world.store.under(b"o/").is_empty());
    block_on(world.service.reconcile(&open)).expect("the log works");
    assert!(world.audit.records().iter().all(|record| record.reason == Some("NOT_COMMITTED")));
    assert_eq!(world.audit.records().len(), 120);
}

#[test]
fn a_start_reads_as_little_beside_many_keys_as_beside_few() {
    let reads_of_start = |keys: usize| {
        let world = World::new();
        for number in 0..keys {
            world.key(&owner(), &format!("key-{number}"));
        }
        block_on(world.sibling().service.reconcile(&[])).expect("the log works"); // clears the traces
        let before = world.store.reads();
        block_on(world.sibling().service.reconcile(&[])).expect("the log works");
        world.store.reads() - before
    };
    let few = reads_of_start(1);
    assert!(few <= 3, "its own record, that of the root keys, and traces: {few}");
    assert_eq!(reads_of_start(2_000), few);
}
