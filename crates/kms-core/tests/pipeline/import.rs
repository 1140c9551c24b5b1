//! Import of key material, as far as no importing party is needed; with one, it is tested end to end.

use std::time::Duration;

use kms_core::{
    Error,
    key::{KeyId, KeyOrigin, KeySpec, KeyState, KeyUsage},
    operation::OperationName,
    ops::{
        CreateKey, DecryptDataKey, DeleteImportedKeyMaterial, DescribeKey, DisableKey,
        GetParametersForImport, ImportKeyMaterial, ImportParameters, PendingDays, ScheduleKeyDeletion,
        WrappingAlgorithm,
    },
    ports::Clock,
    states::{self, Effect, Refusal},
};

use crate::support::{
    OTHER_KINDS, Sealed, World, alias, attempts, bucket_key, context, create, encrypt_data, generate,
    import_of, import_of_material, other_attempts, other_key, owner,
};

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
    assert_eq!(given.expires, Clock::now(&*world.clock).plus(day));
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
    let expires = Some(Clock::now(&*world.clock));
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

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Gives a key material that expires in an hour.
fn import_for_an_hour(world: &World, key_id: KeyId) {
    let import =
        ImportKeyMaterial { expires: Some(Clock::now(&*world.clock).plus(HOUR)), ..import_of(world, key_id) };
    world.run(&owner(), import).expect("it waits for material");
}

/// Whether the operation needs material: the table refuses it to keys that wait for some.
fn needs_material(name: OperationName) -> bool {
    // No imported key is rotated by time, whatever its state.
    use OperationName::{DisableKeyRotation, EnableKeyRotation, UpdateRotationInterval};
    let refused =
        states::effect(name, KeyState::PendingImport) == Some(Effect::Refused(Refusal::KeyPendingImport));
    refused
        && name != OperationName::DeleteImportedKeyMaterial
        && ![DisableKeyRotation, EnableKeyRotation, UpdateRotationInterval].contains(&name)
}

#[test]
fn material_that_has_expired_is_used_no_more_though_nothing_has_deleted_it() {
    let world = World::new();
    let key_id = external(&world, "key");
    import_for_an_hour(&world, key_id);
    let sealed = Sealed {
        data_key: world.run(&owner(), generate(alias("key"))).expect("enabled").sealed.ciphertext,
        small_data: world.run(&owner(), encrypt_data(alias("key"))).expect("enabled").ciphertext,
        bucket_key: world.run(&owner(), bucket_key(alias("key"))).expect("enabled").sealed.ciphertext,
    };
    let kind = (KeySpec::Hmac256, KeyUsage::GenerateVerifyMac);
    assert!(OTHER_KINDS.contains(&kind));
    let authenticates = other_key(&world, kind, KeyOrigin::External, "authenticates");
    import_for_an_hour(&world, authenticates);
    let mut all = attempts(key_id, &sealed);
    all.extend(other_attempts(&world, authenticates, kind.1));
    all.retain(|attempt| needs_material(attempt.name));
    assert!(all.len() > 15, "{}", all.len());

    world.clock.advance(HOUR.saturating_sub(Duration::from_micros(1)));
    world.run(&owner(), generate(alias("key"))).expect("not yet");
    world.clock.advance(Duration::from_micros(1));
    let (before, calls) = (world.store.dump(), world.hsm.calls());
    for attempt in &all {
        let refused = attempt.run(&world, &owner()).map_err(|error| error.code());
        assert_eq!(refused, Err("KEY_PENDING_IMPORT"), "{:?}", attempt.name);
    }
    assert_eq!((world.store.dump(), world.hsm.calls()), (before, calls), "nothing was tried");
}

#[test]
fn material_that_has_expired_can_be_imported_again_before_anything_has_deleted_it() {
    let world = World::new();
    let key_id = external(&world, "key");
    import_for_an_hour(&world, key_id);
    let sealed = world.run(&owner(), generate(alias("key"))).expect("enabled").sealed;
    world.clock.advance(HOUR);
    let other = import_of_material(&world, key_id, &[0x18; 32]);
    assert_eq!(world.run(&owner(), other).err(), Some(Error::MaterialMismatch));
    let key = world.run(&owner(), import_of(&world, key_id)).expect("the same");
    assert_eq!((key.state, key.versions.len(), key.versions[0].number), (KeyState::Enabled, 1, 1));
    let due = futures_executor::block_on(world.service.due(None, 10)).expect("the store works");
    assert!(due.entries.is_empty(), "it expires no more");
    let decrypt = DecryptDataKey::new(&sealed.ciphertext, None, context()).expect("a ciphertext");
    world.run(&owner(), decrypt).expect("the same material opens it");
    let described = world.run(&owner(), DescribeKey { key: key_id.into() }).expect("it exists");
    assert_eq!(described.state, KeyState::Enabled);
}
