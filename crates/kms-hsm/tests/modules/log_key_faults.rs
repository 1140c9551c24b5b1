//! The log's key on a token that lacks what it should be made of, or that fails.

use kms_core::{
    ports::HsmError,
    testing::hsm::{log_key_contract, missing_log_key_contract},
};
use kms_hsm::{CheckpointSignature, Pkcs11Hsm};

use crate::{
    faults::has_healed,
    healing::healed,
    log_key::{assert_same, log_key, open, open_without_log_key, sign},
    support::{Token, ask},
};

on_each_module!(
    with_faulty_token:
    without_ed25519_another_key_of_the_token_vouches,
    a_token_that_signs_in_neither_way_has_a_log_key_for_which_nothing_vouches,
    faults_cost_a_checkpoint_and_no_log_key,
    a_moment_of_trouble_while_it_is_opened_loses_no_log_key,
    a_log_key_that_cannot_be_made_now_is_made_later,
);

const EDDSA: &str = "C_GetMechanismInfo lacks 0x1057";
const ECDSA: &str = "C_GetMechanismInfo lacks 0x1041";

fn without_ed25519_another_key_of_the_token_vouches(token: &Token) {
    token.inject(EDDSA);
    let made = Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    assert_eq!(made.log_signature, Some(CheckpointSignature::Ecdsa));
    // A token that learns Ed25519 keeps the key that it has.
    for faults in [EDDSA, ""] {
        token.inject(faults);
        let hsm = open(token);
        let held = log_key_contract(&hsm);
        assert!(held.certificate.is_some());
        assert_same(&held, &made.log_key);
    }
}

fn a_token_that_signs_in_neither_way_has_a_log_key_for_which_nothing_vouches(token: &Token) {
    token.inject(&[EDDSA, ECDSA].join("\n"));
    let made = Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    assert_eq!((made.log_signature, &made.log_key.certificate), (None, &None));
    assert_same(&log_key_contract(&open(token)), &made.log_key);
    // A token that learns ECDSA vouches for the same key from then on.
    token.inject(EDDSA);
    let hsm = open(token);
    missing_log_key_contract(&hsm);
    let vouched = log_key_contract(&hsm);
    assert_eq!((vouched.public_key, vouched.certificate.is_some()), (made.log_key.public_key, true));
}

fn faults_cost_a_checkpoint_and_no_log_key(token: &Token) {
    let hsm = token.open_new();
    let signature = sign(&hsm).expect("a signature");
    token.inject("C_Sign error 0x30 1");
    let failed = HsmError::Unavailable { function: "C_Sign", detail: "CKR_DEVICE_ERROR".to_owned() };
    assert_eq!(sign(&hsm), Err(failed));
    assert_eq!(sign(&hsm).as_ref(), Ok(&signature));
    token.inject("C_SignInit error 0xb3 1"); // CKR_SESSION_HANDLE_INVALID
    assert_eq!(sign(&hsm).as_ref(), Ok(&signature), "a lost session goes unnoticed");
    assert_eq!(hsm.statistics().heals, 0);
    token.inject("C_SignInit error 0x60 1"); // CKR_KEY_HANDLE_INVALID
    let lost = HsmError::Unavailable { function: "C_SignInit", detail: "CKR_KEY_HANDLE_INVALID".to_owned() };
    assert_eq!(sign(&hsm), Err(lost), "a key of the token that is gone is no loaded key");
    has_healed(&hsm, 1);
    assert_eq!(healed(|| sign(&hsm)), signature);
}

fn a_moment_of_trouble_while_it_is_opened_loses_no_log_key(token: &Token) {
    drop(token.open_new());
    for (function, count) in [("C_Sign", 24), ("C_SignInit", 24), ("C_GetAttributeValue", 24)] {
        for left in 1..=count {
            token.inject(&format!("{function} error 0x30 {left}"));
            if let Ok(hsm) = Pkcs11Hsm::open(&token.config()) {
                assert!(log_key(&hsm).is_some(), "{function} failed {left} times");
            }
        }
    }
}

fn a_log_key_that_cannot_be_made_now_is_made_later(token: &Token) {
    let hsm = open_without_log_key(token);
    for function in ["C_GenerateKeyPair", "C_OpenSession", "C_FindObjectsInit"] {
        token.inject(&format!("{function} error 0x30 1"));
        let failed = HsmError::Unavailable { function, detail: "CKR_DEVICE_ERROR".to_owned() };
        assert_eq!(ask(&hsm, |session| session.create_log_key()), Err(failed));
        missing_log_key_contract(&hsm);
    }
    log_key_contract(&hsm);
    token.inject(""); // a module that is loaded anew meets its faults anew
    drop(hsm);
    assert!(open(token).strangers().is_empty());
}
