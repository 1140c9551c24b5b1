//! Keys that seal in the HSM beside keys that seal in the service.

use kms_core::{
    Error, SecretBytes, Settings,
    key::{KeyRecord, KeySpec, Scheme},
    ops::{
        CreateKey, DecryptDataKey, DescribeKey, EncryptDataKey, GenerateDataKeyWithoutPlaintext, KeySelector,
        SealedDataKey,
    },
};

use crate::support::{World, context, create, generate, no_context, obs, owner};

const SCHEMES: [Scheme; 2] = [Scheme::DerivedKey, Scheme::InHsm];

fn all(scheme: Scheme) -> Settings {
    Settings { aes_256: scheme, sm4: scheme, ..Settings::default() }
}

fn key(world: &World, spec: KeySpec) -> KeyRecord {
    world.run(&owner(), CreateKey { spec, ..create(spec.name()) }).expect("nothing is in the way")
}

fn decrypt(world: &World, ciphertext: &[u8]) -> Result<Vec<u8>, Error> {
    let operation = DecryptDataKey::new(ciphertext, None, context())?;
    world.run(&owner(), operation).map(|opened| opened.plaintext.expose_secret().to_vec())
}

/// A data key from each operation that seals.
fn sealed(world: &World, key: &KeySelector) -> Vec<(Option<Vec<u8>>, SealedDataKey)> {
    let made = world.run(&owner(), generate(key.clone())).expect("enabled");
    let unseen = GenerateDataKeyWithoutPlaintext(generate(key.clone()));
    let encrypt = EncryptDataKey::new(key.clone(), SecretBytes::new(vec![7; 1024]), context());
    vec![
        (Some(made.plaintext.expose_secret().to_vec()), made.sealed),
        (None, world.run(&owner(), unseen).expect("enabled")),
        (Some(vec![7; 1024]), world.run(&owner(), encrypt.expect("short enough")).expect("enabled")),
    ]
}

#[test]
fn both_schemes_seal_and_open_with_both_algorithms() {
    for scheme in SCHEMES {
        for spec in [KeySpec::Aes256, KeySpec::Sm4] {
            let world = World::with(all(scheme));
            let record = key(&world, spec);
            assert_eq!(record.versions[0].scheme, scheme);
            let before = world.hsm.calls();
            for (plaintext, sealed) in sealed(&world, &KeySelector::Id(record.id)) {
                assert_eq!(sealed.ciphertext[1], scheme as u8);
                assert_eq!(sealed.ciphertext[2], if spec == KeySpec::Sm4 { 2 } else { 1 });
                let opened = decrypt(&world, &sealed.ciphertext).expect("opens");
                assert!(plaintext.is_none_or(|plaintext| plaintext == opened));
            }
            let calls = world.hsm.calls();
            let used = (calls.mac - before.mac, calls.cipher - before.cipher);
            assert_eq!(used, if scheme == Scheme::InHsm { (0, 6) } else { (6, 0) }, "{scheme:?} {spec:?}");
        }
    }
}

#[test]
fn every_altered_byte_and_another_context_are_refused() {
    let world = World::with(all(Scheme::InHsm));
    let record = key(&world, KeySpec::Sm4);
    let sealed = world.run(&owner(), generate(KeySelector::Id(record.id))).expect("enabled").sealed;
    // Behind the material id: an altered one names another key.
    for position in 20..sealed.ciphertext.len() {
        let mut altered = sealed.ciphertext.clone();
        altered[position] ^= 1;
        assert_eq!(decrypt(&world, &altered), Err(Error::CannotDecrypt), "byte {position}");
    }
    let elsewhere = DecryptDataKey::new(&sealed.ciphertext, None, no_context()).expect("well-formed");
    assert_eq!(world.run(&owner(), elsewhere).expect_err("another context"), Error::CannotDecrypt);
}

#[test]
fn a_ciphertext_of_another_scheme_than_its_versions_cannot_be_decrypted() {
    for scheme in SCHEMES {
        let world = World::with(all(scheme));
        let record = key(&world, KeySpec::Aes256);
        let mut sealed = world.run(&owner(), generate(KeySelector::Id(record.id))).expect("enabled").sealed;
        sealed.ciphertext[1] ^= 3;
        let calls = world.hsm.calls();
        assert_eq!(decrypt(&world, &sealed.ciphertext), Err(Error::CannotDecrypt));
        assert_eq!(world.hsm.calls(), calls, "the HSM was asked");
        sealed.ciphertext[1] = 3;
        assert_eq!(decrypt(&world, &sealed.ciphertext).expect_err("unknown").code(), "INVALID_FIELD");
    }
}

#[test]
fn each_algorithm_has_its_own_setting_and_default_keys_follow_aes() {
    let settings = Settings { sm4: Scheme::InHsm, ..Settings::default() };
    let world = World::with(settings);
    let schemes = [KeySpec::Aes256, KeySpec::Sm4].map(|spec| key(&world, spec).versions[0].scheme);
    assert_eq!(schemes, SCHEMES);
    let scheme_of_default = |settings: Settings| {
        let world = World::with(settings);
        let sealed = world.run(&owner(), generate(obs())).expect("made on first use").sealed;
        sealed.ciphertext[1]
    };
    assert_eq!([settings, all(Scheme::InHsm)].map(scheme_of_default), [1, 2]);
}

#[test]
fn versions_keep_their_scheme_when_the_settings_change() {
    let world = World::with(all(Scheme::InHsm));
    let record = key(&world, KeySpec::Aes256);
    let selector = KeySelector::Id(record.id);
    let old = world.run(&owner(), generate(selector.clone())).expect("enabled").sealed;
    let back = world.restarted(all(Scheme::DerivedKey));
    let still = back.run(&owner(), generate(selector.clone())).expect("enabled").sealed;
    assert_eq!((still.key_version, still.ciphertext[1]), (1, 2));
    // With a smaller budget the version is over it already: what follows is of the new scheme.
    let lowered = world.restarted(Settings { in_hsm_budget: 1, ..all(Scheme::DerivedKey) });
    let moved = lowered.run(&owner(), generate(selector.clone())).expect("enabled").sealed;
    assert_eq!((moved.key_version, moved.ciphertext[1]), (2, 1));
    for sealed in [&old, &still, &moved] {
        decrypt(&lowered, &sealed.ciphertext).expect("opens");
    }
    let described = lowered.run(&owner(), DescribeKey { key: selector }).expect("it exists");
    let schemes: Vec<_> = described.versions.iter().map(|version| version.scheme).collect();
    assert_eq!(schemes, [Scheme::InHsm, Scheme::DerivedKey]);
}

#[test]
fn a_scheme_that_derives_reserves_and_records_nothing_more() {
    let world = World::with(all(Scheme::DerivedKey));
    let selector = KeySelector::Id(key(&world, KeySpec::Aes256).id);
    let (commits, stored) = (world.store.commits(), world.store.dump());
    let (made, records) = world.records_of(|| world.run(&owner(), generate(selector)));
    made.expect("enabled");
    assert_eq!((records.len(), world.store.commits()), (1, commits));
    assert_eq!(world.store.dump(), stored);
}
