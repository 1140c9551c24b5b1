//! A rotation that nothing disturbs.

use kms_core::{
    Error, Phase, Verdict,
    operation::OperationName,
    ops::{CancelKeyDeletion, DescribeRoot, EnableKey, RetireRoot, RotateRoot},
    root::RootRecord,
};
use sha2::{Digest as _, Sha256};

use super::support::{
    Keys, assert_opens, carry_out, generations, old_keys, operator, rewrap, root, start, step,
};
use crate::support::{World, create, finish, key_path, owner};

#[test]
fn every_key_moves_and_the_old_root_key_goes() {
    let world = World::new();
    let keys = Keys::make(&world);
    let evictions = world.hsm.calls().evict;
    start(&world);
    assert_eq!(generations(&world.hsm), [1, 2]);
    let fresh = world.key(&owner(), "fresh");
    assert_eq!(fresh.versions[0].wrapped.root_generation, 2);
    let mut left = old_keys(&world);
    let mut expected = keys.ids();
    left.sort_unstable();
    expected.sort_unstable();
    assert_eq!(left, expected);
    // A mixed state after each step.
    for key in left {
        keys.assert_usable(&world);
        rewrap(&world, key).expect("the token works");
    }
    keys.assert_usable(&world);
    assert_eq!(world.hsm.calls().evict, evictions, "a key in another wrapping is the same key");
    carry_out(&world);
    assert_eq!(generations(&world.hsm), [2]);
    assert_eq!(root(&world), RootRecord { generation: 2, oldest: 2, rotation: None });
    keys.assert_moved(&world, 2);
    keys.assert_usable(&world);
    world.sibling(); // a start finds token and store in agreement
}

#[test]
fn keys_that_may_not_be_used_move_too() {
    let world = World::new();
    let keys = Keys::make(&world);
    start(&world);
    carry_out(&world);
    world.run(&owner(), CancelKeyDeletion { key: (keys.pending).into() }).expect("pending still");
    for key_id in [keys.disabled, keys.pending] {
        world.run(&owner(), EnableKey { key: key_id.into() }).expect("disabled still");
    }
    for (caller, _, data_key) in &keys.sealed {
        assert_opens(&world, caller, data_key);
    }
}

#[test]
fn rotations_follow_one_another() {
    let world = World::new();
    let keys = Keys::make(&world);
    for generation in 2..=4 {
        start(&world);
        carry_out(&world);
        keys.assert_moved(&world, generation);
        assert_eq!(generations(&world.hsm), [generation]);
    }
}

#[test]
fn a_rotation_under_way_is_not_started_again() {
    let world = World::new();
    let first = start(&world);
    let rotation = first.rotation.clone().expect("it is under way");
    assert_eq!((rotation.started_by.as_str(), rotation.keep_old_root), ("olga", false));
    let again = world.records_of(|| world.run(&operator(), RotateRoot { keep_old_root: true }));
    let (answer, records) = again;
    assert_eq!(answer, Ok(first));
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.phase, record.reason), (Phase::Complete, Some("EXISTED_ALREADY")));
    assert_eq!(generations(&world.hsm), [1, 2]);
}

#[test]
fn an_old_root_key_is_kept_until_an_operator_retires_it() {
    let world = World::new();
    let keys = Keys::make(&world);
    world.run(&operator(), RotateRoot { keep_old_root: true }).expect("the token works");
    for key in old_keys(&world) {
        rewrap(&world, key).expect("the token works");
    }
    let kept = finish(world.service.forget_roots()).expect("nothing to do");
    assert!(!kept.all_moved());
    assert_eq!(finish(world.service.destroy_roots()), Err(Error::RootStillNeeded { generation: 2 }));
    assert_eq!(generations(&world.hsm), [1, 2]);
    world.run(&operator(), RetireRoot).expect("one is kept");
    carry_out(&world);
    assert_eq!(generations(&world.hsm), [2]);
    keys.assert_usable(&world);
    let (answer, records) = world.records_of(|| world.run(&operator(), RetireRoot));
    assert_eq!(answer, Ok(root(&world)));
    assert_eq!(records[0].reason, Some("EXISTED_ALREADY"), "nothing is kept any more");
}

#[test]
fn an_old_root_key_stays_while_a_key_needs_it() {
    let world = World::new();
    let keys = Keys::make(&world);
    start(&world);
    let needed = Err(Error::RootStillNeeded { generation: 2 });
    for key in keys.ids() {
        assert_eq!(finish(world.service.forget_roots()), needed);
        assert_eq!(finish(world.service.destroy_roots()), needed);
        rewrap(&world, key).expect("the token works");
    }
    assert_eq!(generations(&world.hsm), [1, 2]);
    let forgotten = finish(world.service.forget_roots()).expect("all are moved");
    assert_eq!((forgotten.oldest, forgotten.rotation.is_some()), (2, true));
    assert_eq!(generations(&world.hsm), [1, 2], "the store comes first");
    world.sibling(); // and a start between the two is no reason to refuse
    finish(world.service.destroy_roots()).expect("forgotten before");
    assert_eq!(generations(&world.hsm), [2]);
}

#[test]
fn the_operator_sees_store_and_token() {
    let world = World::new();
    let status = || world.run(&operator(), DescribeRoot).expect("the token works");
    assert_eq!((status().root.generation, status().token_generations), (1, vec![1]));
    let begun = start(&world);
    assert_eq!((status().root, status().token_generations), (begun, vec![1, 2]));
    carry_out(&world);
    assert_eq!((status().root.rotation, status().token_generations), (None, vec![2]));
}

#[test]
fn every_step_leaves_an_intent_and_an_outcome_with_the_digest() {
    use OperationName::{DestroyRoots, ForgetRoots, RewrapKey, RotateRoot};
    let world = World::new();
    let key = world.run(&owner(), create("key")).expect("created").id;
    let mut next = vec![RotateRoot, RewrapKey, ForgetRoots, DestroyRoots].into_iter();
    loop {
        let (done, records) = world.records_of(|| match root(&world).rotation {
            None if root(&world).generation == 1 => Some(start(&world)).map(|_| Ok(())),
            _ => step(&world),
        });
        let Some(done) = done else { break };
        done.expect("nothing is in the way");
        let [intent, outcome] = &records[..] else { panic!("two records, not {}", records.len()) };
        let name = next.next().expect("a step that was not expected");
        assert_eq!((intent.operation, outcome.operation), (name, name));
        assert_eq!((intent.phase, intent.verdict), (Phase::Intent, Verdict::Pending));
        assert_eq!((outcome.phase, outcome.verdict), (Phase::Outcome, Verdict::Succeeded));
        let (path, key_id) = match name {
            RewrapKey => (key_path(key), Some(key)),
            _ => (b"m/root".to_vec(), None),
        };
        assert_eq!((intent.key_id, outcome.key_id), (key_id, key_id));
        assert_eq!(outcome.state_digest, Some(Sha256::digest(world.store.value(&path)).into()));
        let user = outcome.caller.as_ref().map(|caller| caller.user.to_string());
        assert_eq!(
            user,
            (name == RotateRoot).then(|| "olga".to_owned()),
            "the rest the service does by itself"
        );
    }
    assert_eq!(next.next(), None);
}

#[test]
fn a_key_that_was_moved_already_stays_as_it_is() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    start(&world);
    rewrap(&world, key).expect("the token works");
    let stored = world.store.value(&key_path(key));
    let (again, records) = world.records_of(|| rewrap(&world, key));
    assert_eq!((again, records[0].reason), (Ok(()), Some("EXISTED_ALREADY")));
    assert_eq!(world.store.value(&key_path(key)), stored);
}
