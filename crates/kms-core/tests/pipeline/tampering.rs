//! Whoever can write the store but not use the HSM.

use std::sync::Arc;

use kms_core::{
    Error, StartError, Verdict,
    key::KeyId,
    ops::{DescribeKey, DisableKey, KeySelector, ListKeys, PageSize, UpdateKeyAlias},
    testing::hsm::FakeHsm,
};

use crate::support::{SpyStore, World, alias, caller, create, generate, key_path, obs, owner};

fn alias_path(alias: &str) -> Vec<u8> {
    format!("a/acme/cn-north-4/{alias}").into_bytes()
}

/// The key's record lies altered in the store: nothing uses it, and the HSM does not see it.
fn assert_refused(world: &World, key_id: KeyId, what: &str) {
    let calls = world.hsm.calls();
    let key = KeySelector::Id(key_id);
    let size = PageSize::parse(0).expect("a size");
    let answers = [
        world.run(&owner(), generate(key.clone())).map(drop),
        world.run(&owner(), DescribeKey { key }).map(drop),
        world.run(&owner(), DisableKey { key: key_id.into() }).map(drop),
        world.run(&owner(), ListKeys { size, token: None, state: None, spec: None }).map(drop),
    ];
    for answer in answers {
        assert_eq!(answer.expect_err(what).code(), "RECORD_TAMPERED", "{what}");
    }
    assert_eq!(world.hsm.calls(), calls, "{what}: the HSM was asked");
    let record = world.audit.records().pop().expect("a record");
    assert_eq!((record.verdict, record.reason), (Verdict::Failed, Some("RECORD_TAMPERED")));
}

#[test]
fn every_altered_byte_of_a_key_record_is_noticed() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.run(&owner(), generate(KeySelector::Id(key))).expect("enabled"); // the service has read it before
    let path = key_path(key);
    let value = world.store.value(&path);
    for position in 0..value.len() {
        let mut altered = value.clone();
        altered[position] ^= 1;
        world.store.overwrite(&path, altered);
        assert_refused(&world, key, &format!("byte {position} altered"));
    }
    for length in 0..value.len() {
        world.store.overwrite(&path, value[..length].to_vec());
        assert_refused(&world, key, &format!("cut to {length} bytes"));
    }
    world.store.overwrite(&path, [&value[..], &[0]].concat());
    assert_refused(&world, key, "a byte appended");
    world.store.overwrite(&path, value);
    world.run(&owner(), generate(KeySelector::Id(key))).expect("as it was");
}

#[test]
fn a_record_under_another_keys_path_is_noticed() {
    let world = World::new();
    let (key, other) = (world.key(&owner(), "key").id, world.key(&owner(), "other").id);
    let foreign = world.key(&caller("zeta", "cn-north-4"), "key").id;
    for from in [other, foreign] {
        world.store.overwrite(&key_path(key), world.store.value(&key_path(from)));
        assert_refused(&world, key, "another key's record");
    }
}

#[test]
fn the_material_of_another_account_cannot_be_put_into_a_record() {
    let world = World::new();
    let (mine, theirs) = (world.key(&owner(), "key"), world.key(&caller("zeta", "cn-north-4"), "key"));
    let [old, new] = [&mine, &theirs].map(|key| &key.versions[0].wrapped.blob);
    assert_eq!(old.len(), new.len());
    let mut value = world.store.value(&key_path(mine.id));
    let at = value.windows(old.len()).position(|window| window == old).expect("the blob lies in the record");
    value[at..at + old.len()].copy_from_slice(new);
    world.store.overwrite(&key_path(mine.id), value);
    assert_refused(&world, mine.id, "another account's material");
}

#[test]
fn swapped_aliases_are_noticed() {
    let world = World::new();
    let [one, two] = ["one", "two"].map(|text| {
        world.key(&owner(), text);
        world.store.value(&alias_path(text))
    });
    world.store.overwrite(&alias_path("one"), two);
    world.store.overwrite(&alias_path("two"), one);
    for text in ["one", "two"] {
        let calls = world.hsm.calls();
        let error = world.run(&owner(), generate(alias(text))).expect_err("swapped");
        assert_eq!((error.code(), world.hsm.calls()), ("RECORD_TAMPERED", calls));
    }
}

#[test]
fn an_alias_that_was_given_up_cannot_be_put_back() {
    let world = World::new();
    let key_id = world.key(&owner(), "old").id;
    let entry = world.store.value(&alias_path("old"));
    world.run(&owner(), UpdateKeyAlias { key: key_id.into(), alias: create("new").alias }).expect("renamed");
    world.store.overwrite(&alias_path("old"), entry);
    let error = world.run(&owner(), generate(alias("old"))).expect_err("authentic, but of another time");
    assert_eq!(error.code(), "RECORD_TAMPERED");
}

#[test]
fn a_default_key_cannot_be_another_accounts() {
    let world = World::new();
    let entry = |caller: &_, account: &str| {
        world.run(caller, generate(obs())).expect("made on first use");
        format!("d/{account}/obs").into_bytes()
    };
    let (mine, theirs) = (entry(&owner(), "acme"), entry(&caller("zeta", "cn-north-4"), "zeta"));
    world.store.overwrite(&mine, world.store.value(&theirs));
    let error = world.run(&owner(), generate(obs())).expect_err("another account's entry");
    assert_eq!(error.code(), "RECORD_TAMPERED");
}

#[test]
fn a_store_of_another_token_or_without_its_head_is_refused() {
    let world = World::new();
    world.key(&owner(), "key");
    let start = |hsm: &Arc<FakeHsm>, store: &Arc<SpyStore>| World::on(hsm.clone(), store.clone()).map(drop);
    assert_eq!(start(&Arc::default(), &world.store), Err(StartError::ForeignStore));
    assert_eq!(start(&world.hsm, &world.store), Ok(()));
    let head = world.store.value(b"m/deployment");
    world.store.delete(b"m/deployment");
    assert_eq!(start(&world.hsm, &world.store), Err(StartError::HeadlessStore));
    world.store.overwrite(b"m/deployment", head);
    assert_eq!(start(&world.hsm, &world.store), Ok(()));
}

#[test]
fn a_missing_record_is_a_missing_key() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.store.delete(&key_path(key));
    for selector in [KeySelector::Id(key), alias("key")] {
        assert_eq!(world.run(&owner(), generate(selector)).expect_err("gone"), Error::KeyNotFound);
    }
}
