//! Cryptography in software, without I/O: what needs no secret, and what the token cannot do.
//!
//! No private RSA operation is among it (`docs/adr/`): those are the HSM's alone.

mod algorithm;
mod digest;
#[cfg(test)]
mod known_answers;
mod public_key;
mod secret_key;
mod sm2_dsa;
mod verify;

pub use algorithm::{AgreementAlgorithm, MacAlgorithm, MessageType, SigningAlgorithm};
pub(crate) use algorithm::{Statement, check_message};
pub(crate) use public_key::{PublicKey, pem};
pub(crate) use secret_key::SecretKey;
pub(crate) use verify::{ecdsa_der, verify};
