//! Changes under faults, crashes and rivals.

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_executor::block_on;
use kms_core::{
    Error, Phase, Ports, Service, StartError, Verdict,
    key::KeyState,
    ops::{
        DescribeKey, DisableKey, EnableKey, IdempotencyToken, KeySelector, ListKeys, PageSize, PendingDays,
        ScheduleKeyDeletion, UpdateKeyAlias,
    },
    ports::{StoreError, Transaction},
    testing::{audit::FakeAuditLog, clock::FakeClock, hsm::FakeHsm, store::FakeKeyStore},
};
use support::{
    BusyStore, Interference, START, World, admin, by_id, caller, contended, contents, creation, generate,
    put, touch,
};

fn state(world: &World, key: kms_core::key::KeyId) -> KeyState {
    world.run(&admin(), DescribeKey { key: by_id(key) }).expect("described").state
}

#[test]
fn a_change_that_cannot_be_announced_does_not_happen() {
    let world = World::new();
    let key = world.create(&admin(), "k").expect("created");
    world.audit.fail_next(1);
    let error = world.run(&admin(), DisableKey { key_id: key.id }).expect_err("no intent");
    assert_eq!(error.code(), "AUDIT_UNAVAILABLE");
    assert_eq!(state(&world, key.id), KeyState::Enabled);
}

/// A service on a store that does `commit` first, and a service started anew on the same store.
fn crashed(
    commit: impl Fn(&FakeKeyStore, &Transaction) -> Option<StoreError> + Send + Sync + 'static,
) -> (World, World) {
    let (hsm, store) = (Arc::new(FakeHsm::new()), Arc::new(FakeKeyStore::default()));
    let seen =
        BusyStore { inner: store.clone(), before_commit: Box::new(commit), before_read: Box::new(|_| ()) };
    let before = World::on(hsm.clone(), store.clone(), Some(Arc::new(seen)));
    let after = World::on(hsm, store, None);
    (before, after)
}

#[test]
fn the_outcome_of_a_change_that_was_committed_is_written_at_the_next_start() {
    let log: Arc<OnceLock<Arc<FakeAuditLog>>> = Arc::default();
    let failing = log.clone();
    let (before, after) = crashed(move |_, transaction| {
        // The intent is recorded, the change is about to be committed: now the log breaks.
        if let (Some(log), Some(_)) = (failing.get(), contended(transaction)) {
            log.fail_next(1);
        }
        None
    });
    let key = before.create(&admin(), "k").expect("created");
    assert!(log.set(before.audit.clone()).is_ok());
    let error = before.run(&admin(), DisableKey { key_id: key.id }).expect_err("no outcome");
    assert_eq!(error.code(), "OUTCOME_UNKNOWN");
    let open = before.open_intents();
    assert_eq!(open.len(), 1);
    block_on(after.service.reconcile(&open)).expect("settled");
    let record = after.last();
    assert_eq!((record.phase, record.verdict), (Phase::Recovery, Verdict::Succeeded));
    assert_eq!((record.request_id, record.key_id), (open[0].request_id, Some(key.id)));
    assert_eq!(state(&after, key.id), KeyState::Disabled);
    assert!(!contents(&after.store).iter().any(|(path, _)| path.starts_with(b"o/")), "traces are cleared");
}

#[test]
fn an_intent_whose_change_never_came_is_settled_as_failed() {
    let refuse = |_: &FakeKeyStore, transaction: &Transaction| {
        contended(transaction).map(|_| StoreError::Unknown { detail: "time-out".to_owned() })
    };
    let (before, after) = crashed(refuse);
    let key = before.create(&admin(), "k").expect("created");
    let error = before.run(&admin(), DisableKey { key_id: key.id }).expect_err("not committed");
    // The store can be asked, and says that nothing happened.
    assert_eq!(error.code(), "STORE_UNAVAILABLE");
    let open = [kms_core::OpenIntent { request_id: uuid::Uuid::new_v4(), ..intent_of(&before) }];
    block_on(after.service.reconcile(&open)).expect("settled");
    assert_eq!((after.last().verdict, after.last().reason), (Verdict::Failed, Some("NOT_COMMITTED")));
    assert_eq!(state(&after, key.id), KeyState::Enabled);
}

fn intent_of(world: &World) -> kms_core::OpenIntent {
    let records = world.audit.records();
    let intent = records.iter().rfind(|record| record.phase == Phase::Intent).expect("an intent");
    kms_core::OpenIntent { request_id: intent.request_id, operation: intent.operation, key_id: intent.key_id }
}

