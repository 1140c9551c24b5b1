//! Callers of two services on one store who want the same thing at the same time.
//!
//! All of them read before the HSM goes on, and commit after it: that is the race, made certain.

use std::{collections::HashSet, thread};

use kms_core::{
    Error, Phase,
    ops::{CreateKey, DescribeKey, IdempotencyToken, Operation, UpdateKeyAlias},
};

use crate::support::{World, alias, create, finish, generate, obs, owner, poll};

/// Runs one operation on each service at once: both have read the store before one of them commits.
fn race<O: Operation>(worlds: &[World; 2], operations: [O; 2]) -> [Result<O::Output, Error>; 2] {
    worlds[0].hsm.hold();
    let [one, other] = operations;
    let mut running = [worlds[0].begin(&owner(), one), worlds[1].begin(&owner(), other)];
    for one in &mut running {
        assert!(poll(one).is_pending(), "the HSM is held");
    }
    assert_eq!(worlds[0].hsm.queued(), 2, "both have read, and both ask for an id");
    worlds[0].hsm.release();
    running.map(finish)
}

fn two_services() -> [World; 2] {
    let world = World::new();
    let sibling = world.sibling();
    [world, sibling]
}

#[test]
fn a_race_for_a_default_key_makes_one() {
    let worlds = two_services();
    let [one, other] = race(&worlds, [generate(obs()), generate(obs())])
        .map(|made| made.expect("both get a data key").sealed);
    assert_eq!(one.key_id, other.key_id);
    assert_eq!((worlds[0].store.under(b"k/").len(), worlds[0].store.under(b"d/").len()), (1, 1));
    for world in &worlds {
        assert!(world.open_intents().is_empty());
        let record = world.audit.records().pop().expect("a record");
        assert_eq!((record.phase, record.key_id), (Phase::Complete, Some(one.key_id)));
    }
}

#[test]
fn a_race_for_an_alias_has_one_winner() {
    let worlds = two_services();
    let results = race(&worlds, [create("same"), create("same")]);
    let [Ok(_), Err(error)] = results else { panic!("one key, not {results:?}") };
    assert_eq!(error, Error::AliasExists);
    assert_eq!(worlds[0].store.under(b"k/").len(), 1);
    let outcome = worlds[1].audit.records().pop().expect("a record");
    assert_eq!((outcome.phase, outcome.reason), (Phase::Outcome, Some("ALIAS_EXISTS")));
}

#[test]
fn a_race_of_retries_answers_one_key() {
    let worlds = two_services();
    let request = with_token("same");
    let [one, other] = race(&worlds, [request.clone(), request]).map(|made| made.expect("both get the key"));
    assert_eq!(one, other);
    assert_eq!(worlds[0].store.under(b"k/").len(), 1);
    let outcome = worlds[1].audit.records().pop().expect("a record");
    assert_eq!((outcome.phase, outcome.key_id), (Phase::Outcome, Some(one.id)), "names the key that exists");
}

#[test]
fn a_race_of_two_requests_with_one_token_has_one_winner() {
    let worlds = two_services();
    let results = race(&worlds, [with_token("one"), with_token("other")]);
    let [Ok(_), Err(error)] = results else { panic!("one key, not {results:?}") };
    assert_eq!(error, Error::IdempotencyTokenReused);
    assert_eq!(worlds[0].store.under(b"k/").len(), 1);
}

fn with_token(alias: &str) -> CreateKey {
    let token = IdempotencyToken::parse("token").expect("a token");
    CreateKey { idempotency_token: Some(token), ..create(alias) }
}

#[test]
fn many_threads_get_one_default_key_and_one_alias() {
    const THREADS: usize = 8;
    let worlds = two_services();
    let results: Vec<_> = thread::scope(|scope| {
        let spawn = |number: usize| {
            let world = &worlds[number % worlds.len()];
            scope.spawn(move || (world.run(&owner(), generate(obs())), world.run(&owner(), create("same"))))
        };
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let ids: HashSet<_> = results
        .iter()
        .map(|(made, _)| made.as_ref().expect("the log and the store work").sealed.key_id)
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let created = results.iter().filter(|(_, created)| created.is_ok()).count();
    let refused = results.iter().filter(|(_, created)| *created == Err(Error::AliasExists)).count();
    assert_eq!((created, refused), (1, THREADS - 1));
    assert!(worlds.iter().all(|world| world.open_intents().is_empty()));
}

#[test]
fn two_renames_of_one_key_leave_one_name_that_leads_to_it() {
    let [world, rival] = two_services();
    let key = world.key(&owner(), "x").id;
    let rename = |alias: &str| UpdateKeyAlias { key: (key).into(), alias: create(alias).alias };
    let away = rename("y");
    // The rival renames the key after its alias was read, and before its record is.
    world.store.before_read(b"k/", move || {
        let renamed = thread::spawn(move || rival.run(&owner(), away).map(|_| ()));
        assert_eq!(renamed.join().expect("no panic"), Ok(()));
    });
    world.run(&owner(), rename("x")).expect("renamed back");
    let named = |name: &str| world.run(&owner(), DescribeKey { key: alias(name) }).map(|found| found.id);
    assert_eq!((named("x"), named("y")), (Ok(key), Err(Error::KeyNotFound)));
}

#[test]
fn a_name_that_goes_to_another_key_during_its_use_is_no_alarm() {
    let [world, rival] = two_services();
    let (first, second) = (world.key(&owner(), "x").id, world.key(&owner(), "other").id);
    let rename =
        |id: kms_core::key::KeyId, name: &str| UpdateKeyAlias { key: id.into(), alias: create(name).alias };
    let moves = [rename(first, "y"), rename(second, "x")];
    // The rival moves the name after it was looked up, and before the key's record is read.
    world.store.before_read(b"k/", move || {
        let moved = thread::spawn(move || moves.map(|rename| rival.run(&owner(), rename).map(|_| ())));
        assert_eq!(moved.join().expect("no panic"), [Ok(()), Ok(())]);
    });
    let found = world.run(&owner(), DescribeKey { key: alias("x") });
    assert_eq!(found.map(|key| key.id), Ok(second));
}

#[test]
fn management_takes_aliases_and_urns_of_the_callers_own() {
    let world = World::new();
    let id = world.key(&owner(), "x").id;
    let disable = |text: &str| kms_core::ops::DisableKey {
        key: kms_core::ops::KeySelector::parse(text).expect("a name"),
    };
    for foreign in ["kms:cn-east-3:acme:alias:x", "kms:cn-north-4:zeta:alias:x", "y"] {
        assert_eq!(world.run(&owner(), disable(foreign)), Err(Error::KeyNotFound), "{foreign}");
    }
    assert_eq!(world.run(&owner(), disable("kms:cn-north-4:acme:alias:x")).map(|key| key.id), Ok(id));
    assert_eq!(world.run(&owner(), disable("x")), Err(Error::KeyNotEnabled));
    assert_eq!(world.run(&owner(), disable("obs/default")), Err(Error::KeyNotFound));
    world.run(&owner(), generate(obs())).expect("made on first use");
    assert_eq!(world.run(&owner(), disable("obs/default")), Err(Error::DefaultKeyImmutable));
}
