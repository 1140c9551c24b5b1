//! The rotation of keys: by time, by hand, and what becomes of the versions.

use std::{thread, time::Duration};

use futures_executor::block_on;
use kms_core::{
    Error, Phase, Verdict,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{
        CancelKeyDeletion, DataKey, DisableKey, DisableKeyRotation, EnableKey, EnableKeyRotation,
        GetRotationStatus, KeySelector, PendingDays, RotateKeyOnDemand, RotationInterval,
        ScheduleKeyDeletion, UpdateRotationInterval,
    },
    ports::{HsmError, StoreError},
    testing::hsm::FakeHsm,
};

use crate::{
    rotation::support::{assert_opens, carry_out, describe, generations, start},
    support::{World, generate, key_path, owner},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn interval(days: u32) -> RotationInterval {
    RotationInterval::parse(days).expect("30 to 365")
}

/// A key that is rotated every `days`.
fn rotated(world: &World, days: u32) -> KeyId {
    let key_id = world.key(&owner(), "key").id;
    world
        .run(&owner(), EnableKeyRotation { key: key_id.into(), interval: interval(days) })
        .expect("off before");
    key_id
}

fn status(world: &World, key: KeyId) -> KeyRecord {
    let read = GetRotationStatus { key: KeySelector::Id(key) };
    KeyRecord::clone(&world.run(&owner(), read).expect("it exists"))
}

fn versions(world: &World, key: KeyId) -> usize {
    status(world, key).versions.len()
}

/// Does what is due, as the scheduler does it; answers how much that was.
fn carry_out_due(world: &World) -> Result<usize, Error> {
    let entries = block_on(world.service.due(None, 100)).expect("the store works").entries;
    for entry in &entries {
        block_on(world.service.carry_out(*entry)).map_err(|refused| refused.error().clone())?;
    }
    Ok(entries.len())
}

fn due(world: &World) -> usize {
    carry_out_due(world).expect("nothing is in the way")
}

fn seal(world: &World, key: KeyId) -> DataKey {
    world.run(&owner(), generate(KeySelector::Id(key))).expect("enabled")
}

fn by_hand(world: &World, key_id: KeyId) -> Result<KeyRecord, Error> {
    world.run(&owner(), RotateKeyOnDemand { key: key_id.into(), from_version: None })
}

#[test]
fn intervals_are_30_to_365_days() {
    for days in [0, 29, 366, u32::MAX] {
        assert_eq!(RotationInterval::parse(days).expect_err("out of range").code(), "INVALID_FIELD");
    }
    assert_eq!([interval(30), interval(365)][1], RotationInterval::DEFAULT);
}

#[test]
fn the_policy_is_set_changed_and_taken_away() {
    let world = World::new();
    let key_id = rotated(&world, 30);
    let policy = status(&world, key_id).rotation.expect("enabled");
    assert_eq!((policy.interval_days, policy.next), (30, status(&world, key_id).created.plus(DAY * 30)));
    let again = world.run(&owner(), EnableKeyRotation { key: key_id.into(), interval: interval(30) });
    assert_eq!(again, Err(Error::RotationAlreadyEnabled));

    world.clock.advance(DAY * 10);
    let update = UpdateRotationInterval { key: key_id.into(), interval: interval(90) };
    let policy = world.run(&owner(), update.clone()).expect("enabled").rotation.expect("enabled");
    assert_eq!((policy.interval_days, policy.next), (90, status(&world, key_id).created.plus(DAY * 100)));

    let off = world.run(&owner(), DisableKeyRotation { key: key_id.into() }).expect("enabled");
    assert_eq!(off.rotation, None);
    let twice = world.run(&owner(), DisableKeyRotation { key: key_id.into() });
    assert_eq!(
        (twice, world.run(&owner(), update)),
        (Err(Error::RotationNotEnabled), Err(Error::RotationNotEnabled))
    );
}

#[test]
fn a_due_rotation_makes_one_version_and_old_ones_still_open() {
    let world = World::new();
    let key = rotated(&world, 30);
    let first = seal(&world, key);
    world.clock.advance((DAY * 30).saturating_sub(Duration::from_micros(1)));
    due(&world);
    assert_eq!(versions(&world, key), 1, "not due yet");

    world.clock.advance(Duration::from_micros(1));
    let (_, records) = world.records_of(|| due(&world));
    let said: Vec<_> = records.iter().map(|record| (record.phase, record.verdict, record.reason)).collect();
    let cause = Some("SCHEDULED");
    assert_eq!(said, [(Phase::Intent, Verdict::Pending, cause), (Phase::Outcome, Verdict::Succeeded, cause)]);
    for record in &records {
        assert_eq!((record.operation, record.key_version), (OperationName::RotateKey, Some(2)));
        assert!(record.caller.is_none(), "nobody asked for it");
    }
    due(&world);
    assert_eq!(versions(&world, key), 2, "once is enough");
    let second = seal(&world, key);
    assert_eq!((first.sealed.key_version, second.sealed.key_version), (1, 2));
    for data_key in [&first, &second] {
        assert_opens(&world, &owner(), data_key);
    }
}

#[test]
fn a_year_that_was_slept_through_is_made_up_for_by_one_rotation() {
    let world = World::new();
    let key = rotated(&world, 30);
    world.clock.advance(DAY * 365);
    for _ in 0..20 {
        due(&world);
    }
    let key = status(&world, key);
    assert_eq!(key.versions.len(), 2);
    assert_eq!(key.rotation.expect("enabled").next, key.created.plus(DAY * (365 + 30)));
}

#[test]
fn a_key_that_is_not_enabled_is_rotated_once_it_is_again() {
    let world = World::new();
    let key_id = rotated(&world, 30);
    world.run(&owner(), DisableKey { key: key_id.into() }).expect("enabled");
    world.clock.advance(DAY * 31);
    due(&world);
    assert_eq!(versions(&world, key_id), 1);
    world.run(&owner(), EnableKey { key: key_id.into() }).expect("disabled");
    due(&world);
    assert_eq!(versions(&world, key_id), 2);

    let pending = PendingDays::parse(90).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: key_id.into(), pending }).expect("enabled");
    world.clock.advance(DAY * 31);
    due(&world);
    assert_eq!(versions(&world, key_id), 2);
    world.run(&owner(), CancelKeyDeletion { key: key_id.into() }).expect("pending");
    due(&world);
    assert_eq!(versions(&world, key_id), 2, "disabled now");
    world.run(&owner(), EnableKey { key: key_id.into() }).expect("disabled");
    due(&world);
    assert_eq!(versions(&world, key_id), 3);
}

