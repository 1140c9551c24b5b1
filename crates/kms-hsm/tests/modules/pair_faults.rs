//! Key pairs on a module that fails: what is lost is found again, and nobody is blamed for what he did not do.

use std::{sync::mpsc, thread, time::Duration};

use kms_core::{
    key::{BackingKey, BackingKind},
    ports::{Birth, DigestAlgorithm, Hsm as _, HsmError, HsmJob, KeyPair, SigningMechanism},
    testing::hsm::{key_pair_contract, keyed_hash_contract},
};
use kms_hsm::{Pkcs11Config, Pkcs11Hsm};

use crate::{
    faults::has_healed,
    healing::healed,
    support::{Token, ask, mac, new_key, new_material},
};

on_each_module!(
    with_faulty_token:
    pairs_work_behind_the_stand_in,
    a_lost_session_and_a_lost_private_key_go_unnoticed,
    a_lost_login_heals_for_pairs,
    a_device_error_fails_its_call_and_says_which,
    a_device_that_does_not_decrypt_blames_no_ciphertext_of_rsa,
    a_token_in_trouble_is_not_taken_for_one_that_lacks_pairs,
    what_the_mechanisms_lack_is_not_offered,
    many_rsa_keys_hold_nobody_else_up,
);

const PKCS1: SigningMechanism = SigningMechanism::RsaPkcs1(DigestAlgorithm::Sha256);

/// A pool with one worker.
fn one_worker(token: &Token) -> Pkcs11Hsm {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    Pkcs11Hsm::open(&Pkcs11Config { workers: 1, ..token.config() }).expect("a token")
}

/// A key pair, its private key not loaded yet, and the public key.
fn new_pair(hsm: &Pkcs11Hsm, kind: BackingKind) -> (BackingKey, Vec<u8>) {
    let made = ask(hsm, move |session| session.generate_key_pair(kind)).expect("a key pair");
    let KeyPair { wrapped, public_key } = made;
    (BackingKey { material: new_material(), version: 1, kind, wrapped }, public_key)
}

fn sign(hsm: &Pkcs11Hsm, key: &BackingKey) -> Result<Vec<u8>, HsmError> {
    let key = key.clone();
    ask(hsm, move |session| session.sign(&key, PKCS1, &[7; 32]))
}

fn decrypt(hsm: &Pkcs11Hsm, key: &BackingKey, block: &[u8]) -> Result<Vec<u8>, HsmError> {
    let (key, block) = (key.clone(), block.to_vec());
    ask(hsm, move |session| Ok(session.decrypt_rsa(&key, &block)?.expose_secret().to_vec()))
}

/// Agrees with the owner of a public key, whose point that key ends with.
fn agree(hsm: &Pkcs11Hsm, key: &BackingKey, public_key: &[u8]) -> Result<Vec<u8>, HsmError> {
    let (key, point) = (key.clone(), public_key[public_key.len() - 65..].to_vec());
    ask(hsm, move |session| Ok(session.agree(&key, &point)?.expose_secret().to_vec()))
}

fn pairs_work_behind_the_stand_in(token: &Token) {
    let hsm = token.open_new();
    assert!(key_pair_contract(&hsm, BackingKind::EcP256));
    keyed_hash_contract(&hsm, BackingKind::HmacSha512);
}

fn a_lost_session_and_a_lost_private_key_go_unnoticed(token: &Token) {
    let hsm = one_worker(token);
    let (rsa, _) = new_pair(&hsm, BackingKind::Rsa2048);
    let (curve, public_key) = new_pair(&hsm, BackingKind::EcP256);
    let expected = (sign(&hsm, &rsa), decrypt(&hsm, &rsa, &[1; 256]), agree(&hsm, &curve, &public_key));
    assert!(expected.0.is_ok() && expected.1.is_ok() && expected.2.is_ok(), "{expected:?}");
    let faults = [
        // CKR_SESSION_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID, CKR_OPERATION_NOT_INITIALIZED
        "C_SignInit error 0xb3 1\nC_DecryptInit error 0xb3 1",
        "C_SignInit error 0x60 1\nC_DecryptInit error 0x60 1\nC_DeriveKey error 0x60 1",
        "C_Sign error 0x91 1\nC_Decrypt error 0x91 1",
    ];
    for fault in faults {
        token.inject(fault);
        let answers = (sign(&hsm, &rsa), decrypt(&hsm, &rsa, &[1; 256]), agree(&hsm, &curve, &public_key));
        assert_eq!(answers, expected, "{fault}");
    }
    assert_eq!((hsm.loss(), hsm.statistics().heals), (None, 0));
}

fn a_lost_login_heals_for_pairs(token: &Token) {
    let hsm = one_worker(token);
    let (rsa, _) = new_pair(&hsm, BackingKind::Rsa2048);
    let (curve, public_key) = new_pair(&hsm, BackingKind::EcP256);
    let expected = [sign(&hsm, &rsa), agree(&hsm, &curve, &public_key)];
    // CKR_USER_NOT_LOGGED_IN; and for C_DeriveKey, which is called on everyone's session, that the session is gone
    for (heals, fault) in [(1, "C_SignInit error 0x101 1"), (2, "C_DeriveKey error 0xb3 1")] {
        token.inject(fault);
        let lost = [sign(&hsm, &rsa), agree(&hsm, &curve, &public_key)];
        assert!(lost.iter().any(Result::is_err), "{fault}");
        has_healed(&hsm, heals);
        assert_eq!(healed(|| sign(&hsm, &rsa)), expected[0].clone().expect("a signature"));
        assert_eq!(healed(|| agree(&hsm, &curve, &public_key)), expected[1].clone().expect("a secret"));
    }
}

