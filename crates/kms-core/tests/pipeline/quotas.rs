//! The quota of custom keys: no key too many, and no place lost.

use std::{thread, time::Duration};

use futures_executor::block_on;
use kms_core::{
    AccountQuotas, Error, QuotaTable, Settings,
    error::{Counted, Quota},
    ops::{
        CountKeys, CreateAlias, CreateKey, CreateTag, DescribeQuotas, FurtherAlias, IdempotencyToken,
        PendingDays, ScheduleKeyDeletion, Tags,
    },
    ports::HsmError,
};

use crate::support::{World, caller, create, finish, generate, grant, obs, owner, poll};

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn limited(custom_keys: u64) -> World {
    let quotas = AccountQuotas { custom_keys, ..AccountQuotas::default() };
    World::with(Settings { quotas, ..Settings::default() })
}

fn used_up(limit: u64) -> Error {
    Error::QuotaExceeded(Quota { what: Counted::CustomKeys, limit, used: limit })
}

#[test]
fn an_account_has_its_quota_in_each_region_and_destroyed_keys_give_places_back() {
    let world = limited(2);
    let doomed = world.key(&owner(), "a").id;
    world.run(&owner(), generate(obs())).expect("a default key is not counted");
    world.key(&owner(), "b");
    assert_eq!(world.run(&owner(), create("c")).expect_err("full"), used_up(2));
    let quotas = world.run(&owner(), DescribeQuotas).expect("it is permitted");
    assert_eq!((quotas.limits.custom_keys, quotas.used_custom_keys), (2, 2));
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
fn quotas_are_replaced_while_calls_come_and_an_account_may_have_its_own() {
    let world = limited(2);
    let key = world.key(&owner(), "a").id;
    let few = AccountQuotas { custom_keys: 1, grants_per_key: 1, aliases_per_key: 1, tags_per_key: 1 };
    let replace = |own: Option<AccountQuotas>| {
        let accounts = own.into_iter().map(|own| (owner().account, own)).collect();
        world.service.replace_quotas(QuotaTable { default: few, accounts });
    };
    let name = |number: u8| FurtherAlias::parse(&format!("alias/{number}")).expect("an alias");
    let add = |number: u8| {
        let tag = CreateTag::new(key.into(), &format!("t{number}"), "").expect("a tag");
        [
            world.run(&owner(), tag).err(),
            world.run(&owner(), CreateAlias { key: key.into(), alias: name(number) }).err(),
            world.run(&owner(), grant(key)).err(),
        ]
    };
    let full = |what, limit| Some(Error::QuotaExceeded(Quota { what, limit, used: limit }));
    let all_full = |limit| {
        [Counted::TagsOfKey, Counted::AliasesOfKey, Counted::GrantsOfKey].map(|what| full(what, limit))
    };
    replace(None);
    assert_eq!(add(1), [None, None, None]);
    assert_eq!(add(2), all_full(1));
    assert_eq!(world.run(&owner(), create("b")).expect_err("full"), used_up(1));
    let tags = Tags::parse([("x", ""), ("y", "")]).expect("tags");
    let tagged = CreateKey { tags, ..create("b") };
    replace(Some(AccountQuotas { custom_keys: 3, ..few }));
    let refused = world.run(&owner(), tagged.clone()).expect_err("two tags are too many for a new key, too");
    assert_eq!(refused, Error::QuotaExceeded(Quota { what: Counted::TagsOfKey, limit: 1, used: 0 }));

    let own = AccountQuotas { custom_keys: 3, grants_per_key: 2, aliases_per_key: 2, tags_per_key: 2 };
    replace(Some(own));
    assert_eq!(world.run(&owner(), DescribeQuotas).expect("it is permitted").limits, own);
    assert_eq!(add(2), [None, None, None]);
    assert_eq!(add(3), all_full(2));
    world.run(&owner(), tagged).expect("there is room");
    let other = caller("elsewhere", "cn-north-4");
    world.key(&other, "a");
    assert_eq!(world.run(&other, create("b")).expect_err("full"), used_up(1));

    // Lowered, they take nothing away, and what is there can be changed.
    replace(None);
    assert_eq!(
        add(3),
        [Counted::TagsOfKey, Counted::AliasesOfKey, Counted::GrantsOfKey]
            .map(|what| { Some(Error::QuotaExceeded(Quota { what, limit: 1, used: 2 })) })
    );
    let changed = CreateTag::new(key.into(), "t1", "other").expect("a tag");
    assert_eq!(world.run(&owner(), changed).expect("no tag more").tags["t1"], "other");
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
