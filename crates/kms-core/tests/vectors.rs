//! The published vectors, through the crate's own code. An independent program made them.

use std::collections::BTreeMap;

use aes_gcm::{
    Aes256Gcm, AesGcm, KeyInit as _,
    aead::{Aead as _, Payload, consts::U12},
};
use kms_core::{
    SecretBytes,
    ciphertext::Header,
    context::EncryptionContext,
    key::{Cipher, Scheme},
    ports::Mac,
};
use serde_json::Value;
use sm4::Sm4;

const DERIVED_KEY: &str = include_str!("../../../docs/vectors/ciphertext-v1.json");
const PURPOSES: &str = include_str!("../../../docs/vectors/ciphertext-v1-purposes.json");
const IN_HSM: &str = include_str!("../../../docs/vectors/ciphertext-v1-in-hsm.json");

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(vector[field].as_str().expect("a text")).expect("hexadecimal digits")
}

fn context(vector: &Value) -> EncryptionContext {
    let pairs = vector["encryption_context"].as_object().expect("an object").iter();
    let pairs: BTreeMap<String, String> =
        pairs.map(|(key, value)| (key.clone(), value.as_str().expect("a text").to_owned())).collect();
    let data = vector["additional_authenticated_data"].as_str().unwrap_or_default();
    let data = hex::decode(data).expect("hexadecimal digits");
    EncryptionContext::of_either(pairs, &data).expect("short enough")
}

/// Goes through the vectors of a file, after what all have in common was checked.
fn for_each(file: &str, scheme: Scheme, check: impl Fn(&Value, &Header, &EncryptionContext, &[u8])) {
    let file: Value = serde_json::from_str(file).expect("JSON");
    let vectors = file["vectors"].as_array().expect("an array");
    assert!(vectors.len() >= 8);
    for vector in vectors {
        let (ciphertext, context) = (bytes(vector, "ciphertext"), context(vector));
        assert_eq!(context.canonical(), bytes(vector, "canonical_context"));
        let (header, sealed) = Header::parse(&ciphertext).expect("well-formed");
        let spec = if vector["algorithm"] == "SM4" { Cipher::Sm4Gcm } else { Cipher::Aes256Gcm };
        assert_eq!((header.cipher, header.scheme), (spec, scheme));
        check(vector, &header, &context, sealed);
    }
}

#[test]
fn every_published_vector_is_sealed_and_opened_alike() {
    let check = |vector: &Value, header: &Header, context: &EncryptionContext, sealed: &[u8]| {
        assert_eq!(header.derivation_input(), bytes(vector, "derivation_input"));
        // What the HSM answers is longer than SM4's wrapping key: the rest must not matter.
        let mut derived = Mac::new([0xaa; 32]);
        let wrapping_key = bytes(vector, "wrapping_key");
        derived[..wrapping_key.len()].copy_from_slice(&wrapping_key);
        let plaintext = bytes(vector, "plaintext");
        let opened = header.open(&derived, context, sealed).expect("opens");
        assert_eq!(opened.expose_secret(), plaintext);
        let again = header.seal(&derived, context, &SecretBytes::new(plaintext)).expect("seals");
        assert_eq!(again, bytes(vector, "ciphertext"));
    };
    for_each(DERIVED_KEY, Scheme::DerivedKey, check);
    for_each(PURPOSES, Scheme::DerivedKey, check);
}

#[test]
fn every_published_vector_of_an_hsm_is_what_the_hsm_is_asked_for() {
    for_each(IN_HSM, Scheme::InHsm, |vector, header, context, sealed| {
        let (key, plaintext) = (bytes(vector, "backing_key"), bytes(vector, "plaintext"));
        let associated_data = header.associated_data(context);
        let payload = Payload { msg: &plaintext, aad: &associated_data };
        // In the place of the HSM.
        let by_hsm = match header.cipher {
            Cipher::Aes256Gcm => {
                Aes256Gcm::new_from_slice(&key).expect("32 bytes").encrypt(&header.iv.into(), payload)
            }
            Cipher::Sm4Gcm => AesGcm::<Sm4, U12>::new_from_slice(&key)
                .expect("16 bytes")
                .encrypt(&header.iv.into(), payload),
        };
        let by_hsm = by_hsm.expect("short");
        assert_eq!(by_hsm, sealed);
        assert_eq!(header.join(&by_hsm, plaintext.len()), Ok(bytes(vector, "ciphertext")));
        let cut = header.join(&by_hsm[1..], plaintext.len()).expect_err("another length");
        assert_eq!(cut.code(), "INTERNAL");
    });
}