fn a_device_error_fails_its_call_and_says_which(token: &Token) {
    let hsm = one_worker(token);
    assert_eq!(ask(&hsm, |session| session.offers(BackingKind::EcP256)), Ok(true));
    let (curve, public_key) = new_pair(&hsm, BackingKind::EcP256);
    for function in ["C_GenerateKeyPair", "C_WrapKey", "C_GetAttributeValue"] {
        token.inject(&format!("{function} error 0x30 1")); // CKR_DEVICE_ERROR
        let failed = ask(&hsm, |session| session.generate_key_pair(BackingKind::EcP256));
        assert!(
            matches!(failed, Err(HsmError::Unavailable { function: told, .. }) if told == function),
            "{failed:?}"
        );
    }
    token.inject("C_DeriveKey error 0x30 1");
    let failed = agree(&hsm, &curve, &public_key);
    assert!(matches!(failed, Err(HsmError::Unavailable { function: "C_DeriveKey", .. })), "{failed:?}");
    agree(&hsm, &curve, &public_key).expect("it works again");
    assert_eq!((hsm.loss(), hsm.statistics().heals), (None, 0));
}

fn a_device_that_does_not_decrypt_blames_no_ciphertext_of_rsa(token: &Token) {
    let hsm = one_worker(token);
    let (key, _) = new_pair(&hsm, BackingKind::Rsa2048);
    let expected = decrypt(&hsm, &key, &[1; 256]);
    // All else works. CKR_GENERAL_ERROR, CKR_DEVICE_ERROR, CKR_ENCRYPTED_DATA_INVALID
    for fault in ["C_Decrypt error 0x5 2", "C_Decrypt error 0x30", "C_Decrypt error 0x40"] {
        token.inject(fault);
        let refused = decrypt(&hsm, &key, &[1; 256]).expect_err("it does not decrypt");
        assert!(matches!(refused, HsmError::Unavailable { function: "C_Decrypt", .. }), "{fault}: {refused}");
        token.inject("");
        assert_eq!(decrypt(&hsm, &key, &[1; 256]), expected);
        assert_eq!(decrypt(&hsm, &key, &[0xff; 256]), Err(HsmError::NotAuthentic));
    }
    assert_eq!((hsm.loss(), hsm.statistics().heals), (None, 0));
}

fn a_token_in_trouble_is_not_taken_for_one_that_lacks_pairs(token: &Token) {
    let hsm = one_worker(token);
    // The token fails at everything: its answer is no answer.
    token.inject("* error 0x30");
    ask(&hsm, |session| session.offers(BackingKind::EcP256)).expect_err("nothing works");
    token.inject("");
    assert!(healed(|| ask(&hsm, |session| session.offers(BackingKind::EcP256))));
}

fn what_the_mechanisms_lack_is_not_offered(token: &Token) {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    // CKM_RSA_X_509, CKM_ECDH1_DERIVE, CKM_SHA384_HMAC
    for (mechanism, kind) in
        [("0x3", BackingKind::Rsa2048), ("0x1050", BackingKind::EcP384), ("0x261", BackingKind::HmacSha384)]
    {
        token.inject(&format!("C_GetMechanismInfo lacks {mechanism}"));
        let hsm = Pkcs11Hsm::open(&token.config()).expect("a token");
        assert_eq!(ask(&hsm, move |session| session.offers(kind)), Ok(false), "{kind:?}");
        let refused = ask(&hsm, move |session| match kind {
            BackingKind::HmacSha384 => session.generate_backing_key(kind).map(drop),
            _ => session.generate_key_pair(kind).map(drop),
        });
        assert!(matches!(refused, Err(HsmError::NotOffered { .. })), "{refused:?}");
        assert_eq!(ask(&hsm, |session| session.offers(BackingKind::EcP256)), Ok(mechanism != "0x1050"));
        drop(hsm);
        token.inject("");
    }
}

fn many_rsa_keys_hold_nobody_else_up(token: &Token) {
    let hsm = token.open_new(); // two workers
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    new_pair(&hsm, BackingKind::Rsa2048); // from now on it is known that the token makes them
    token.inject("C_GenerateKeyPair hang 500");
    let (done, made) = mpsc::channel();
    for _ in 0..40 {
        let done = done.clone();
        let job: HsmJob = Box::new(move |session| {
            let made = session.and_then(|session| session.generate_data_key_pair(BackingKind::Rsa2048));
            done.send(made.map(drop)).expect("the test waits");
        });
        hsm.submit_birth(Birth::Slow, job);
    }
    let (mut ended, mut macs) = (made.try_iter().collect::<Vec<_>>(), 0);
    assert!(ended.len() >= 30 && ended.iter().all(|made| made == &Err(HsmError::Busy)), "{ended:?}");
    let refused = ended.len();
    while ended.len() < 40 {
        assert_eq!(mac(&hsm, &key).as_ref(), Ok(&expected));
        macs += 1;
        ended.extend(made.try_iter());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(macs > 40, "{macs} macs while {} key pairs were made", 40 - refused);
    assert!(ended[refused..].iter().all(Result::is_ok), "{ended:?}");
}
