//! The published vectors, which were written by another implementation (`tests/independent/envelope.py`).

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::*;

const VECTORS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vectors/envelope-v1.json"));

#[test]
fn the_published_vectors_are_what_is_written_and_open() {
    let document: Value = serde_json::from_str(VECTORS).expect("vectors are JSON");
    let vectors = document["vectors"].as_array().expect("a list of vectors");
    assert_eq!(vectors.len(), 10, "five lengths in two suites");
    vectors.iter().for_each(check);
}

fn check(vector: &Value) {
    let plaintext = pattern(usize::try_from(number(vector, "plaintext_length")).expect("a length"));
    assert_eq!(sha256(&plaintext), vector["plaintext_sha256"]);
    let data_key = bytes(vector, "data_key");
    let sealer = Sealer::with_parameters(parameters(vector), &data_key).expect("the data key fits");
    assert_eq!(hex::encode(sealer.header().parameters.to_bytes().expect("a header")), vector["header"]);
    assert_eq!(hex::encode(sealer.header().tag), vector["header_tag"]);
    let first_segment = sealer.header().length();

    let mut envelope = Vec::new();
    block_on(seal_stream(sealer, &mut &*plaintext, &mut envelope)).expect("memory takes it");
    let beginning = &envelope[first_segment..envelope.len().min(first_segment + 32)];
    assert_eq!(hex::encode(beginning), vector["first_segment_begins"]);
    assert_eq!(envelope.len() as u64, number(vector, "envelope_length"));
    assert_eq!(sha256(&envelope), vector["envelope_sha256"]);
    if let Some(full) = vector["envelope"].as_str() {
        assert_eq!(hex::encode(&envelope), full);
    }

    let (written, result) = opened_from(&data_key, &mut &*envelope);
    assert_eq!(result.expect("it opens"), plaintext.len() as u64);
    assert_eq!(written, plaintext);
}

fn parameters(vector: &Value) -> Parameters {
    let byte = |name| u8::try_from(number(vector, name)).expect("a byte");
    Parameters {
        suite: Suite::from_byte(byte("suite")).expect("a known suite"),
        segment_exponent: byte("segment_exponent"),
        salt: bytes(vector, "salt").try_into().expect("a salt of 32 bytes"),
        sealed_key: bytes(vector, "sealed_data_key"),
    }
}

fn number(vector: &Value, name: &str) -> u64 {
    vector[name].as_u64().expect(name)
}

fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    hex::decode(vector[name].as_str().expect(name)).expect(name)
}

fn sha256(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}
