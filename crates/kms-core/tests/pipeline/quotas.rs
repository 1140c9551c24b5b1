//! The quota of custom keys: no key too many, and no place lost.

use std::{thread, time::Duration};

use futures_executor::block_on;
use kms_core::{
    Error, Settings,
    error::Quota,
    ops::{CountKeys, CreateKey, DescribeQuotas, IdempotencyToken, PendingDays, ScheduleKeyDeletion},
    ports::HsmError,
};

use crate::support::{World, caller, create, finish, generate, obs, owner, poll};

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn limited(custom_keys: u64) -> World {
    World::with(Settings { custom_keys, ..Settings::default() })
}

fn used_up(limit: u64) -> Error {
    Error::QuotaExceeded(Quota { what: "custom keys", limit, used: limit })
}

#[test]
fn an_account_has_its_quota_in_each_region_and_destroyed_keys_give_places_back() {
    let world = limited(2);
    let doomed = world.key(&owner(), "a").id;
    world.run(&owner(), generate(obs())).expect("a default key is not counted");
    world.key(&owner(), "b");
    assert_eq!(world.run(&owner(), create("c")).expect_err("full"), used_up(2));
    let quotas = world.run(&owner(), DescribeQuotas).expect("it is permitted");
    assert_eq!((quotas.custom_keys, quotas.used_custom_keys), (2, 2));
    world.key(&caller("elsewhere", "cn-north-4"), "c");

    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: doomed.into(), pending }).expect("enabled");
    assert_eq!(world.run(&owner(), create("c")).expect_err("it may be kept yet"), used_up(2));
    world.clock.advance(WEEK);
    for entry in block_on(world.service.due(None, 100)).expect("the store works").entries {
        block_on(world.service.carry_out(entry)).expect("due");
    }
    assert_eq!(world.run(&owner(), CountKeys).expect("it is permitted"), 1);
    world.key(&owner(), "c");
    assert_eq!(world.run(&owner(), create("d")).expect_err("full"), used_up(2));
}

#[test]
fn of_creations_at_once_as_many_succeed_as_there_are_places() {
    let world = limited(2);
    world.key(&owner(), "first");
    world.hsm.hold();
    let mut one = world.begin(&owner(), create("one"));
    assert!(poll(&mut one).is_pending(), "the HSM is held");
    // The only place left is taken, by a key that may fail yet: neither granted nor refused.
    let mut other = world.begin(&owner(), create("other"));
    assert!(poll(&mut other).is_pending());
    assert_eq!(world.hsm.queued(), 1, "the second one does no work");
    world.hsm.release();
    finish(one).expect("it had the place");
    assert_eq!(finish(other).expect_err("none is left"), used_up(2));
}

#[test]
fn a_creation_that_fails_gives_its_place_back() {
    let world = limited(1);
    world.hsm.fail_next(HsmError::TimedOut);
    world.run(&owner(), create("a")).expect_err("the HSM fails");
    world.key(&owner(), "b");
}

#[test]
fn a_retry_that_waited_for_the_last_place_gets_its_key() {
    let world = limited(1);
    let repeated = || CreateKey {
        idempotency_token: Some(IdempotencyToken::parse("again").expect("a token")),
        ..create("a")
    };
    world.hsm.hold();
    let mut one = world.begin(&owner(), repeated());
    assert!(poll(&mut one).is_pending(), "the HSM is held");
    let mut again = world.begin(&owner(), repeated());
    assert!(poll(&mut again).is_pending());
    world.hsm.release();
    let made = finish(one).expect("it had the place");
    assert_eq!(finish(again).expect("the same").id, made.id);
}

#[test]
fn threads_never_get_more_than_there_are_places() {
    let world = limited(5);
    let made = thread::scope(|scope| {
        let runs = (0..16).map(|number| {
            let world = &world;
            scope.spawn(move || world.run(&owner(), create(&format!("k{number}"))).is_ok())
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter().filter_map(|run| run.join().expect("no panic").then_some(())).count()
    });
    assert_eq!((made, world.run(&owner(), CountKeys)), (5, Ok(5)));
}