/// A world in which a rival touches the contended record before the first `times` commits.
fn rival(times: usize) -> World {
    let (hsm, store) = (Arc::new(FakeHsm::new()), Arc::new(FakeKeyStore::default()));
    let left = AtomicUsize::new(times);
    let before_commit: Interference = Box::new(move |inner, transaction| {
        let key = contended(transaction)?;
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            touch(inner, &key);
        }
        None
    });
    let seen = BusyStore { inner: store.clone(), before_commit, before_read: Box::new(|_| ()) };
    World::on(hsm, store, Some(Arc::new(seen)))
}

#[test]
fn a_change_is_tried_again_when_a_rival_came_first_and_gives_up_at_last() {
    let world = rival(3);
    let key = world.create(&admin(), "k").expect("created");
    let changed = world.run(&admin(), DisableKey { key_id: key.id }).expect("the fourth try");
    assert_eq!(changed.state, KeyState::Disabled);
    let intents = world.audit.records().iter().filter(|record| record.phase == Phase::Intent).count();
    assert_eq!(intents, 2, "one intent for each change, however often it is tried");
    let world = rival(1000);
    let key = world.create(&admin(), "k").expect("created");
    let error = world.run(&admin(), DisableKey { key_id: key.id }).expect_err("always too late");
    assert_eq!(error, Error::Contention);
    assert!(world.open_intents().is_empty(), "the failure is its outcome");
}

