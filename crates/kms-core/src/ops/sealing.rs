//! Sealing and opening by the scheme of the header: the one place where the two differ.

use crate::{
    ciphertext::Header,
    context::EncryptionContext,
    error::Error,
    key::{BackingKey, Scheme},
    ports::HsmSession,
    secret::SecretBytes,
};

/// Seals `plaintext` under a fresh `header`. A use of [`Scheme::InHsm`] must have been counted before.
pub(crate) fn seal(
    session: &mut dyn HsmSession,
    header: &Header,
    key: &BackingKey,
    context: &EncryptionContext,
    plaintext: &SecretBytes,
) -> Result<Vec<u8>, Error> {
    match header.scheme {
        Scheme::DerivedKey => {
            let derived = session.mac(key, &header.derivation_input())?;
            header.seal(&derived, context, plaintext)
        }
        Scheme::InHsm => {
            let associated_data = header.associated_data(context);
            let sealed = session.seal(key, &header.iv, &associated_data, plaintext.expose_secret())?;
            header.join(&sealed, plaintext.len())
        }
        Scheme::Opened => Err(Error::Internal { detail: "a key that the service opens seals nothing" }),
    }
}

/// Opens what [`seal`] sealed; [`Error::CannotDecrypt`] whatever is different.
pub(crate) fn open(
    session: &mut dyn HsmSession,
    header: &Header,
    key: &BackingKey,
    context: &EncryptionContext,
    sealed: &[u8],
) -> Result<SecretBytes, Error> {
    match header.scheme {
        Scheme::DerivedKey => {
            let derived = session.mac(key, &header.derivation_input())?;
            header.open(&derived, context, sealed)
        }
        Scheme::InHsm => Ok(session.open(key, &header.iv, &header.associated_data(context), sealed)?),
        Scheme::Opened => Err(Error::CannotDecrypt),
    }
}
