//! Small data, data key pairs and what is sealed anew.

use kms_core::{
    Error, SecretBytes,
    context::EncryptionContext,
    identity::Caller,
    key::{BackingKind, KeyClass, KeyId, KeySpec},
    operation::{Action, OperationName},
    ops::{
        CreateKey, DataKeyPairSpec, DecryptDataKey, DisableKey, EncryptData, EncryptionAlgorithm,
        GenerateDataKeyPair, KeySelector, ReEncrypt,
    },
};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};

use super::support::{World, context, create, decrypt_data, encrypt_data, generate, no_context, owner, with};

fn pair(key: KeyId, spec: KeySpec, with_plaintext: bool) -> GenerateDataKeyPair {
    let spec = DataKeyPairSpec::of(spec).expect("a kind of pair");
    let encryption_context = context();
    GenerateDataKeyPair { key: KeySelector::Id(key), spec, with_plaintext, encryption_context }
}

fn re_encrypt(ciphertext: &[u8], to: KeyId, context_then: EncryptionContext) -> ReEncrypt {
    ReEncrypt::new(ciphertext, None, context(), KeySelector::Id(to), context_then).expect("a ciphertext")
}

fn open_data_key(world: &World, ciphertext: &[u8], context: EncryptionContext) -> Result<SecretBytes, Error> {
    let open = DecryptDataKey::new(ciphertext, None, context).expect("a ciphertext");
    world.run(&owner(), open).map(|opened| opened.plaintext)
}

fn open_data(world: &World, ciphertext: &[u8], context: EncryptionContext) -> Result<SecretBytes, Error> {
    world
        .run(&owner(), decrypt_data(ciphertext, context).expect("a ciphertext"))
        .map(|opened| opened.plaintext)
}

#[test]
fn small_data_and_data_keys_do_not_open_as_each_other() {
    let world = World::new();
    let key = KeySelector::Id(world.key(&owner(), "key").id);
    let data = world.run(&owner(), encrypt_data(key.clone())).expect("enabled").ciphertext;
    let data_key = world.run(&owner(), generate(key)).expect("enabled").sealed.ciphertext;
    assert_eq!(open_data(&world, &data, context()).expect("opens").expose_secret(), [6; 100]);
    assert_eq!(open_data_key(&world, &data, context()).expect_err("small data"), Error::CannotDecrypt);
    assert_eq!(open_data(&world, &data_key, context()).expect_err("a data key"), Error::CannotDecrypt);
    assert_eq!(open_data(&world, &data, no_context()).expect_err("no context"), Error::CannotDecrypt);
    // Nor by a header that says so.
    let mut relabelled = data;
    relabelled[3] = 1;
    assert_eq!(open_data_key(&world, &relabelled, context()).expect_err("altered"), Error::CannotDecrypt);
}

#[test]
fn the_hsm_is_told_which_jobs_make_key_pairs() {
    let world = World::new();
    let sealing = world.key(&owner(), "key").id;
    let births = |world: &World| (world.hsm.calls().quick_births, world.hsm.calls().slow_births);
    world.hsm.lack(BackingKind::Rsa2048); // the fake would take long
    let told = |spec: KeySpec| {
        let before = births(&world);
        let _made_or_lacked = world.run(&owner(), CreateKey { spec, ..create(spec.name()) });
        let made = births(&world);
        if let Some(spec) = DataKeyPairSpec::of(spec) {
            let pair = GenerateDataKeyPair { spec, ..pair(sealing, KeySpec::Sm2, false) };
            let _made_or_lacked = world.run(&owner(), pair);
            let after = births(&world);
            assert_eq!((after.0 - made.0, after.1 - made.1), (made.0 - before.0, made.1 - before.1));
        }
        (made.0 - before.0, made.1 - before.1)
    };
    assert_eq!([KeySpec::Aes256, KeySpec::Sm4, KeySpec::Sm2].map(told), [(0, 0); 3]);
    assert_eq!([KeySpec::EcP256, KeySpec::Secp256k1, KeySpec::Ed25519].map(told), [(1, 0); 3]);
    assert_eq!([KeySpec::Rsa2048].map(told), [(0, 1)]);
}

