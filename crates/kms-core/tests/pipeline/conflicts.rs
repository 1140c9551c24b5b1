//! Other writers, and a store that does not say what it did.

use kms_core::{
    Error, Phase, Verdict,
    key::KeyState,
    ops::{DescribeKey, Description, DisableKey, KeySelector, UpdateKeyDescription},
    ports::{KeyStore as _, StoreError},
};

use crate::support::{World, generate, key_path, now, owner};

/// How often a change is tried.
const ATTEMPTS: usize = 16;

#[test]
fn a_change_that_met_another_one_loses_neither() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    let rival = world.sibling();
    world.store.instead_of_commit(move |store, transaction| {
        let description = Description::parse("by another").expect("short");
        now(rival.begin(&owner(), UpdateKeyDescription { key: key_id.into(), description }))
            .expect("nobody is faster");
        now(store.transact(transaction))
    });
    let commits = world.store.commits();
    let changed = world.run(&owner(), DisableKey { key: key_id.into() }).expect("tried again");
    assert_eq!((changed.state, changed.description.as_str()), (KeyState::Disabled, "by another"));
    assert_eq!(world.run(&owner(), DescribeKey { key: KeySelector::Id(key_id) }), Ok(changed));
    assert_eq!(world.store.commits() - commits, 3, "the rival's, the conflict, the second try");
}

#[test]
fn a_change_is_tried_again_as_often_as_is_bearable() {
    for (conflicts, succeeds) in [(ATTEMPTS - 1, true), (ATTEMPTS, false)] {
        let world = World::new();
        let key_id = world.key(&owner(), "key").id;
        for _ in 0..conflicts {
            world.store.touch_before_commit(key_path(key_id));
        }
        let (commits, stored) = (world.store.commits(), world.store.value(&key_path(key_id)));
        let (result, records) = world.records_of(|| world.run(&owner(), DisableKey { key: key_id.into() }));
        assert_eq!(world.store.commits() - commits, ATTEMPTS);
        let told: Vec<_> =
            records.iter().map(|record| (record.phase, record.verdict, record.reason)).collect();
        let outcome = if succeeds {
            assert_eq!(result.expect("the last try").state, KeyState::Disabled);
            (Phase::Outcome, Verdict::Succeeded, None)
        } else {
            assert_eq!(result, Err(Error::Contention));
            assert_eq!(world.store.value(&key_path(key_id)), stored);
            (Phase::Outcome, Verdict::Failed, Some("CONTENTION"))
        };
        assert_eq!(told, [(Phase::Intent, Verdict::Pending, None), outcome], "one intent, one outcome");
    }
}

#[test]
fn a_commit_without_an_answer_is_looked_up() {
    for committed in [true, false] {
        let world = World::new();
        let key_id = world.key(&owner(), "key").id;
        world.store.instead_of_commit(move |store, transaction| {
            if committed {
                now(store.transact(transaction)).expect("it commits");
            }
            Err(StoreError::Unknown { detail: "time-out".to_owned() })
        });
        let (result, records) = world.records_of(|| world.run(&owner(), DisableKey { key: key_id.into() }));
        let outcome = records.last().expect("a record");
        assert_eq!(outcome.phase, Phase::Outcome);
        if committed {
            assert_eq!(result.expect("it was committed").state, KeyState::Disabled);
            assert_eq!(outcome.verdict, Verdict::Succeeded);
        } else {
            assert_eq!(result.expect_err("it was not").code(), "STORE_UNAVAILABLE");
            assert_eq!((outcome.verdict, outcome.reason), (Verdict::Failed, Some("STORE_UNAVAILABLE")));
            let sealed = world.run(&owner(), generate(KeySelector::Id(key_id)));
            sealed.expect("it is enabled still");
        }
        assert!(world.open_intents().is_empty());
    }
}

#[test]
fn a_store_that_fails_is_told_to_the_operator_only() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    world.store.instead_of_commit(|_, _| Err(StoreError::Unavailable { detail: "disk full".to_owned() }));
    let error = world.run(&owner(), DisableKey { key: key_id.into() }).expect_err("not committed");
    assert_eq!(
        (error.code(), error.to_string()),
        ("STORE_UNAVAILABLE", "the key store is unavailable".to_owned())
    );
    assert!(error.operator_detail().expect("for the operator").contains("disk full"));
    let changed = world.run(&owner(), DisableKey { key: key_id.into() }).expect("the store works again");
    assert_eq!(changed.state, KeyState::Disabled);
}
