//! What the keys are on the token: they can be used, and neither read nor taken out.

use cryptoki::{
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};

use kms_core::{
    SecretBytes,
    key::{BackingKey, BackingKind},
    ports::{DigestAlgorithm, SigningMechanism},
    testing::hsm::on_session,
};

use crate::support::{Token, mac, new_key, new_material};

on_each_module!(
    with_token:
    the_root_key_wraps_and_does_nothing_else,
    the_authentication_key_computes_macs_and_does_nothing_else,
    a_loaded_key_computes_macs_and_can_neither_be_read_nor_wrapped,
    a_loaded_private_key_signs_and_can_neither_be_read_nor_wrapped,
    nothing_of_a_pair_stays_but_what_is_loaded,
);

fn find(session: &Session, template: &[Attribute]) -> ObjectHandle {
    let found = session.find_objects(template).expect("a search");
    assert_eq!(found.len(), 1, "{template:?}");
    found[0]
}

fn labelled(session: &Session, label: &str) -> ObjectHandle {
    find(session, &[Attribute::Token(true), Attribute::Label(label.into())])
}

fn assert_attributes(session: &Session, object: ObjectHandle, wanted: &[Attribute]) {
    let types: Vec<_> = wanted.iter().map(Attribute::attribute_type).collect();
    assert_eq!(session.get_attributes(object, &types).expect("attributes"), wanted);
}

fn assert_unreadable(session: &Session, object: ObjectHandle) {
    let value = session.get_attributes(object, &[AttributeType::Value]).expect("an answer");
    assert!(value.is_empty(), "the key's value can be read");
    let public = [Attribute::Sensitive(false)];
    session.update_attributes(object, &public).expect_err("a sensitive key stays so");
    let extractable = [Attribute::Extractable(true)];
    session.update_attributes(object, &extractable).expect_err("a key that stays inside stays there");
}

const KEPT_INSIDE: [Attribute; 5] = [
    Attribute::Class(ObjectClass::SECRET_KEY),
    Attribute::Private(true),
    Attribute::Sensitive(true),
    Attribute::Extractable(false),
    Attribute::Derive(false),
];

fn uses(encrypt: bool, wrap: bool, sign: bool) -> [Attribute; 6] {
    [
        Attribute::Encrypt(encrypt),
        Attribute::Decrypt(encrypt),
        Attribute::Wrap(wrap),
        Attribute::Unwrap(wrap),
        Attribute::Sign(sign),
        Attribute::Verify(false),
    ]
}

fn the_root_key_wraps_and_does_nothing_else(token: &Token) {
    let _hsm = token.open_new();
    let session = token.session();
    let root = labelled(&session, "root-1");
    assert_attributes(&session, root, &KEPT_INSIDE);
    assert_attributes(&session, root, &uses(false, true, false));
    let generation = [
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(32.into()),
        Attribute::Id(vec![0, 0, 0, 1]),
        Attribute::AlwaysSensitive(true),
        Attribute::NeverExtractable(true),
    ];
    assert_attributes(&session, root, &generation);
    assert_unreadable(&session, root);
    session.encrypt(&Mechanism::AesEcb, root, &[0; 16]).expect_err("a root key must not encrypt");
    session.decrypt(&Mechanism::AesEcb, root, &[0; 16]).expect_err("a root key must not decrypt");
    session.wrap_key(&Mechanism::AesKeyWrap, root, root).expect_err("a root key must not leave");
}

fn the_authentication_key_computes_macs_and_does_nothing_else(token: &Token) {
    let _hsm = token.open_new();
    let session = token.session();
    let key = labelled(&session, "root-authentication");
    assert_attributes(&session, key, &KEPT_INSIDE);
    assert_attributes(&session, key, &uses(false, false, true));
    assert_attributes(&session, key, &[Attribute::KeyType(KeyType::GENERIC_SECRET)]);
    assert_unreadable(&session, key);
    let root = labelled(&session, "root-1");
    session.wrap_key(&Mechanism::AesKeyWrap, root, key).expect_err("this key must not leave");
}

fn a_loaded_key_computes_macs_and_can_neither_be_read_nor_wrapped(token: &Token) {
    let hsm = token.open_new();
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    let session = token.session();
    let loaded = find(&session, &[Attribute::Token(false)]);
    assert_attributes(&session, loaded, &KEPT_INSIDE);
    assert_attributes(&session, loaded, &uses(false, false, true));
    assert_unreadable(&session, loaded);
    let root = labelled(&session, "root-1");
    let refusal = session.wrap_key(&Mechanism::AesKeyWrap, root, loaded);
    assert!(matches!(refusal, Err(Error::Pkcs11(RvError::KeyUnextractable, _))), "{refusal:?}");
    // It is the key: the same object computes what the pool computed.
    let again = session.sign(&Mechanism::Sha256Hmac, loaded, b"input").expect("a mac");
    assert_eq!(again, *expected);
}

fn a_loaded_private_key_signs_and_can_neither_be_read_nor_wrapped(token: &Token) {
    let hsm = token.open_new();
    let rsa = SigningMechanism::RsaPss(DigestAlgorithm::Sha256);
    for (kind, mechanism) in [(BackingKind::Rsa2048, rsa), (BackingKind::EcP256, SigningMechanism::Ecdsa)] {
        let pair = on_session(&hsm, move |session| session.generate_key_pair(kind)).expect("a key pair");
        let key = BackingKey { material: new_material(), version: 1, kind, wrapped: pair.wrapped };
        on_session(&hsm, move |session| session.sign(&key, mechanism, &[7; 32])).expect("a signature");
        let session = token.session();
        let key_type = if kind == BackingKind::Rsa2048 { KeyType::RSA } else { KeyType::EC };
        let loaded = find(&session, &[Attribute::Token(false), Attribute::KeyType(key_type)]);
        let is_rsa = kind == BackingKind::Rsa2048;
        let attributes = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Decrypt(is_rsa),
            Attribute::Derive(!is_rsa),
            Attribute::Unwrap(false),
        ];
        assert_attributes(&session, loaded, &attributes);
        let secrets = [AttributeType::Value, AttributeType::PrivateExponent, AttributeType::Prime1];
        assert_eq!(session.get_attributes(loaded, &secrets).expect("an answer"), [], "it can be read");
        session.update_attributes(loaded, &[Attribute::Extractable(true)]).expect_err("it stays inside");
        let root = labelled(&session, "root-1");
        for mechanism in [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad] {
            session.wrap_key(&mechanism, root, loaded).expect_err("it must not leave");
        }
    }
}

fn nothing_of_a_pair_stays_but_what_is_loaded(token: &Token) {
    let hsm = token.open_new();
    let brought = on_session(&hsm, |session| {
        session.generate_key_pair(BackingKind::EcP256).expect("a key pair");
        let (private_key, _) = session.generate_data_key_pair(BackingKind::EcP384).expect("a data key pair");
        session.import_key_pair(BackingKind::EcP384, &private_key).expect("a key pair");
        session.import_backing_key(BackingKind::Aes256, &SecretBytes::zeroed(32)).expect("a key")
    });
    let session = token.session();
    assert_eq!(session.find_objects(&[Attribute::Token(false)]).expect("a search"), []);
    let (kind, material) = (BackingKind::Aes256, new_material());
    let key = BackingKey { material, version: 1, kind, wrapped: brought };
    on_session(&hsm, move |session| session.seal(&key, &[7; 12], b"", b"plaintext")).expect("sealed");
    let loaded = find(&session, &[Attribute::Token(false)]);
    assert_unreadable(&session, loaded);
}