#[test]
fn a_rotation_that_was_turned_off_is_not_made() {
    let world = World::new();
    let key_id = rotated(&world, 30);
    world.clock.advance(DAY * 31);
    world.run(&owner(), DisableKeyRotation { key: key_id.into() }).expect("enabled");
    assert_eq!((due(&world), versions(&world, key_id)), (0, 1));
}

#[test]
fn a_retry_by_hand_from_a_named_version_makes_no_second_one() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    let from_first = RotateKeyOnDemand { key: key_id.into(), from_version: Some(1) };
    for _ in 0..3 {
        let key = world.run(&owner(), from_first.clone()).expect("enabled");
        assert_eq!(key.versions.len(), 2);
    }
    assert_eq!(by_hand(&world, key_id).expect("enabled").versions.len(), 3);
}

#[test]
fn a_rotation_by_hand_leaves_the_plan_by_time_as_it_is() {
    let world = World::new();
    let key = rotated(&world, 30);
    let before = status(&world, key).rotation;
    world.clock.advance(DAY);
    assert_eq!(by_hand(&world, key).expect("enabled").rotation, before);
}

#[test]
fn rotations_at_once_make_a_version_each_and_all_of_them_open() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| by_hand(&world, key).expect("a conflict is tried again"));
        }
    });
    let numbers: Vec<u32> = status(&world, key).versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[test]
fn calls_by_hand_end_where_what_is_left_is_for_time_and_budgets() {
    let world = World::new();
    let key = rotated(&world, 30);
    let first = seal(&world, key);
    for _ in 1..128 {
        by_hand(&world, key).expect("within the bound");
    }
    let refused = by_hand(&world, key).expect_err("over the bound");
    assert_eq!(refused.code(), "QUOTA_EXCEEDED");
    assert_eq!(versions(&world, key), 128);
    world.clock.advance(DAY * 30);
    due(&world);
    assert_eq!(versions(&world, key), 129);
    assert_opens(&world, &owner(), &first);
}

#[test]
fn a_key_with_all_its_versions_is_tried_once_an_interval() {
    let world = World::new();
    let key = rotated(&world, 30);
    for _ in 1..128 {
        by_hand(&world, key).expect("within the bound");
    }
    for _ in 128..256 {
        world.clock.advance(DAY * 30);
        due(&world);
    }
    assert_eq!(versions(&world, key), 256);
    for _ in 0..2 {
        world.clock.advance(DAY * 30);
        let (done, records) = world.records_of(|| due(&world));
        let [intent, outcome] = &records[..] else { panic!("{records:?}") };
        assert_eq!((done, intent.phase, outcome.phase), (1, Phase::Intent, Phase::Outcome));
        assert_eq!((outcome.operation, outcome.key_id), (OperationName::RotateKey, Some(key)));
        assert_eq!((outcome.reason, outcome.key_version), (Some("VERSIONS_USED_UP"), None));
        assert_eq!((due(&world), versions(&world, key)), (0, 256), "said once");
    }
}

#[test]
fn all_versions_move_under_a_new_root_key() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let mut sealed = vec![seal(&world, key)];
    for _ in 0..40 {
        by_hand(&world, key).expect("enabled");
        sealed.push(seal(&world, key));
    }
    start(&world);
    // A version that is made while the root key changes is under the new one, among older ones.
    assert_eq!(
        by_hand(&world, key).expect("enabled").versions.last().expect("some").wrapped.root_generation,
        2
    );
    sealed.push(seal(&world, key));
    carry_out(&world);
    assert_eq!(generations(&world.hsm), [2]);
    let record = describe(&world, &owner(), key);
    assert_eq!(record.versions.len(), 42);
    assert!(record.versions.iter().all(|version| version.wrapped.root_generation == 2));
    let world = World::on(world.hsm.clone(), world.store.clone()).expect("the store belongs to the token");
    for (number, data_key) in (1..).zip(&sealed) {
        assert_eq!(data_key.sealed.key_version, number);
        assert_opens(&world, &owner(), data_key);
    }
}

#[test]
fn a_rotation_that_fails_changes_nothing_and_is_made_later() {
    let world = World::new();
    let key = rotated(&world, 30);
    world.clock.advance(DAY * 30);
    let before = world.store.value(&key_path(key));
    let hsm: &FakeHsm = &world.hsm;
    hsm.fail_next(HsmError::Busy);
    carry_out_due(&world).expect_err("the HSM is busy");
    let unavailable = StoreError::Unavailable { detail: "gone".into() };
    world.store.instead_of_commit(|_, _| Err(unavailable));
    carry_out_due(&world).expect_err("the store is gone");
    world.audit.fail_next(1);
    carry_out_due(&world).expect_err("the log is gone");
    assert_eq!(world.store.value(&key_path(key)), before);
    due(&world);
    assert_eq!(versions(&world, key), 2);
}
