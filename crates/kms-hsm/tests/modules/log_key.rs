//! The key that signs the log's checkpoints: made once, on the token or derived from it, and never another one.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectClass},
    session::Session,
};
use kms_core::{
    ports::{HsmError, LogKey},
    testing::hsm::{log_key_contract, missing_log_key_contract, on_session},
};
use kms_hsm::{CheckpointSignature, OpenError, Pkcs11Config, Pkcs11Hsm};

use crate::support::{Token, ask, open_error};

on_each_module!(
    with_token:
    the_log_key_is_made_with_the_root_key_and_stays,
    a_token_without_a_log_key_gets_one,
    the_log_pair_signs_and_does_nothing_else,
    half_a_log_key_is_a_stranger,
    two_log_keys_are_refused,
    a_log_key_that_may_do_more_is_refused,
    a_log_key_that_another_process_made_is_taken,
    a_token_that_comes_back_without_its_log_key_is_refused,
    a_log_key_outlives_a_renewal,
);
pub(crate) fn log_key(hsm: &Pkcs11Hsm) -> Option<LogKey> {
    on_session(hsm, |session| session.log_key()).expect("an answer")
}

pub(crate) fn sign(hsm: &Pkcs11Hsm) -> Result<[u8; 64], HsmError> {
    ask(hsm, |session| session.sign_checkpoint(b"text"))
}

pub(crate) fn open(token: &Token) -> Pkcs11Hsm {
    Pkcs11Hsm::open(&token.config()).expect("a token with root keys")
}

/// What has the log key's label, of one class or of all.
fn destroy(session: &Session, class: Option<ObjectClass>) {
    let mut template = vec![Attribute::Token(true), Attribute::Label("root-log".into())];
    template.extend(class.map(Attribute::Class));
    let found = session.find_objects(&template).expect("a search");
    assert!(!found.is_empty(), "{template:?}");
    for object in found {
        session.destroy_object(object).expect("it is a token object");
    }
}

/// The pool on a token as an older Dewpoint left it.
pub(crate) fn open_without_log_key(token: &Token) -> Pkcs11Hsm {
    drop(token.open_new());
    token.with_raw_session(|session| destroy(session, None));
    open(token)
}

/// A key pair such as the log's, but that may leave the token if `extractable` says so.
fn put_pair(session: &Session, extractable: bool) {
    let label = Attribute::Label("root-log".into());
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let public = [Attribute::Token(true), Attribute::EcParams(p256), label.clone()];
    let private = [
        label,
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Derive(false),
        Attribute::Unwrap(false),
    ];
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).expect("a key pair");
}

/// The same key, though its certificate may be a fresh one.
pub(crate) fn assert_same(one: &LogKey, other: &LogKey) {
    let certifier = |key: &LogKey| key.certificate.as_ref().map(|one| one.public_key_der.clone());
    assert_eq!((one.public_key, certifier(one)), (other.public_key, certifier(other)));
}

fn the_log_key_is_made_with_the_root_key_and_stays(token: &Token) {
    let made = Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    let vouched = made.log_signature == Some(CheckpointSignature::Ecdsa);
    assert_eq!(made.log_key.certificate.is_some(), vouched);
    for _ in 0..2 {
        let hsm = open(token);
        assert_same(&log_key_contract(&hsm), &made.log_key);
        assert!(hsm.strangers().is_empty());
    }
}

fn a_token_without_a_log_key_gets_one(token: &Token) {
    let hsm = open_without_log_key(token);
    missing_log_key_contract(&hsm);
    let made = log_key_contract(&hsm);
    drop(hsm);
    let hsm = open(token);
    assert_same(&log_key_contract(&hsm), &made);
    assert!(hsm.strangers().is_empty());
}

fn the_log_pair_signs_and_does_nothing_else(token: &Token) {
    let hsm = token.open_new();
    let session = token.session();
    let of_class = |class| {
        let template = [Attribute::Token(true), Attribute::Label("root-log".into()), Attribute::Class(class)];
        let found = session.find_objects(&template).expect("a search");
        assert_eq!(found.len(), 1, "{class:?}");
        found[0]
    };
    let (private, _) = (of_class(ObjectClass::PRIVATE_KEY), of_class(ObjectClass::PUBLIC_KEY));
    let wanted = [
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::AlwaysSensitive(true),
        Attribute::NeverExtractable(true),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Derive(false),
        Attribute::Unwrap(false),
    ];
    let types: Vec<_> = wanted.iter().map(Attribute::attribute_type).collect();
    assert_eq!(session.get_attributes(private, &types).expect("attributes"), wanted);
    assert_eq!(session.get_attributes(private, &[AttributeType::Value]).expect("an answer"), []);
    session.update_attributes(private, &[Attribute::Extractable(true)]).expect_err("it stays inside");
    let root = [Attribute::Token(true), Attribute::Label("root-1".into())];
    let root = session.find_objects(&root).expect("a search")[0];
    for mechanism in [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad] {
        session.wrap_key(&mechanism, root, private).expect_err("it must not leave");
    }
    // Nothing of a key that is derived lies on the token either.
    sign(&hsm).expect("a signature");
    assert_eq!(session.find_objects(&[Attribute::Token(false)]).expect("a search"), []);
}

