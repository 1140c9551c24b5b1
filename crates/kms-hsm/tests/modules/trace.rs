//! What reaches the module: a recorder stands between it and the pool.

use kms_hsm::{Pkcs11Config, Pkcs11Hsm};

use kms_core::{
    key::{BackingKey, BackingKind},
    ports::{HsmSession, SigningMechanism},
    testing::hsm::on_session,
};

use crate::support::{Token, mac, new_key, new_material};

on_each_module!(
    with_recorded_token:
    a_warm_key_costs_one_signature_and_nothing_else,
    a_cold_key_costs_one_unwrapping_more,
    random_bytes_are_fetched_in_bulk,
    a_new_key_is_made_wrapped_proved_and_gone,
    a_signature_is_one_call_of_two_and_a_shared_secret_one_of_three,
    a_new_pair_is_made_read_wrapped_proved_and_gone,
    a_checkpoint_costs_one_signature,
    a_pool_that_ends_closes_everything_and_then_the_module,
);

fn open(token: &Token) -> Pkcs11Hsm {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    Pkcs11Hsm::open(&Pkcs11Config { workers: 1, ..token.config() }).expect("a token")
}

/// The calls that `work` causes.
fn calls_of(token: &Token, work: impl FnOnce()) -> Vec<String> {
    let before = token.trace().len();
    work();
    token.trace().split_off(before)
}

fn a_warm_key_costs_one_signature_and_nothing_else(token: &Token) {
    let hsm = open(token);
    let key = new_key(&hsm);
    mac(&hsm, &key).expect("a mac");
    let calls = calls_of(token, || {
        for _ in 0..5 {
            mac(&hsm, &key).expect("a mac");
        }
    });
    assert_eq!(calls, ["C_SignInit", "C_Sign"].repeat(5));
}

fn a_cold_key_costs_one_unwrapping_more(token: &Token) {
    let hsm = open(token);
    let key = new_key(&hsm);
    let calls = calls_of(token, || drop(mac(&hsm, &key).expect("a mac")));
    assert_eq!(calls, ["C_UnwrapKey", "C_SignInit", "C_Sign"]);
}

fn random_bytes_are_fetched_in_bulk(token: &Token) {
    let hsm = open(token);
    let calls = calls_of(token, || {
        for _ in 0..100 {
            on_session(&hsm, |session| session.fill_random(&mut [0; 32])).expect("random bytes");
        }
    });
    assert_eq!(calls, ["C_GenerateRandom"]);
}

fn a_new_key_is_made_wrapped_proved_and_gone(token: &Token) {
    let hsm = open(token);
    let calls = calls_of(token, || drop(new_key(&hsm)));
    let sign = ["C_SignInit", "C_Sign"];
    let expected: Vec<_> = ["C_GenerateKey", "C_WrapKey", "C_UnwrapKey"]
        .into_iter()
        .chain(sign)
        .chain(sign)
        .chain(["C_DestroyObject", "C_DestroyObject"])
        .collect();
    assert_eq!(calls, expected);
}

fn new_pair(hsm: &Pkcs11Hsm) -> (BackingKey, Vec<u8>) {
    let pair = on_session(hsm, |session| session.generate_key_pair(BackingKind::EcP256)).expect("a key pair");
    let (kind, material) = (BackingKind::EcP256, new_material());
    (BackingKey { material, version: 1, kind, wrapped: pair.wrapped }, pair.public_key)
}

fn a_signature_is_one_call_of_two_and_a_shared_secret_one_of_three(token: &Token) {
    let hsm = open(token);
    let (key, public_key) = new_pair(&hsm);
    let peer = public_key[public_key.len() - 65..].to_vec();
    let (signing, agreeing) = (key.clone(), key);
    let sign = move |session: &mut dyn HsmSession| {
        session.sign(&signing, SigningMechanism::Ecdsa, &[7; 32]).expect("a signature");
    };
    on_session(&hsm, sign.clone());
    assert_eq!(calls_of(token, || on_session(&hsm, sign)), ["C_SignInit", "C_Sign"]);
    let calls = calls_of(token, || {
        on_session(&hsm, move |session| session.agree(&agreeing, &peer)).expect("a shared secret");
    });
    assert_eq!(calls, ["C_DeriveKey", "C_GetAttributeValue", "C_DestroyObject"]);
}

/// On every module: where the token does not sign itself, it computes the seed of the key that does.
fn a_checkpoint_costs_one_signature(token: &Token) {
    let hsm = open(token);
    let calls = calls_of(token, || {
        on_session(&hsm, |session| session.sign_checkpoint(b"text")).expect("a signature");
    });
    assert_eq!(calls, ["C_SignInit", "C_Sign"]);
}

/// The public key is read by the library, which asks for the lengths first; all else is called once.
fn a_new_pair_is_made_read_wrapped_proved_and_gone(token: &Token) {
    let hsm = open(token);
    new_pair(&hsm);
    let mut calls = calls_of(token, || drop(new_pair(&hsm)));
    calls.dedup();
    let proof = ["C_SignInit", "C_Sign", "C_SignInit", "C_Sign"];
    let expected: Vec<_> = ["C_OpenSession", "C_GenerateKeyPair", "C_GetAttributeValue", "C_DestroyObject"]
        .into_iter()
        .chain(["C_WrapKey", "C_UnwrapKey"])
        .chain(proof)
        .chain(proof)
        .chain(["C_DestroyObject", "C_CloseSession"])
        .collect();
    assert_eq!(calls, expected);
}

fn a_pool_that_ends_closes_everything_and_then_the_module(token: &Token) {
    let hsm = open(token);
    mac(&hsm, &new_key(&hsm)).expect("a mac");
    let calls = calls_of(token, || drop(hsm));
    assert_eq!(calls, ["C_CloseSession", "C_CloseSession", "C_Finalize"]);
}
