//! What every HSM promises of the key that signs the log's checkpoints.

use ed25519_dalek::{Signature, VerifyingKey};
use p256::{
    ecdsa::{self, signature::Verifier as _},
    pkcs8::DecodePublicKey as _,
};

use super::on_session;
use crate::ports::{Hsm, HsmError, LogKey, LogKeyCertificate};

/// Checks that an HSM without a log key says so, and that nobody makes one by asking.
///
/// # Panics
/// At the first promise that `hsm` breaks.
pub fn missing_log_key_contract(hsm: &dyn Hsm) {
    for _ in 0..2 {
        assert_eq!(on_session(hsm, |session| session.log_key()), Ok(None));
        let refusal = on_session(hsm, |session| session.sign_checkpoint(b"text"));
        assert!(matches!(refusal, Err(HsmError::NotOffered { .. })), "{refusal:?}");
    }
}

/// Checks that the log key is made once, and signs. Answers it: it has to be the same when the HSM is opened again.
///
/// # Panics
/// At the first promise that `hsm` breaks.
pub fn log_key_contract(hsm: &dyn Hsm) -> LogKey {
    let made = on_session(hsm, |session| session.create_log_key()).expect("a log key");
    let again = on_session(hsm, |session| session.create_log_key()).expect("the log key");
    assert_eq!(again, made, "a log key is made once");
    assert_eq!(on_session(hsm, |session| session.log_key()), Ok(Some(made.clone())));
    if let Some(certificate) = &made.certificate {
        assert!(vouches(certificate, &made.public_key), "the certificate is of this key");
        let mut other = made.public_key;
        other[0] ^= 1;
        assert!(!vouches(certificate, &other), "the certificate is of no other key");
    }
    let key = VerifyingKey::from_bytes(&made.public_key).expect("an Ed25519 public key");
    let mut signatures = Vec::new();
    for text in [&b""[..], b"text", b"tex\0", &[7; 1024]] {
        let signed = text.to_vec();
        let signature = on_session(hsm, move |session| session.sign_checkpoint(&signed)).expect("signed");
        let parsed = Signature::from_bytes(&signature);
        key.verify_strict(text, &parsed).expect("a signature of the log key");
        key.verify_strict(&[text, b"!"].concat(), &parsed).expect_err("a signature of another text");
        signatures.push(signature);
    }
    signatures.dedup();
    assert_eq!(signatures.len(), 4, "each text has its own signature");
    made
}

fn vouches(certificate: &LogKeyCertificate, public_key: &[u8; 32]) -> bool {
    let key = ecdsa::VerifyingKey::from_public_key_der(&certificate.public_key_der).expect("a P-256 key");
    let signature = ecdsa::Signature::from_der(&certificate.signature_der).expect("an ECDSA-Sig-Value");
    key.verify(&LogKeyCertificate::statement(public_key), &signature).is_ok()
}
