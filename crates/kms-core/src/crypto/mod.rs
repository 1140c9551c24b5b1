//! Cryptography in software, without I/O: what needs no secret, and what the token cannot do.
//!
//! No private RSA operation is among it (`docs/adr/`): those are the HSM's alone.

mod algorithm;
mod digest;
mod encryption;
pub(crate) mod gcm;
#[cfg(test)]
mod known_answers;
mod oaep;
mod public_key;
mod random;
mod secret_key;
mod sm2_dsa;
mod verify;
#[cfg(test)]
mod wycheproof;

pub use algorithm::{AgreementAlgorithm, MacAlgorithm, MessageType, SigningAlgorithm};
pub(crate) use algorithm::{Statement, check_message};
pub(crate) use encryption::{check_plaintext, encrypt};
pub(crate) use oaep::decode as oaep_decode;
pub(crate) use public_key::{PublicKey, pem};
pub(crate) use secret_key::SecretKey;
pub(crate) use verify::{ecdsa_der, verify};
