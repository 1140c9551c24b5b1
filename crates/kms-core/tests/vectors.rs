//! The published vectors, through the crate's own code. An independent program made them.

use std::collections::BTreeMap;

use kms_core::{SecretBytes, ciphertext::Header, context::EncryptionContext, key::KeySpec, ports::Mac};
use serde_json::Value;

const VECTORS: &str = include_str!("../../../docs/vectors/ciphertext-v1.json");

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(vector[field].as_str().expect("a text")).expect("hexadecimal digits")
}

fn context(vector: &Value) -> EncryptionContext {
    let pairs = vector["encryption_context"].as_object().expect("an object").iter();
    let pairs: BTreeMap<String, String> =
        pairs.map(|(key, value)| (key.clone(), value.as_str().expect("a text").to_owned())).collect();
    EncryptionContext::new(pairs).expect("short enough")
}

#[test]
fn every_published_vector_is_sealed_and_opened_alike() {
    let file: Value = serde_json::from_str(VECTORS).expect("JSON");
    let vectors = file["vectors"].as_array().expect("an array");
    assert_eq!(vectors.len(), 8);
    for vector in vectors {
        let (ciphertext, context) = (bytes(vector, "ciphertext"), context(vector));
        assert_eq!(context.canonical(), bytes(vector, "canonical_context"));
        let (header, sealed) = Header::parse(&ciphertext).expect("well-formed");
        let spec = if vector["algorithm"] == "SM4" { KeySpec::Sm4 } else { KeySpec::Aes256 };
        assert_eq!(header.spec, spec);
        assert_eq!(header.derivation_input(), bytes(vector, "derivation_input"));
        // What the HSM answers is longer than SM4's wrapping key: the rest must not matter.
        let mut derived = Mac::new([0xaa; 32]);
        let wrapping_key = bytes(vector, "wrapping_key");
        derived[..wrapping_key.len()].copy_from_slice(&wrapping_key);
        let plaintext = bytes(vector, "plaintext");
        let opened = header.open(&derived, &context, sealed).expect("opens");
        assert_eq!(opened.expose_secret(), plaintext);
        let again = header.seal(&derived, &context, &SecretBytes::new(plaintext)).expect("seals");
        assert_eq!(again, ciphertext);
    }
}