#[test]
fn small_data_has_1_to_4096_bytes_and_the_algorithm_of_its_key() {
    let world = World::new();
    let key = KeySelector::Id(world.key(&owner(), "key").id);
    let encrypt = |length: usize, algorithm| {
        let data = SecretBytes::new(vec![7; length]);
        EncryptData::new(key.clone(), data, algorithm, context())
            .and_then(|operation| world.run(&owner(), operation))
    };
    for length in [1, 4096] {
        let sealed = encrypt(length, EncryptionAlgorithm::SymmetricDefault).expect("in range").ciphertext;
        assert_eq!(open_data(&world, &sealed, context()).expect("opens").expose_secret(), vec![7; length]);
    }
    for length in [0, 4097] {
        let error = encrypt(length, EncryptionAlgorithm::SymmetricDefault).expect_err("out of range");
        assert_eq!(error.code(), "INVALID_FIELD");
    }
    for algorithm in [EncryptionAlgorithm::RsaesOaepSha256, EncryptionAlgorithm::Sm2Encrypt] {
        let bound = encrypt(1, algorithm).expect_err("a context that nothing would bind");
        assert_eq!(bound.code(), "INVALID_FIELD");
        let data = SecretBytes::new(vec![7]);
        let unbound = EncryptData::new(key.clone(), data, algorithm, no_context()).expect("well-formed");
        let mismatch = Error::AlgorithmMismatch(KeyClass::Symmetric);
        assert_eq!(world.run(&owner(), unbound).expect_err("another kind"), mismatch);
    }
}

#[test]
fn authenticated_data_binds_and_is_hidden_in_the_log() {
    let world = World::new();
    let key = KeySelector::Id(world.key(&owner(), "key").id);
    let data = |bytes: &[u8]| EncryptionContext::of_data(bytes).expect("short enough");
    let mut make = generate(key);
    make.encryption_context = data(b"object 7");
    let (made, records) = world.records_of(|| world.run(&owner(), make));
    let ciphertext = made.expect("enabled").sealed.ciphertext;
    open_data_key(&world, &ciphertext, data(b"object 7")).expect("opens");
    for other in [data(b"object 8"), no_context()] {
        assert_eq!(open_data_key(&world, &ciphertext, other).expect_err("another"), Error::CannotDecrypt);
    }
    let logged = &records[0].context;
    assert_eq!(logged.keys().collect::<Vec<_>>(), ["additional_authenticated_data"]);
    assert!(!format!("{logged:?}").contains("object"), "{logged:?}");
}

#[test]
fn pairs_fit_and_their_private_half_opens_as_a_data_key_does() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let specs = [KeySpec::EcP256, KeySpec::EcP384, KeySpec::Secp256k1, KeySpec::Sm2, KeySpec::Rsa2048];
    for spec in specs {
        let made =
            world.run(&owner(), pair(key, spec, true)).unwrap_or_else(|error| panic!("{spec:?}: {error:?}"));
        let opened = open_data_key(&world, &made.ciphertext, context()).expect("opens");
        let private = made.private_key.expect("asked for");
        assert_eq!(private.expose_secret(), opened.expose_secret(), "{spec:?}");
        let (private, public) = (private.expose_secret(), &made.public_key[..]);
        let fits = match spec {
            KeySpec::EcP256 => {
                p256::SecretKey::from_pkcs8_der(private).expect("PKCS#8").public_key()
                    == p256::PublicKey::from_public_key_der(public).expect("SPKI")
            }
            KeySpec::EcP384 => {
                p384::SecretKey::from_pkcs8_der(private).expect("PKCS#8").public_key()
                    == p384::PublicKey::from_public_key_der(public).expect("SPKI")
            }
            KeySpec::Secp256k1 => {
                k256::SecretKey::from_pkcs8_der(private).expect("PKCS#8").public_key()
                    == k256::PublicKey::from_public_key_der(public).expect("SPKI")
            }
            KeySpec::Sm2 => {
                sm2::SecretKey::from_pkcs8_der(private).expect("PKCS#8").public_key()
                    == sm2::PublicKey::from_public_key_der(public).expect("SPKI")
            }
            _ => {
                rsa::PrivateKey::from_pkcs8_der(private).expect("PKCS#8").to_public_key()
                    == rsa::PublicKey::from_public_key_der(public).expect("SPKI")
            }
        };
        assert!(fits, "{spec:?}");
        let sealed_only = world.run(&owner(), pair(key, spec, false)).expect("made");
        assert!(sealed_only.private_key.is_none());
        // The fake makes one RSA key and keeps it: making one takes long.
        let fresh = spec == KeySpec::Rsa2048 || sealed_only.public_key != made.public_key;
        assert!(fresh, "{spec:?}: the same pair twice");
    }
    for spec in [KeySpec::Aes256, KeySpec::Ed25519, KeySpec::Hmac256] {
        assert!(DataKeyPairSpec::of(spec).is_none(), "{spec:?}");
    }
}