fn half_a_log_key_is_a_stranger(token: &Token) {
    let before = log_key(&token.open_new()).expect("the log's key");
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        token.with_raw_session(|session| destroy(session, Some(class)));
        let hsm = open(token);
        let count = hsm.strangers().len();
        assert!(hsm.strangers().iter().all(|label| label == "root-log") && count > 0);
        missing_log_key_contract(&hsm);
        let made = log_key_contract(&hsm);
        assert_eq!(made.public_key == before.public_key, made.certificate.is_some(), "derived, or another");
        drop(hsm);
        let hsm = open(token);
        assert_same(&log_key_contract(&hsm), &made);
        assert_eq!(hsm.strangers().len(), count);
        drop(hsm);
        token.with_raw_session(|session| {
            destroy(session, None);
            put_pair(session, false);
        });
    }
}

fn two_log_keys_are_refused(token: &Token) {
    let duplicated = OpenError::RootKeyDuplicated { label: "root-log".to_owned() };
    let hsm = open_without_log_key(token);
    let session = token.session();
    put_pair(&session, false);
    put_pair(&session, false);
    let refusal = ask(&hsm, |session| session.create_log_key()).expect_err("which one is it?");
    assert!(matches!(&refusal, HsmError::Unavailable { detail, .. } if *detail == duplicated.to_string()));
    assert_eq!(log_key(&hsm), None);
    drop((session, hsm));
    assert_eq!(open_error(token), duplicated);
}

fn a_log_key_that_may_do_more_is_refused(token: &Token) {
    let wrong =
        OpenError::RootKeyAttributes { label: "root-log".to_owned(), wrong: "CKA_EXTRACTABLE".to_owned() };
    token.with_raw_session(|session| put_pair(session, true));
    assert_eq!(Pkcs11Hsm::create_root_keys(&token.config()), Err(wrong.clone()));
    token.with_raw_session(|session| destroy(session, None));
    Pkcs11Hsm::create_root_keys(&token.config()).expect("nothing is wrong any more");
    token.with_raw_session(|session| {
        destroy(session, None);
        put_pair(session, true);
    });
    assert_eq!(open_error(token), wrong);
}

fn a_log_key_that_another_process_made_is_taken(token: &Token) {
    let hsm = open_without_log_key(token);
    put_pair(&token.session(), false);
    missing_log_key_contract(&hsm);
    let taken = log_key_contract(&hsm);
    assert!(taken.certificate.is_some(), "the other process made a pair on P-256");
    drop(hsm);
    assert_same(&log_key(&open(token)).expect("the log's key"), &taken);
}

fn a_token_that_comes_back_without_its_log_key_is_refused(token: &Token) {
    let hsm = token.open_new();
    destroy(&token.session(), None);
    token.module().finalize().expect("the workers are idle");
    let refusal = loop {
        match sign(&hsm) {
            Err(HsmError::Unavailable { detail, .. }) if detail.contains("other keys than before") => {
                break detail;
            }
            Err(HsmError::Unavailable { .. }) => std::thread::yield_now(),
            other => panic!("{other:?}"),
        }
    };
    assert!(refusal.contains("restore it"), "{refusal}");
}

fn a_log_key_outlives_a_renewal(token: &Token) {
    drop(token.open_new());
    let hsm = Pkcs11Hsm::open(&Pkcs11Config { renew_after: 1, ..token.config() }).expect("a token");
    let before = log_key(&hsm).expect("the log's key");
    let signature = sign(&hsm).expect("a signature");
    while hsm.statistics().renewals < 3 {
        on_session(&hsm, |session| session.self_test()).expect("the token works");
        assert_eq!(sign(&hsm).as_ref(), Ok(&signature), "Ed25519 signatures of one key do not differ");
    }
    assert_same(&log_key(&hsm).expect("the log's key"), &before);
}
