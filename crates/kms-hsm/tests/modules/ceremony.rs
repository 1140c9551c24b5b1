//! Root keys are made once, and what an interruption leaves is never used.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass},
    session::Session,
};

use kms_hsm::{OpenError, Pkcs11Hsm};

use crate::{
    faults::has_healed,
    support::{Token, ask, mac, new_key, open_error},
};

on_each_module!(
    with_token:
    root_keys_are_made_once,
    what_an_interrupted_ceremony_left_is_a_stranger,
    a_root_key_that_may_do_more_is_refused,
    two_root_keys_of_one_generation_are_refused,
    the_newest_generation_wraps_and_each_unwraps_its_own,
);
on_module!(
    softhsm2_disk, SoftHsm2, with_watched_token:
    a_newest_root_key_that_may_not_be_on_the_disk_is_brought_there_before_it_wraps,
);

/// An object that is not a key at all, with a label of the caller's choice.
fn put_data(session: &Session, label: &str) {
    let template = [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(label.into()),
    ];
    session.create_object(&template).expect("a data object");
}

/// A root key that may also encrypt if `encrypt` says so.
fn put_root(session: &Session, label: &str, generation: u8, encrypt: bool) {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(32.into()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Label(label.into()),
        Attribute::Id(vec![0, 0, 0, generation]),
        Attribute::Encrypt(encrypt),
    ];
    template.extend([Attribute::Wrap(true), Attribute::Unwrap(true)]);
    template.extend([Attribute::Decrypt(false), Attribute::Sign(false), Attribute::Verify(false)]);
    template.push(Attribute::Derive(false));
    session.generate_key(&Mechanism::AesKeyGen, &template).expect("an AES key");
}

fn root_keys_are_made_once(token: &Token) {
    let made = Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    assert_eq!((made.generation, made.root_label.as_str()), (1, "root-1"));
    assert_eq!(
        (made.authentication_label.as_str(), made.log_label.as_str()),
        ("root-authentication", "root-log")
    );
    let again = Pkcs11Hsm::create_root_keys(&token.config()).expect_err("they exist");
    assert_eq!(again, OpenError::RootKeysExist { label: "root-1".to_owned() });
    let hsm = Pkcs11Hsm::open(&token.config()).expect("a token with root keys");
    assert_eq!((hsm.root_generation(), hsm.strangers()), (1, &[][..]));
}

fn what_an_interrupted_ceremony_left_is_a_stranger(token: &Token) {
    token.with_raw_session(|session| put_data(session, "root-1"));
    assert!(matches!(open_error(token), OpenError::RootKeyHalfMade { label, .. } if label == "root-1"));
    Pkcs11Hsm::create_root_keys(&token.config()).expect("nothing was ever wrapped under half a key");
    token.with_raw_session(|session| put_data(session, "something else"));
    let hsm = Pkcs11Hsm::open(&token.config()).expect("one sound root key");
    let mut strangers = hsm.strangers().to_vec();
    strangers.sort();
    assert_eq!(strangers, ["root-1", "something else"]);
    mac(&hsm, &new_key(&hsm)).expect("a mac");
}

fn a_root_key_that_may_do_more_is_refused(token: &Token) {
    token.with_raw_session(|session| put_root(session, "root-1", 1, true));
    let wrong = OpenError::RootKeyAttributes { label: "root-1".to_owned(), wrong: "CKA_ENCRYPT".to_owned() };
    assert_eq!(open_error(token), wrong);
    assert_eq!(Pkcs11Hsm::create_root_keys(&token.config()), Err(wrong));
}

fn two_root_keys_of_one_generation_are_refused(token: &Token) {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    token.with_raw_session(|session| put_root(session, "root-1", 1, false));
    assert_eq!(open_error(token), OpenError::RootKeyDuplicated { label: "root-1".to_owned() });
}

fn the_newest_generation_wraps_and_each_unwraps_its_own(token: &Token) {
    let hsm = token.open_new();
    let old = new_key(&hsm);
    let expected = mac(&hsm, &old).expect("a mac");
    drop(hsm);
    token.with_raw_session(|session| put_root(session, "root-2", 2, false));
    let hsm = Pkcs11Hsm::open(&token.config()).expect("two generations");
    assert_eq!(hsm.root_generation(), 2);
    let new = new_key(&hsm);
    assert_eq!((old.wrapped.root_generation, new.wrapped.root_generation), (1, 2));
    mac(&hsm, &new).expect("a mac");
    assert_eq!(mac(&hsm, &old).expect("a mac"), expected);
}

/// Somebody began a rotation and died when the key was made: SoftHSM2 writes its files without a sync.
fn a_newest_root_key_that_may_not_be_on_the_disk_is_brought_there_before_it_wraps(token: &Token) {
    drop(token.open_new());
    let known = token.syncs();
    assert!(known > 0, "the ceremony brings its keys to the disk");
    drop(Pkcs11Hsm::open(&token.config()).expect("one generation"));
    assert_eq!(token.syncs(), known, "one that is alone needs nothing");
    token.with_raw_session(|session| put_root(session, "root-2", 2, false));
    let hsm = Pkcs11Hsm::open(&token.config()).expect("two generations");
    assert_eq!((hsm.root_generation(), token.syncs()), (2, known + 1));
    assert_eq!(ask(&hsm, |session| session.create_root_key()), Ok(3));
    assert_eq!(token.syncs(), known + 2);
    token.module().finalize().expect("the workers are idle");
    ask(&hsm, |session| session.self_test()).expect_err("the module is gone");
    has_healed(&hsm, 1);
    assert_eq!(token.syncs(), known + 2, "all of them are known to be on the disk");
}
