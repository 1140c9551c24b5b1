//! Destroyed keys and the root keys that wrapped them.

use std::time::Duration;

use futures_executor::block_on;
use kms_core::{
    key::KeyId,
    ops::{DestroyedKeyPage, ListDestroyedKeys, PageSize, PendingDays, ScheduleKeyDeletion},
};

use super::support::{carry_out, generations, old_keys, operator, root, start, step};
use crate::support::{World, owner};

fn list(world: &World, size: u32, after: Option<KeyId>) -> DestroyedKeyPage {
    let size = PageSize::parse(size).expect("a size");
    world.run(&operator(), ListDestroyedKeys { size, after }).expect("an operator")
}

/// Destroys keys of these names, at the same time.
fn destroy(world: &World, names: &[&str]) -> Vec<KeyId> {
    let pending = PendingDays::parse(7).expect("a waiting time");
    let schedule = |name: &&str| {
        let key_id = world.key(&owner(), name).id;
        world.run(&owner(), ScheduleKeyDeletion { key: key_id.into(), pending }).expect("enabled");
        world.clock.advance(Duration::from_millis(1)); // ids rise with time
        key_id
    };
    let ids = names.iter().map(schedule).collect();
    world.clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
    for entry in block_on(world.service.due(None, 100)).expect("the store works").entries {
        block_on(world.service.carry_out(entry)).expect("nothing is in the way");
    }
    ids
}

fn finals(world: &World) -> Vec<(u32, bool)> {
    let keys = list(world, 0, None).keys.into_iter();
    keys.map(|key| (key.record.destroyed.expect("a tombstone").root_generation, key.is_final)).collect()
}

#[test]
fn a_destruction_is_final_when_the_root_keys_that_wrapped_it_are_destroyed() {
    let world = World::new();
    destroy(&world, &["first"]);
    assert_eq!(finals(&world), [(1, false)]);
    start(&world);
    destroy(&world, &["second"]);
    assert_eq!(old_keys(&world), [], "nothing of a tombstone is to be moved");
    assert_eq!(finals(&world), [(1, false), (2, false)]);
    step(&world).expect("a rotation is under way").expect("nothing is in the way");
    assert!(root(&world).all_moved() && generations(&world.hsm) == [1, 2]);
    assert_eq!(finals(&world), [(1, false), (2, false)], "the old root key is still there");
    carry_out(&world);
    assert_eq!(generations(&world.hsm), [2]);
    assert_eq!(finals(&world), [(1, true), (2, false)]);
    start(&world);
    assert_eq!(finals(&world), [(1, true), (2, false)], "the next rotation changes nothing about it");
}

#[test]
fn a_key_that_moved_before_its_end_needs_the_newer_root_key_destroyed_too() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    start(&world);
    carry_out(&world);
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: key_id.into(), pending }).expect("enabled");
    destroy(&world, &[]);
    assert_eq!(finals(&world), [(2, false)]);
}

#[test]
fn destroyed_keys_are_listed_by_pages_for_operators_alone() {
    let world = World::new();
    let ids = destroy(&world, &["a", "b", "c"]);
    world.key(&owner(), "alive");
    let page = list(&world, 2, None);
    let shown: Vec<_> = page.keys.iter().map(|key| (key.record.id, key.record.alias.as_str())).collect();
    assert_eq!((shown, page.next), (vec![(ids[0], "a"), (ids[1], "b")], Some(ids[1])));
    assert!(page.keys.iter().all(|key| key.record.versions.is_empty()));
    let last = list(&world, 2, page.next);
    assert_eq!((last.keys.len(), last.keys[0].record.id, last.next), (1, ids[2], None));
    let size = PageSize::parse(0).expect("a size");
    let denied = world.run(&owner(), ListDestroyedKeys { size, after: None });
    assert_eq!(denied.expect_err("no operator").code(), "PERMISSION_DENIED");
}
