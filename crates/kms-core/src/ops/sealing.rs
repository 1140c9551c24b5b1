//! Sealing and opening by the scheme of the header: the one place where the two differ.

use zeroize::Zeroizing;

use crate::{
    bucket_key::BucketKeyContent,
    ciphertext::{Header, Purpose},
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::{BackingKey, KeyRecord, Scheme},
    ports::HsmSession,
    record::BucketKeyNote,
    secret::SecretBytes,
};

/// Seals `plaintext` with the current version of `key`, whose use was [counted](crate::service::Scope::counted);
/// answers the version and the ciphertext.
pub(crate) fn seal_as(
    purpose: Purpose,
    session: &mut dyn HsmSession,
    draft: &mut Draft,
    key: &KeyRecord,
    context: &EncryptionContext,
    plaintext: &SecretBytes,
) -> Result<(u32, Vec<u8>), Error> {
    let version = key.current_version().ok_or(Error::Internal { detail: "an enabled key has no version" })?;
    draft.key(key.id, Some(version.number));
    let mut random = Zeroizing::new([0; 28]);
    session.fill_random(&mut random[..])?;
    let header = Header::fresh(version.scheme, key.cipher()?, purpose, key.material, version.number, &random);
    let ciphertext = seal(session, &header, &key.backing_key(version), context, plaintext)?;
    Ok((version.number, ciphertext))
}

/// What opens a ciphertext that `key` sealed for one of `purposes`.
///
/// Another key than the one that sealed it, another purpose, another algorithm, an unknown version or another
/// scheme than the version's fail as an altered byte does: with one error that does not say which.
pub(crate) fn opener(key: &KeyRecord, header: &Header, purposes: &[Purpose]) -> Result<BackingKey, Error> {
    let cipher = key.cipher()?;
    let version = key.version(header.version).filter(|version| {
        purposes.contains(&header.purpose)
            && key.material == header.material
            && cipher == header.cipher
            && version.scheme == header.scheme
    });
    version.map(|version| key.backing_key(version)).ok_or(Error::CannotDecrypt)
}

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

/// Says in the record which bucket key was sealed anew, if `content` is one. One of a newer service's form is moved, too.
pub(crate) fn note_moved(purpose: Purpose, content: &SecretBytes, draft: &mut Draft) {
    if purpose == Purpose::BucketKey
        && let Ok(BucketKeyContent { id, .. }) = BucketKeyContent::decode(content)
    {
        draft.bucket_key(BucketKeyNote { id, valid_until: None, uses: None });
    }
}
