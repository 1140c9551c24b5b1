//! The budget of keys that seal in the HSM: every use is counted in the store before it is made.

use std::{collections::BTreeMap, thread};

use futures_executor::block_on;
use kms_core::{
    Call, Error, Phase, Record, SecretBytes, Settings, Verdict,
    key::{KeyId, KeyRecord, Scheme},
    operation::{Action, OperationName},
    ops::{DecryptDataKey, DescribeKey, DisableKey, EncryptDataKey, KeySelector, SealedDataKey},
    ports::{HsmError, KeyStore as _, StoreError},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::support::{PATIENCE, World, context, finish, generate, key_path, now, obs, owner, poll, with};

fn settings(in_hsm_budget: u64) -> Settings {
    Settings { aes_256: Scheme::InHsm, in_hsm_budget, ..Settings::default() }
}

fn world(budget: u64) -> (World, KeyId) {
    let world = World::with(settings(budget));
    let key = world.key(&owner(), "key").id;
    (world, key)
}

fn seal(world: &World, key: KeyId) -> Result<SealedDataKey, Error> {
    world.run(&owner(), generate(KeySelector::Id(key))).map(|made| made.sealed)
}

fn record(world: &World, key: KeyId) -> KeyRecord {
    world.run(&owner(), DescribeKey { key: KeySelector::Id(key) }).expect("it exists")
}

fn reserved(world: &World, key: KeyId) -> Vec<u64> {
    record(world, key).versions.iter().map(|version| version.reserved_uses).collect()
}

/// How many changes of this kind the log says to have succeeded.
fn count(records: &[Record], operation: OperationName) -> usize {
    let ended = |record: &&Record| record.phase == Phase::Outcome && record.verdict == Verdict::Succeeded;
    records.iter().filter(|record| record.operation == operation).filter(ended).count()
}

#[test]
fn a_budget_of_a_thousand_is_a_thousand_uses_and_then_a_new_version_follows() {
    let (world, key) = world(1000);
    let cipher = world.hsm.calls().cipher;
    let mut by_version: BTreeMap<u32, u64> = BTreeMap::new();
    let mut first = None;
    for _ in 0..1005 {
        let sealed = seal(&world, key).expect("a new version follows by itself");
        *by_version.entry(sealed.key_version).or_default() += 1;
        first.get_or_insert(sealed);
    }
    assert_eq!(by_version, BTreeMap::from([(1, 1000), (2, 5)]));
    assert_eq!(world.hsm.calls().cipher - cipher, 1005, "every use of the cipher is one that was counted");
    assert_eq!(reserved(&world, key), [1000, 10]);
    let records = world.audit.records();
    let made = [OperationName::ReserveKeyUses, OperationName::RotateKey].map(|name| count(&records, name));
    assert_eq!(made, [101, 1], "a hundred blocks of ten, one rotation, one block");
    let first = first.expect("1005 of them").ciphertext;
    let opened = world.run(&owner(), DecryptDataKey::new(&first, None, context()).expect("well-formed"));
    assert_eq!(opened.expect("old versions open").key_version, 1);
    assert_eq!(reserved(&world, key), [1000, 10], "opening is not counted");
}

#[test]
fn the_smallest_budget_makes_a_version_for_each_use() {
    let (world, key) = world(1);
    let versions: Vec<u32> =
        (0..4).map(|_| seal(&world, key).expect("rotates by itself").key_version).collect();
    assert_eq!((versions, reserved(&world, key)), (vec![1, 2, 3, 4], vec![1; 4]));
}

#[test]
fn a_restart_forfeits_what_was_reserved_and_never_exceeds_the_budget() {
    const USED: usize = 7; // of each block of 10
    let (mut world, key) = world(1000);
    let cipher = world.hsm.calls().cipher;
    for start in 1..=100 {
        for _ in 0..USED {
            assert_eq!(seal(&world, key).expect("within the budget").key_version, 1, "start {start}");
        }
        world = world.sibling();
        assert_eq!(reserved(&world, key), [start * 10]);
    }
    assert_eq!(world.hsm.calls().cipher - cipher, 100 * USED as u64);
    assert_eq!(seal(&world, key).expect("a new version").key_version, 2);
    assert_eq!(reserved(&world, key), [1000, 10]);
}

/// Seals from many threads at once; how often each version was used.
fn seal_from_threads(worlds: &[World], key: KeyId, calls: usize) -> BTreeMap<u32, u64> {
    const THREADS: usize = 8;
    let mut by_version = BTreeMap::new();
    thread::scope(|scope| {
        let one = |world: &World| -> Vec<u32> {
            (0..calls).map(|_| seal(world, key).expect("nothing fails").key_version).collect()
        };
        let threads: Vec<_> =
            (0..THREADS).map(|number| scope.spawn(move || one(&worlds[number % worlds.len()]))).collect();
        for version in threads.into_iter().flat_map(|thread| thread.join().expect("no panic")) {
            *by_version.entry(version).or_default() += 1;
        }
    });
    by_version
}

#[test]
fn threads_use_up_each_version_exactly() {
    let (world, key) = world(100); // blocks of one: each use is a reservation
    let cipher = world.hsm.calls().cipher;
    let by_version = seal_from_threads(std::slice::from_ref(&world), key, 50);
    assert_eq!(by_version, (1..=4).map(|version| (version, 100)).collect());
    assert_eq!(world.hsm.calls().cipher - cipher, 400);
    assert_eq!(reserved(&world, key), [100; 4]);
    assert_eq!(count(&world.audit.records(), OperationName::RotateKey), 3);
    assert!(world.open_intents().is_empty());
}

#[test]
fn two_services_on_one_store_never_use_a_version_more_often_than_its_budget() {
    let (world, key) = world(200);
    let worlds = [world.sibling(), world];
    let by_version = seal_from_threads(&worlds, key, 100);
    assert_eq!(by_version.values().sum::<u64>(), 800);
    let reserved = reserved(&worlds[0], key);
    for (version, used) in by_version {
        let reserved = reserved[version as usize - 1];
        assert!(used <= reserved && reserved <= 200, "version {version}: {used} of {reserved}");
    }
    let [one, other] = worlds.map(|world| world.audit.records());
    let told: usize = [one, other].iter().map(|records| count(records, OperationName::ReserveKeyUses)).sum();
    let blocks = reserved.iter().sum::<u64>() / 2;
    assert!(told as u64 >= blocks, "{blocks} blocks of two, {told} records of them");
}

#[test]
fn of_many_callers_in_flight_one_reserves_for_all() {
    let (world, key) = world(10_000); // blocks of a hundred
    world.audit.hold();
    let mut running: Vec<_> =
        (0..50).map(|_| world.begin(&owner(), generate(KeySelector::Id(key)))).collect();
    for one in &mut running {
        assert!(poll(one).is_pending());
    }
    assert_eq!(world.audit.held(), 1, "the one intent");
    world.audit.release();
    for one in running {
        finish(one).expect("each gets a use");
    }
    assert_eq!(count(&world.audit.records(), OperationName::ReserveKeyUses), 1);
    assert_eq!(reserved(&world, key), [100]);
}

#[test]
fn a_failed_reservation_refuses_all_who_wait_for_it_and_seals_nothing() {
    let (world, key) = world(1000);
    world.audit.hold();
    let mut running: Vec<_> = (0..5).map(|_| world.begin(&owner(), generate(KeySelector::Id(key)))).collect();
    for one in &mut running {
        assert!(poll(one).is_pending());
    }
    world.audit.release();
    world.store.instead_of_commit(|_, _| Err(StoreError::Unavailable { detail: "disk full".to_owned() }));
    let (calls, commits) = (world.hsm.calls(), world.store.commits());
    for one in running {
        assert_eq!(finish(one).expect_err("nothing is reserved").code(), "STORE_UNAVAILABLE");
    }
    assert_eq!((world.hsm.calls(), world.store.commits()), (calls, commits + 1));
    assert_eq!(reserved(&world, key), [0]);
    seal(&world, key).expect("the store works again");
    assert!(world.open_intents().is_empty());
}

#[test]
fn what_cannot_be_recorded_is_not_reserved() {
    let (world, key) = world(1000);
    world.audit.fail_next(1);
    let cipher = world.hsm.calls().cipher;
    assert_eq!(seal(&world, key).expect_err("no intent").code(), "AUDIT_UNAVAILABLE");
    assert_eq!(reserved(&world, key), [0]);
    // The commit happens, its outcome is not recorded: what was reserved is forfeited.
    let audit = world.audit.clone();
    world.store.instead_of_commit(move |store, transaction| {
        audit.fail_next(1);
        now(store.transact(transaction))
    });
    assert_eq!(seal(&world, key).expect_err("no outcome").code(), "OUTCOME_UNKNOWN");
    assert_eq!((world.hsm.calls().cipher, reserved(&world, key)), (cipher, vec![10]));
    seal(&world, key).expect("the log works again");
    assert_eq!(reserved(&world, key), [20]);
}

#[test]
fn a_failed_rotation_refuses_the_call_and_the_spent_version_seals_no_more() {
    let (world, key) = world(1);
    seal(&world, key).expect("the one use");
    let cipher = world.hsm.calls().cipher;
    for _ in 0..3 {
        world.hsm.fail_next(HsmError::NotOffered { feature: "AES-GCM" });
        let error = seal(&world, key).expect_err("no new version");
        assert_eq!(error.code(), "HSM_UNAVAILABLE");
    }
    assert_eq!((world.hsm.calls().cipher, reserved(&world, key)), (cipher, vec![1]));
    assert_eq!(seal(&world, key).expect("the HSM makes keys again").key_version, 2);
    assert!(world.open_intents().is_empty());
}

/// Another service seals while a commit of this one is under way.
fn seal_meanwhile(rival: World, key: KeyId, times: usize) {
    let sealed = thread::spawn(move || (0..times).all(|_| seal(&rival, key).is_ok()));
    assert!(sealed.join().expect("no panic"));
}

#[test]
fn a_conflict_in_the_store_loses_no_count() {
    let (world, key) = world(1000);
    let rival = world.sibling();
    world.store.instead_of_commit(move |store, transaction| {
        seal_meanwhile(rival, key, 1);
        now(store.transact(transaction))
    });
    let (sealed, records) = world.records_of(|| seal(&world, key));
    sealed.expect("tried again");
    assert_eq!(reserved(&world, key), [20], "a block for each service");
    let phases: Vec<_> = records.iter().map(|record| record.phase).collect();
    assert_eq!(phases, [Phase::Intent, Phase::Outcome, Phase::Complete]);
}

#[test]
fn a_version_that_another_service_rotated_away_is_left() {
    let (world, key) = world(100);
    seal(&world, key).expect("a block of one, used");
    let rival = world.sibling();
    world.store.instead_of_commit(move |store, transaction| {
        seal_meanwhile(rival, key, 100); // 99 uses of version 1, one of version 2
        now(store.transact(transaction))
    });
    assert_eq!(seal(&world, key).expect("goes on").key_version, 2);
    assert_eq!(reserved(&world, key), [100, 2]);
    let overtaken = world.audit.records().into_iter().find(|record| record.reason == Some("OVERTAKEN"));
    let overtaken = overtaken.expect("the reservation that was not needed is told");
    assert_eq!((overtaken.phase, overtaken.verdict), (Phase::Outcome, Verdict::Succeeded));
    assert_eq!((overtaken.key_version, overtaken.state_digest), (Some(1), None));
}

#[test]
fn parts_of_a_call_are_recorded_with_its_caller_and_ids_of_their_own() {
    use OperationName::{GenerateDataKey, ReserveKeyUses, RotateKey};
    let (world, key) = world(1);
    seal(&world, key).expect("the one use");
    let (sealed, records) = world.records_of(|| seal(&world, key));
    sealed.expect("rotates by itself");
    let told: Vec<_> = records
        .iter()
        .map(|record| (record.operation, record.phase, record.key_version, record.reason))
        .collect();
    let expected = [
        (RotateKey, Phase::Intent, Some(2), Some("BUDGET_SPENT")),
        (RotateKey, Phase::Outcome, Some(2), Some("BUDGET_SPENT")),
        (ReserveKeyUses, Phase::Intent, Some(2), None),
        (ReserveKeyUses, Phase::Outcome, Some(2), None),
        (GenerateDataKey, Phase::Complete, Some(2), None),
    ];
    assert_eq!(told, expected);
    for record in &records {
        assert_eq!(record.key_id, Some(key));
        assert_eq!(record.caller.as_ref().map(|caller| &caller.user), Some(&owner().user));
    }
    let ids: Vec<_> = records.iter().map(|record| record.request_id).collect();
    assert!(ids[0] == ids[1] && ids[2] == ids[3], "an intent and its outcome share an id");
    assert!(ids[1] != ids[2] && ids[3] != ids[4] && ids[1] != ids[4], "{ids:?}");
    let part = |number: u32| {
        let call = ids[4].into_bytes();
        let digest = Sha256::digest([&b"dewpoint/v1/part"[..], &call, &number.to_be_bytes()].concat());
        let bytes: [u8; 16] = digest[..16].try_into().expect("16 bytes");
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    };
    assert_eq!((ids[0], ids[2]), (part(1), part(2)), "as docs/audit-format.md says");
    let stored: [u8; 32] = Sha256::digest(world.store.value(&key_path(key))).into();
    assert_eq!(records[3].state_digest, Some(stored));
}

#[test]
fn the_permission_of_the_call_suffices_for_its_parts() {
    let (world, key) = world(1);
    let selector = KeySelector::Id(key);
    let may_create = with([Action::DekCreate].into_iter().collect());
    let may_crypto = with([Action::DekCrypto].into_iter().collect());
    for version in [1, 3] {
        let made = world.run(&may_create, generate(selector.clone())).expect("its one permission");
        assert_eq!(made.sealed.key_version, version);
        let encrypt = EncryptDataKey::new(selector.clone(), SecretBytes::new(vec![1]), context());
        let sealed = world.run(&may_crypto, encrypt.expect("short")).expect("its one permission");
        assert_eq!(sealed.key_version, version + 1);
    }
}

#[test]
fn an_altered_or_older_count_is_noticed() {
    let (world, key) = world(1000);
    let path = key_path(key);
    let mut values = Vec::new();
    for uses in [1, 10] {
        (0..uses).for_each(|_| drop(seal(&world, key).expect("within the budget")));
        values.push(world.store.value(&path));
    }
    assert_eq!((reserved(&world, key), values[0].len()), (vec![20], values[1].len()));
    let mac = values[1].len() - 32;
    world.store.overwrite(&path, [&values[0][..mac], &values[1][mac..]].concat());
    assert_eq!(seal(&world, key).expect_err("altered").code(), "RECORD_TAMPERED");
    // A whole older record is authentic: it may be used as long as uses are left, but not to begin anew.
    world.store.overwrite(&path, values[0].clone());
    let cipher = world.hsm.calls().cipher;
    let refused = (0..20).map(|_| seal(&world, key)).find_map(Result::err).expect("the block ends");
    assert_eq!(refused.code(), "RECORD_TAMPERED");
    assert!(world.hsm.calls().cipher - cipher < 10);
}

#[test]
fn a_disabled_key_reserves_nothing() {
    let (world, key_id) = world(1000);
    world.audit.hold();
    let mut running = world.begin(&owner(), generate(KeySelector::Id(key_id)));
    assert!(poll(&mut running).is_pending());
    world.audit.release();
    world.sibling().run(&owner(), DisableKey { key: key_id.into() }).expect("enabled before");
    assert_eq!(finish(running).expect_err("disabled meanwhile"), Error::KeyDisabled);
    assert_eq!(reserved(&world, key_id), [0]);
}

#[test]
fn a_call_that_may_be_dropped_is_given_back_before_it_changes_anything() {
    let (world, key) = world(1000);
    let begin = || {
        let call = Call { request_id: Uuid::new_v4(), caller: owner(), patience: PATIENCE, dry_run: false };
        world.service.run_droppable(call, Ok(generate(KeySelector::Id(key))))
    };
    let records = world.audit.records().len();
    let Err((call, operation)) = block_on(begin()) else { panic!("nothing is reserved yet") };
    assert_eq!(world.audit.records().len(), records);
    assert_eq!(reserved(&world, key), [0]);
    block_on(world.service.run(call, operation)).expect("driven");
    for _ in 1..10 {
        block_on(begin()).expect("uses are left").expect("enabled");
    }
    assert!(block_on(begin()).is_err(), "the block is used up");
}

#[test]
fn a_reserving_caller_that_dies_half_way_does_not_hold_up_the_others() {
    let (world, key) = world(1000);
    world.audit.hold();
    let mut running = [(); 3].map(|()| world.begin(&owner(), generate(KeySelector::Id(key))));
    for one in &mut running {
        assert!(poll(one).is_pending());
    }
    let [reserving, second, third] = running;
    drop(reserving);
    world.audit.release();
    for one in [second, third] {
        finish(one).expect("another one reserves");
    }
    assert_eq!(reserved(&world, key), [10]);
}

#[test]
fn the_trace_of_one_part_says_nothing_of_the_next() {
    let world = World::with(settings(1000));
    // The default key is made by this call, and then its uses are reserved: two changes.
    world.store.instead_of_commit(|store, transaction| now(store.transact(transaction)));
    world.store.instead_of_commit(|_, _| Err(StoreError::Unknown { detail: "time-out".to_owned() }));
    let error = world.run(&owner(), generate(obs())).expect_err("nothing is reserved");
    assert_eq!(error.code(), "STORE_UNAVAILABLE");
    let made = world.run(&owner(), generate(obs())).expect("the store works again");
    assert_eq!(reserved(&world, made.sealed.key_id), [10]);
}
