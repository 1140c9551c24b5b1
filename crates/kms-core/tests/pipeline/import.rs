//! Import of key material, as far as no importing party is needed; with one, it is tested end to end.

use std::time::Duration;

use kms_core::{
    Error,
    key::{KeyId, KeyOrigin, KeySpec, KeyState},
    ops::{
        CreateKey, DeleteImportedKeyMaterial, DisableKey, GetParametersForImport, ImportKeyMaterial,
        ImportParameters, PendingDays, ScheduleKeyDeletion, WrappingAlgorithm,
    },
};

use crate::support::{World, create, owner};

fn external(world: &World, alias: &str) -> KeyId {
    let key = world.run(&owner(), CreateKey { origin: KeyOrigin::External, ..create(alias) });
    key.expect("nothing is in the way").id
}

fn parameters(world: &World, key_id: KeyId) -> Result<ImportParameters, Error> {
    parameters_for(world, key_id, WrappingAlgorithm::RsaesOaepSha256)
}

fn parameters_for(
    world: &World,
    key_id: KeyId,
    algorithm: WrappingAlgorithm,
) -> Result<ImportParameters, Error> {
    world.run(&owner(), GetParametersForImport { key: key_id.into(), algorithm })
}

fn import(world: &World, key_id: KeyId, token: Vec<u8>) -> Error {
    let wrapped_material = vec![0x17; 256];
    let asked = ImportKeyMaterial {
        key: key_id.into(),
        token,
        wrapped_material,
        wrapped_private_key: None,
        expires: None,
    };
    world.run(&owner(), asked).expect_err("no such material was wrapped")
}

#[test]
fn only_keys_that_wait_for_material_are_given_any() {
    let world = World::new();
    let own = world.key(&owner(), "own").id;
    assert_eq!(parameters(&world, own).err(), Some(Error::ExternalKeyRequired));
    assert_eq!(import(&world, own, Vec::new()), Error::ExternalKeyRequired);
    let delete = |key_id: KeyId| world.run(&owner(), DeleteImportedKeyMaterial { key: key_id.into() }).err();
    assert_eq!(delete(own), Some(Error::ExternalKeyRequired));

    let key = external(&world, "key");
    assert_eq!(delete(key), Some(Error::KeyPendingImport));
    assert_eq!(world.run(&owner(), DisableKey { key: (key).into() }).err(), Some(Error::KeyNotEnabled));
    let pending = PendingDays::parse(7).expect("a waiting time");
    let waits = world.run(&owner(), ScheduleKeyDeletion { key: (key).into(), pending }).expect("waits");
    assert_eq!(waits.record.state, KeyState::PendingDeletion);
    assert_eq!(parameters(&world, key).err(), Some(Error::KeyNotPendingImport));
    assert_eq!(import(&world, key, Vec::new()), Error::KeyNotPendingImport);
    assert_eq!(delete(key), Some(Error::KeyPendingDeletion));
}

#[test]
fn a_token_is_good_for_its_key_and_its_time_only() {
    use WrappingAlgorithm::{RsaesOaepSha1, RsaesOaepSha256, Sm2Encrypt};
    [RsaesOaepSha256, RsaesOaepSha1, Sm2Encrypt].into_iter().for_each(token_is_good_for_its_key_and_time);
}

fn token_is_good_for_its_key_and_time(algorithm: WrappingAlgorithm) {
    let world = World::new();
    let (key, other) = (external(&world, "key"), external(&world, "other"));
    let given = parameters_for(&world, key, algorithm).expect("it waits");
    let before = world.store.dump();
    assert_eq!(import(&world, other, given.token.clone()), Error::ImportTokenMismatch);
    assert_eq!(import(&world, key, given.token.clone()), Error::MaterialInvalid, "the token itself is good");
    for place in [0, 1, 2, 18, 34, 45, 46, 47, 48, given.token.len() - 33, given.token.len() - 1] {
        let mut altered = given.token.clone();
        altered[place] ^= 1;
        assert_eq!(import(&world, key, altered), Error::ImportTokenInvalid, "byte {place}");
    }
    for length in [0, 1, 32, 79, 80, given.token.len() - 1] {
        assert_eq!(import(&world, key, given.token[..length].to_vec()), Error::ImportTokenInvalid);
    }
    assert_eq!(import(&world, key, vec![1; 100_000]), Error::ImportTokenInvalid);
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(given.expires, kms_core::ports::Clock::now(&*world.clock).plus(day));
    world.clock.advance(day.saturating_sub(Duration::from_micros(1)));
    assert_eq!(import(&world, key, given.token.clone()), Error::MaterialInvalid);
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(import(&world, key, given.token), Error::ImportTokenExpired);
    let kept: Vec<_> = before.iter().filter(|(path, _)| path.starts_with(b"k/")).collect();
    let after = world.store.dump();
    assert!(kept.iter().all(|(path, value)| after.get(*path) == Some(value)), "no refusal changes a key");
}

#[test]
fn material_cannot_expire_in_the_past() {
    let world = World::new();
    let key_id = external(&world, "key");
    let token = parameters(&world, key_id).expect("it waits").token;
    let expires = Some(kms_core::ports::Clock::now(&*world.clock));
    let asked = ImportKeyMaterial {
        key: key_id.into(),
        token,
        wrapped_material: vec![1; 256],
        wrapped_private_key: None,
        expires,
    };
    assert_eq!(world.run(&owner(), asked).expect_err("it is now").code(), "INVALID_FIELD");
}

#[test]
fn a_private_key_is_given_for_key_pairs_only() {
    let world = World::new();
    let pair = world
        .run(&owner(), CreateKey { origin: KeyOrigin::External, spec: KeySpec::EcP256, ..create("pair") });
    let pair = pair.expect("nothing is in the way").id;
    let symmetric = external(&world, "key");
    for (key_id, wrapped_private_key) in [(pair, None), (symmetric, Some(vec![1; 64]))] {
        let token = parameters(&world, key_id).expect("it waits").token;
        let wrapped_material = vec![0x17; 256];
        let asked = ImportKeyMaterial {
            key: key_id.into(),
            token,
            wrapped_material,
            wrapped_private_key,
            expires: None,
        };
        assert_eq!(world.run(&owner(), asked).expect_err("not so").code(), "INVALID_FIELD");
    }
}
