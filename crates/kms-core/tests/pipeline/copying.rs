//! A backup for the same token: recorded from its beginning to its end, and every key in it proved.

use futures_executor::block_on;
use kms_core::{
    Call, Content, Error, Phase, Settings, Verdict,
    identity::Caller,
    key::{KeyRecord, Scheme},
    operation::{Action, OperationName, Permissions},
    ports::{HsmError, KeyStore as _, StoreError, StoreKey},
};
use uuid::Uuid;

use crate::support::{PATIENCE, World, key_path, owner, with};

fn operator() -> Caller {
    with(Permissions::OPERATOR)
}

/// All that lies in the store, by pages.
fn copied(world: &World) -> Vec<(StoreKey, Vec<u8>)> {
    let begun = block_on(world.service.begin_backup(call(Uuid::new_v4(), operator())));
    let mut snapshot = begun.expect("an operator may").snapshot;
    let mut all = Vec::new();
    loop {
        let page = block_on(snapshot.page(2)).expect("the fake works");
        if page.is_empty() {
            return all;
        }
        all.extend(page.into_iter().map(|(path, value)| (path, value.value.to_vec())));
    }
}

fn record(world: &World, path: &[u8]) -> KeyRecord {
    match world.service.content(path, &world.store.value(path)) {
        Ok(Content::Key(record)) => *record,
        other => panic!("not a key: {other:?}"),
    }
}

fn call(request_id: Uuid, caller: Caller) -> Call {
    Call { request_id, caller, patience: PATIENCE, dry_run: false }
}

#[test]
fn a_backup_is_recorded_before_it_begins_and_before_it_ends() {
    let world = World::new();
    let request = Uuid::new_v4();
    let (begun, records) =
        world.records_of(|| block_on(world.service.begin_backup(call(request, operator()))).expect("begun"));
    let intent = &records[..];
    assert_eq!(intent.len(), 1);
    assert_eq!((intent[0].phase, intent[0].operation), (Phase::Intent, OperationName::CreateBackup));
    assert_eq!(world.open_intents().len(), 1, "a kill leaves it open");

    let (ended, records) = world.records_of(|| block_on(world.service.end_backup(begun, [7; 32])));
    ended.expect("recorded");
    let outcome = &records[0];
    assert_eq!((outcome.phase, outcome.verdict), (Phase::Outcome, Verdict::Succeeded));
    assert_eq!((outcome.request_id, outcome.state_digest), (request, Some([7; 32])));
    assert_eq!(outcome.caller.as_ref().map(|caller| &caller.user), Some(&operator().user));
}

#[test]
fn a_backup_that_fails_or_that_nobody_waits_for_is_recorded_as_failed() {
    let world = World::new();
    for (error, reason) in [(None, "ABANDONED"), (Some(Error::Contention), "CONTENTION")] {
        let begun = block_on(world.service.begin_backup(call(Uuid::new_v4(), operator()))).expect("begun");
        let (_, records) = world.records_of(|| block_on(world.service.abandon_backup(begun, error)));
        assert_eq!((records[0].phase, records[0].verdict), (Phase::Outcome, Verdict::Failed));
        assert_eq!(records[0].reason, Some(reason));
    }
    assert_eq!(world.open_intents(), []);
}

#[test]
fn only_an_operator_may() {
    let world = World::new();
    let everything = with(Permissions::all());
    let (refused, records) =
        world.records_of(|| block_on(world.service.begin_backup(call(Uuid::new_v4(), everything))).err());
    let missing = Error::denied(Action::RootManage);
    assert_eq!(refused.map(|refused| refused.error().clone()), Some(missing));
    assert_eq!((records[0].phase, records[0].verdict), (Phase::Complete, Verdict::Denied));
}

#[test]
fn what_is_copied_is_all_of_the_store() {
    let world = World::new();
    world.key(&owner(), "one");
    assert_eq!(copied(&world), world.store.dump().into_iter().collect::<Vec<_>>());
}

#[test]
fn an_altered_or_moved_value_has_no_content() {
    let world = World::new();
    let (one, two) = (key_path(world.key(&owner(), "one").id), key_path(world.key(&owner(), "two").id));
    let value = world.store.value(&one);
    let tampered = |path: &[u8], value: &[u8]| {
        matches!(world.service.content(path, value), Err(Error::RecordTampered { .. }))
    };
    assert!(!tampered(&one, &value));
    assert!(tampered(&two, &value), "another key's");
    for place in 0..value.len() {
        let mut altered = value.clone();
        altered[place] ^= 1;
        assert!(tampered(&one, &altered), "byte {place}");
    }
}

#[test]
fn a_key_that_does_not_unwrap_is_named_by_its_version() {
    let world = World::new();
    let path = key_path(world.key(&owner(), "one").id);
    let mut key = record(&world, &path);
    block_on(world.service.prove_key(&key)).expect("a whole key");
    key.versions.push(key.versions[0].clone());
    key.versions[1].number = 2;
    key.versions[1].wrapped.blob[20] ^= 1;
    let failed = block_on(world.service.prove_key(&key));
    let named = matches!(&failed, Err((2, Error::HsmUnavailable(HsmError::WrappedKeyRefused { .. }))));
    assert!(named, "{failed:?}");
}

#[test]
fn a_seal_is_of_one_token_and_one_digest() {
    let (world, other) = (World::new(), World::new());
    let seal = world.service.backup_seal(&[1; 32]);
    assert!(world.service.is_backup_seal(&[1; 32], &seal));
    assert!(!world.service.is_backup_seal(&[2; 32], &seal));
    assert!(!world.service.is_backup_seal(&[1; 32], &seal[..31]));
    assert!(!other.service.is_backup_seal(&[1; 32], &seal), "another token's");
}

#[test]
fn what_is_put_back_is_as_it_was_but_budgets_are_spent() {
    let world = World::with(Settings { aes_256: Scheme::InHsm, ..Settings::default() });
    let counted = key_path(world.key(&owner(), "counted").id);
    let values = copied(&world);
    block_on(world.service.put_back(values.clone())).expect("the fake works");
    for (path, value) in values.iter().filter(|(path, _)| *path != counted) {
        assert_eq!(world.store.value(path), *value);
    }
    let key = record(&world, &counted);
    assert_eq!(key.versions[0].reserved_uses, kms_core::MAX_IN_HSM_BUDGET);
    block_on(world.service.prove_key(&key)).expect("the same key");

    let mut altered = values;
    altered[0].1[0] ^= 1;
    let refused = block_on(world.service.put_back(altered));
    assert!(matches!(refused, Err(Error::RecordTampered { .. })), "{refused:?}");
}

#[test]
fn a_store_that_gives_no_snapshot_ends_the_backup_at_once() {
    let world = World::new();
    world.store.instead_of_snapshot(StoreError::Unavailable { detail: "told to".to_owned() });
    let (refused, records) =
        world.records_of(|| block_on(world.service.begin_backup(call(Uuid::new_v4(), operator()))).err());
    assert!(matches!(refused.map(|refused| refused.error().clone()), Some(Error::StoreUnavailable(_))));
    assert_eq!(
        records.last().map(|record| (record.phase, record.verdict)),
        Some((Phase::Outcome, Verdict::Failed))
    );
    block_on(world.store.snapshot()).expect("the next one works");
}
