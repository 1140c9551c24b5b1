//! What falls due: entries of the store that follow the records.

use std::time::Duration;

use kms_core::{
    key::KeyId,
    ops::{CancelKeyDeletion, Description, PendingDays, ScheduleKeyDeletion, UpdateKeyDescription},
};

use crate::support::{World, owner};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn schedule(world: &World, key_id: KeyId, days: u32) {
    let pending = PendingDays::parse(days).expect("a waiting time");
    world
        .run(&owner(), ScheduleKeyDeletion { key: key_id.into(), pending })
        .expect("it waits for nothing yet");
}

/// Where the deletion of a key is listed that is due after so many days from the clock's time.
fn deletion_entry(at_micros: i64, key_id: KeyId) -> Vec<u8> {
    [b"s/", &at_micros.to_be_bytes()[..], &[1], key_id.as_bytes()].concat()
}

#[test]
fn a_scheduled_deletion_is_listed_until_it_is_cancelled() {
    let world = World::new();
    let (key_id, other) = (world.key(&owner(), "key").id, world.key(&owner(), "other").id);
    assert!(world.store.under(b"s/").is_empty());
    world.clock.advance(Duration::from_micros(1));
    schedule(&world, key_id, 30);
    schedule(&world, other, 7);
    let now = 1_795_526_645_000_001;
    let entry = |days: u32, key_id| deletion_entry(now + i64::from(days) * 86_400_000_000, key_id);
    let listed =
        |world: &World| world.store.under(b"s/").into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(listed(&world), [entry(7, other), entry(30, key_id)], "in the order of time");

    world.run(&owner(), CancelKeyDeletion { key: key_id.into() }).expect("it waits");
    assert_eq!(listed(&world), [entry(7, other)]);
    world.clock.advance(DAY);
    schedule(&world, key_id, 7);
    assert_eq!(listed(&world), [entry(7, other), entry(8, key_id)]);
    world.run(&owner(), CancelKeyDeletion { key: (other).into() }).expect("it waits");
    let description = Description::parse("described").expect("a description");
    world.run(&owner(), UpdateKeyDescription { key: (other).into(), description }).expect("disabled");
    assert_eq!(listed(&world), [entry(8, key_id)]);
}
