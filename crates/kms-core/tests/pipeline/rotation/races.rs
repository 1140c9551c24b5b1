//! Changes that were under way when a rotation began or ended.

use std::thread;

use kms_core::{
    Error,
    ops::{Operation, UpdateKeyDescription},
    ports::KeyStore as _,
};

use super::support::{carry_out, describe, generations, old_keys, rewrap, root, start};
use crate::support::{World, create, generate, key_path, now, obs, owner};

/// Runs `operation`; between its work in the HSM and its commit, another service does `meanwhile`.
fn run_while<O: Operation>(
    world: &World,
    operation: O,
    meanwhile: impl FnOnce(&World) + Send + 'static,
) -> Result<O::Output, Error> {
    before_commit(world, meanwhile);
    world.run(&owner(), operation)
}

fn before_commit(world: &World, meanwhile: impl FnOnce(&World) + Send + 'static) {
    let rival = world.sibling();
    world.store.instead_of_commit(move |store, transaction| {
        thread::spawn(move || meanwhile(&rival)).join().expect("no panic");
        now(store.transact(transaction))
    });
}

#[test]
fn a_creation_that_began_before_a_rotation_is_not_committed_under_the_old_root() {
    let world = World::new();
    let key = run_while(&world, create("key"), |rival| drop(start(rival))).expect("tried again");
    assert_eq!(key.versions[0].wrapped.root_generation, 2);
    assert_eq!(describe(&world, &owner(), key.id), key);
    assert_eq!(world.hsm.calls().generate, 2, "the first one was thrown away");
    assert!(old_keys(&world).is_empty());
}

#[test]
fn a_creation_that_began_before_a_whole_rotation_is_not_committed_under_a_root_that_is_gone() {
    let world = World::new();
    let whole = |rival: &World| {
        start(rival);
        carry_out(rival);
    };
    let key = run_while(&world, create("key"), whole).expect("tried again");
    assert_eq!((key.versions[0].wrapped.root_generation, generations(&world.hsm)), (2, vec![2]));
    world.run(&owner(), generate(kms_core::ops::KeySelector::Id(key.id))).expect("it works");
}

#[test]
fn the_making_of_a_default_key_is_held_to_the_same() {
    let world = World::new();
    let sealed = run_while(&world, generate(obs()), |rival| drop(start(rival))).expect("tried again").sealed;
    let key = describe(&world, &owner(), sealed.key_id);
    assert_eq!(key.versions[0].wrapped.root_generation, 2);
}

#[test]
fn a_rewrapping_of_an_earlier_rotation_is_not_committed_in_a_later_one() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    start(&world);
    before_commit(&world, move |rival| {
        rewrap(rival, key).expect("the token works");
        carry_out(rival);
        start(rival);
    });
    rewrap(&world, key).expect("tried again");
    assert_eq!(describe(&world, &owner(), key).versions[0].wrapped.root_generation, 3);
    carry_out(&world);
    assert_eq!(generations(&world.hsm), [3]);
}

#[test]
fn a_change_of_a_key_and_its_rewrapping_lose_neither() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    start(&world);
    before_commit(&world, move |rival| {
        let description = kms_core::ops::Description::parse("by another").expect("short");
        rival
            .run(&owner(), UpdateKeyDescription { key: key_id.into(), description })
            .expect("nobody is faster");
    });
    rewrap(&world, key_id).expect("tried again");
    let key = describe(&world, &owner(), key_id);
    assert_eq!((&*key.description, key.versions[0].wrapped.root_generation), ("by another", 2));
}

#[test]
fn keys_that_come_during_the_pass_do_not_disturb_it() {
    let world = World::new();
    start(&world);
    before_commit(&world, |rival| drop(rival.key(&owner(), "late")));
    futures_executor::block_on(world.service.forget_roots()).expect("it is under the new root");
    assert!(root(&world).all_moved());
}

#[test]
fn a_retirement_that_an_older_pass_justified_is_not_committed_in_a_later_rotation() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    start(&world);
    rewrap(&world, key).expect("the token works");
    before_commit(&world, |rival| {
        carry_out(rival);
        start(rival);
    });
    let late = crate::support::finish(world.service.forget_roots());
    assert_eq!(late, Err(Error::RootStillNeeded { generation: 3 }));
    assert_eq!((root(&world).oldest, generations(&world.hsm)), (2, vec![2, 3]));
    assert!(world.store.value(&key_path(key)).len() > 32);
}
