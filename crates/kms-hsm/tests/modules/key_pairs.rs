//! Key pairs, HMAC keys and keys that are brought: what each module really offers, and that it keeps to the port.

use kms_core::{
    key::BackingKind,
    testing::hsm::{import_contract, key_pair_contract, keyed_hash_contract},
};

use crate::support::Token;

on_each_module!(
    with_token:
    rsa_2048_keeps_the_contract,
    rsa_3072_keeps_the_contract,
    rsa_4096_keeps_the_contract,
    elliptic_curves_keep_the_contract,
    secp256k1_keeps_the_contract,
    ed25519_is_not_offered,
    hmac_keys_compute_what_software_computes,
    brought_keys_are_the_keys_that_were_brought,
);

fn is_kryoptic(token: &Token) -> bool {
    token.module.ends_with("libkryoptic.so")
}

fn rsa_2048_keeps_the_contract(token: &Token) {
    assert!(key_pair_contract(&token.open_new(), BackingKind::Rsa2048));
}

fn rsa_3072_keeps_the_contract(token: &Token) {
    assert!(key_pair_contract(&token.open_new(), BackingKind::Rsa3072));
}

fn rsa_4096_keeps_the_contract(token: &Token) {
    assert!(key_pair_contract(&token.open_new(), BackingKind::Rsa4096));
}

fn elliptic_curves_keep_the_contract(token: &Token) {
    let hsm = token.open_new();
    assert!(key_pair_contract(&hsm, BackingKind::EcP256));
    assert!(key_pair_contract(&hsm, BackingKind::EcP384));
}

fn secp256k1_keeps_the_contract(token: &Token) {
    assert_eq!(key_pair_contract(&token.open_new(), BackingKind::EcSecp256k1), !is_kryoptic(token));
}

fn ed25519_is_not_offered(token: &Token) {
    // SoftHSM2 signs with such keys, and does not wrap them; Kryoptic as built here has no Edwards curves.
    assert!(!key_pair_contract(&token.open_new(), BackingKind::Ed25519));
}

fn hmac_keys_compute_what_software_computes(token: &Token) {
    let hsm = token.open_new();
    for kind in [BackingKind::HmacSha256, BackingKind::HmacSha384, BackingKind::HmacSha512] {
        keyed_hash_contract(&hsm, kind);
    }
}

fn brought_keys_are_the_keys_that_were_brought(token: &Token) {
    import_contract(&token.open_new());
}