#[test]
fn rivals_for_one_alias_and_for_one_default_key_make_one() {
    let world = World::new();
    let made: Vec<_> = std::thread::scope(|threads| {
        let world = &world;
        let tries: Vec<_> = (0..8).map(|_| threads.spawn(move || world.create(&admin(), "same"))).collect();
        tries.into_iter().map(|made| made.join().expect("no panic")).collect()
    });
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    assert!(made.iter().all(|made| made.is_ok() || *made == Err(Error::AliasExists)));
    let service = KeySelector::service("obs").expect("known");
    let ids: Vec<_> = std::thread::scope(|threads| {
        let (world, service) = (&world, &service);
        let uses: Vec<_> =
            (0..8).map(|_| threads.spawn(move || world.run(&admin(), generate(service.clone())))).collect();
        uses.into_iter().map(|made| made.join().expect("no panic").expect("made").sealed.key_id).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_retry_with_its_token_answers_the_first_result() {
    let world = World::new();
    let token = Some(IdempotencyToken::parse("token").expect("a token"));
    let request = kms_core::ops::CreateKey { idempotency_token: token, ..creation("k") };
    let first = world.run(&admin(), request.clone()).expect("created");
    let again = world.run(&admin(), request.clone()).expect("the same");
    assert_eq!(first, again);
    let other = kms_core::ops::CreateKey { alias: creation("other").alias, ..request.clone() };
    assert_eq!(world.run(&admin(), other).expect_err("another request"), Error::IdempotencyTokenReused);
    world.run(&caller("other", "north"), request).expect("another account's token is another token");
}

#[test]
fn a_key_whose_deletion_is_due_does_not_exist() {
    let world = World::new();
    let key = world.create(&admin(), "k").expect("created");
    let pending = PendingDays::parse(7).expect("in range");
    world.run(&admin(), ScheduleKeyDeletion { key_id: key.id, pending }).expect("scheduled");
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    world.clock.advance(week.saturating_sub(Duration::from_micros(1)));
    assert_eq!(state(&world, key.id), KeyState::PendingDeletion);
    world.clock.advance(Duration::from_micros(1));
    let error = world.run(&admin(), DescribeKey { key: by_id(key.id) }).expect_err("due");
    assert_eq!(error, Error::KeyNotFound);
    let list = ListKeys { size: PageSize::parse(0).expect("default"), token: None, state: None, spec: None };
    assert!(world.run(&admin(), list).expect("listed").keys.is_empty());
}

#[test]
fn an_altered_or_moved_record_is_not_used() {
    let world = World::new();
    let (one, two) =
        (world.create(&admin(), "one").expect("created"), world.create(&admin(), "two").expect("created"));
    let mut records: Vec<_> =
        contents(&world.store).into_iter().filter(|(path, _)| path.starts_with(b"k/")).collect();
    // Keys of one millisecond list in any order: the first shall be `one`.
    records.sort_by_key(|(path, _)| path[2..] != one.id.as_bytes()[..]);
    let (path, value) = (&records[0].0, records[0].1.value.to_vec());
    let calls = world.hsm.calls();
    for position in 0..value.len() {
        let mut altered = value.clone();
        altered[position] ^= 1;
        put(&world.store, path.clone(), altered);
        let error = world.run(&admin(), generate(by_id(one.id))).expect_err("altered");
        assert_eq!(error.code(), "RECORD_TAMPERED", "byte {position}");
    }
    put(&world.store, path.clone(), records[1].1.value.to_vec());
    let error = world.run(&admin(), generate(by_id(one.id))).expect_err("another key's record");
    assert_eq!(error.code(), "RECORD_TAMPERED");
    assert_eq!(world.hsm.calls(), calls, "nothing of it reached the HSM");
    put(&world.store, path.clone(), value);
    world.run(&admin(), generate(by_id(one.id))).expect("as it was");
    world.run(&admin(), generate(by_id(two.id))).expect("untouched");
}

#[test]
fn a_store_of_another_token_or_without_its_head_is_refused() {
    let world = World::new();
    world.create(&admin(), "k").expect("created");
    let start = |store: Arc<FakeKeyStore>, hsm: Arc<FakeHsm>| {
        let (audit, clock) = (Arc::new(FakeAuditLog::new()), Arc::new(FakeClock::at(START)));
        block_on(Service::start(Ports { hsm, store, audit, clock })).map(|_| ())
    };
    assert_eq!(start(world.store.clone(), Arc::new(FakeHsm::new())), Err(StartError::ForeignStore));
    let headless = Arc::new(FakeKeyStore::default());
    put(&headless, b"k/x".to_vec(), vec![1]);
    assert_eq!(start(headless, world.hsm.clone()), Err(StartError::HeadlessStore));
    assert_eq!(start(world.store.clone(), world.hsm.clone()), Ok(()));
}

#[test]
fn strangers_find_no_key_whatever_they_try() {
    let world = World::new();
    let key = world.create(&admin(), "k").expect("created");
    for stranger in [caller("other", "north"), caller("account", "south")] {
        let answers = [
            world.run(&stranger, DescribeKey { key: by_id(key.id) }).map(|_| ()),
            world.run(&stranger, generate(by_id(key.id))).map(|_| ()),
            world.run(&stranger, DisableKey { key_id: key.id }).map(|_| ()),
            world.run(&stranger, EnableKey { key_id: key.id }).map(|_| ()),
            world.run(&stranger, generate(KeySelector::alias("k").expect("an alias"))).map(|_| ()),
        ];
        assert!(answers.iter().all(|answer| *answer == Err(Error::KeyNotFound)), "{answers:?}");
        assert_eq!(world.last().key_id, None, "the record does not tell either");
    }
    let default = KeySelector::service("obs").expect("known");
    let north = world.run(&admin(), generate(default.clone())).expect("made").sealed.key_id;
    let south =
        world.run(&caller("account", "south"), generate(default.clone())).expect("made").sealed.key_id;
    let other = world.run(&caller("other", "north"), generate(default)).expect("made").sealed.key_id;
    assert!(north == south && north != other);
    assert_eq!(
        world.run(&admin(), DisableKey { key_id: north }).expect_err("default"),
        Error::DefaultKeyImmutable
    );
}

#[test]
fn two_renames_of_one_key_leave_one_name_that_leads_to_it() {
    let (hsm, store) = (Arc::new(FakeHsm::new()), Arc::new(FakeKeyStore::default()));
    let rival = Arc::new(World::on(hsm.clone(), store.clone(), None));
    let key = rival.create(&admin(), "x").expect("created");
    let rename = |alias: &str| UpdateKeyAlias { key_id: key.id, alias: creation(alias).alias };
    // The rival renames the key after its alias was read and before its record is.
    let (once, other, away) = (AtomicUsize::new(0), rival.clone(), rename("y"));
    let before_read = Box::new(move |keys: &[Vec<u8>]| {
        if keys[0].starts_with(b"k/") && once.fetch_add(1, Ordering::SeqCst) == 0 {
            let (other, away) = (other.clone(), away.clone());
            std::thread::spawn(move || other.run(&admin(), away).expect("renamed")).join().expect("no panic");
        }
    });
    let seen = BusyStore { inner: store.clone(), before_commit: Box::new(|_, _| None), before_read };
    let world = World::on(hsm, store, Some(Arc::new(seen)));
    world.run(&admin(), rename("x")).expect("renamed back");
    let named = |alias: &str| KeySelector::alias(alias).expect("an alias");
    assert_eq!(world.run(&admin(), DescribeKey { key: named("x") }).expect("its name").id, key.id);
    let gone = world.run(&admin(), DescribeKey { key: named("y") }).expect_err("no name any more");
    assert_eq!(gone, Error::KeyNotFound);
}