#[test]
fn every_purpose_is_sealed_anew_for_the_same_purpose() {
    let world = World::new();
    let (from, to) = (world.key(&owner(), "from").id, world.key(&owner(), "to").id);
    let data_key = world.run(&owner(), generate(KeySelector::Id(from))).expect("enabled");
    let data = world.run(&owner(), encrypt_data(KeySelector::Id(from))).expect("enabled");
    let made = world.run(&owner(), pair(from, KeySpec::EcP256, true)).expect("enabled");

    let (moved, records) =
        world.records_of(|| world.run(&owner(), re_encrypt(&data_key.sealed.ciphertext, to, no_context())));
    let moved = moved.expect("both are enabled");
    assert_eq!((moved.source_key_id, moved.key_id), (from, to));
    let opened = open_data_key(&world, &moved.ciphertext, no_context()).expect("opens");
    assert_eq!(opened.expose_secret(), data_key.plaintext.expose_secret());
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!(
        (record.operation, record.key_id, record.source_key_id),
        (OperationName::ReEncrypt, Some(to), Some(from))
    );
    assert_eq!((record.context.len(), record.source_context.len()), (0, 2));

    let moved = world.run(&owner(), re_encrypt(&data.ciphertext, to, context())).expect("enabled").ciphertext;
    assert_eq!(open_data(&world, &moved, context()).expect("opens").expose_secret(), [6; 100]);
    let moved = world.run(&owner(), re_encrypt(&made.ciphertext, to, context())).expect("enabled").ciphertext;
    let opened = open_data_key(&world, &moved, context()).expect("opens");
    assert_eq!(opened.expose_secret(), made.private_key.expect("asked for").expose_secret());
}

#[test]
fn nothing_is_sealed_anew_without_the_right_to_both_keys_and_the_right_context() {
    let world = World::new();
    let (from, to) = (world.key(&owner(), "from").id, world.key(&owner(), "to").id);
    let data_key = world.run(&owner(), generate(KeySelector::Id(from))).expect("enabled").sealed.ciphertext;
    let data = world.run(&owner(), encrypt_data(KeySelector::Id(from))).expect("enabled").ciphertext;
    let only = |action| -> Caller { with([action].into_iter().collect()) };
    world.run(&only(Action::DekCrypto), re_encrypt(&data_key, to, context())).expect("a data key");
    let missing = Action::CmkCrypto;
    let refused = world.run(&only(Action::DekCrypto), re_encrypt(&data, to, context()));
    assert_eq!(refused.expect_err("small data"), Error::denied_on_key(missing));

    let run = |source_key, source_context| {
        let source = ReEncrypt::new(&data_key, source_key, source_context, KeySelector::Id(to), context());
        world.run(&owner(), source.expect("a ciphertext")).expect_err("refused")
    };
    assert_eq!(run(Some(KeySelector::Id(to)), context()), Error::CannotDecrypt);
    assert_eq!(run(None, no_context()), Error::CannotDecrypt);
    world.run(&owner(), DisableKey { key: (to).into() }).expect("enabled");
    let (refused, records) = world.records_of(|| world.run(&owner(), re_encrypt(&data_key, to, context())));
    assert_eq!(refused.expect_err("disabled"), Error::KeyDisabled);
    assert_eq!((records[0].key_id, records[0].source_key_id), (Some(to), Some(from)));
    world.run(&owner(), DisableKey { key: (from).into() }).expect("enabled");
    let other = world.run(&owner(), CreateKey { spec: KeySpec::Sm4, ..create("other") }).expect("made").id;
    let refused = world.run(&owner(), re_encrypt(&data_key, other, context()));
    assert_eq!(refused.expect_err("disabled"), Error::KeyDisabled);
}
