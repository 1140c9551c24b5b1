//! Encryption to public keys.

use rsa::{Oaep, traits::PublicKeyParts as _};
use sha2::Sha256;
use sm2::pke::EncryptingKey;

use super::{PublicKey, random::with_random};
use crate::{
    error::{Error, Field},
    ports::HsmSession,
    secret::SecretBytes,
};

/// What OAEP with SHA-256 takes of a block. RFC 8017 §7.1.1.
const OAEP_BYTES: usize = 2 * 32 + 2;

/// Refuses what is too long for RSA; SM2 takes any length.
pub(crate) fn check_plaintext(key: &PublicKey, plaintext: &SecretBytes) -> Result<(), Error> {
    match key {
        PublicKey::Rsa(key) if plaintext.len() + OAEP_BYTES > key.size() => Err(Error::invalid(
            Field::Plaintext,
            "must be at most 190 bytes for RSA_2048, 318 for RSA_3072, and 446 for RSA_4096",
        )),
        _ => Ok(()),
    }
}

/// Encrypts what [`check_plaintext`] accepted: RSAES-OAEP with SHA-256 and an empty label, or SM2 in DER.
// RFC 8017 §7.1.1; GB/T 32918.4 §6.1, GM/T 0009 §7.2
pub(crate) fn encrypt(
    session: &mut dyn HsmSession,
    key: &PublicKey,
    plaintext: &SecretBytes,
) -> Result<Vec<u8>, Error> {
    let plaintext = plaintext.expose_secret();
    match key {
        PublicKey::Rsa(key) => {
            with_random(session, |random| key.encrypt(random, Oaep::<Sha256>::new(), plaintext).ok())
        }
        PublicKey::Sm2(key) => {
            with_random(session, |random| EncryptingKey::new(*key).encrypt_der(random, plaintext).ok())
        }
        _ => Err(Error::Internal { detail: "no encryption to such a key" }),
    }
}
