//! A ciphertext that a caller brings: which key it is of, and what opens it.

use std::sync::Arc;

use crate::{
    ciphertext::{Header, Purpose, TAG_BYTES},
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::{BackingKey, KeyId, KeyRecord},
    operation::OperationName,
    ops::{KeySelector, Place, sealing},
    ports::HsmSession,
    secret::SecretBytes,
    service::Scope,
};

/// A whole ciphertext, and what its caller says of it.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) header: Header,
    /// Sealed bytes and tag.
    bytes: Vec<u8>,
    /// The key that must have sealed it, if the caller says so.
    key: Option<KeySelector>,
    pub(crate) context: EncryptionContext,
}

impl Sealed {
    pub(crate) fn parse(
        ciphertext: &[u8],
        key: Option<KeySelector>,
        context: EncryptionContext,
    ) -> Result<Self, Error> {
        let (header, bytes) = Header::parse(ciphertext)?;
        Ok(Self { header, bytes: bytes.to_vec(), key, context })
    }

    /// The ciphertext as it came.
    pub(crate) fn ciphertext(&self) -> Vec<u8> {
        [&self.header.encode()[..], &self.bytes].concat()
    }

    /// How long what is sealed is, in bytes, if the ciphertext is sound: no secret.
    pub(crate) fn plaintext_length(&self) -> usize {
        self.bytes.len().saturating_sub(TAG_BYTES)
    }

    /// The key that must have sealed it; without one, the key that it names.
    pub(crate) async fn key(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Arc<KeyRecord>, Error> {
        match &self.key {
            Some(selector) => scope.key(selector, draft).await,
            None => scope.key_of_material(self.header.material, draft).await,
        }
    }

    /// The alias by which the key was named.
    pub(crate) fn alias(&self) -> Option<&str> {
        self.key.as_ref().and_then(KeySelector::as_alias)
    }

    /// The operation that opens what is sealed for this purpose.
    pub(crate) fn opening(&self) -> OperationName {
        match self.header.purpose {
            Purpose::SmallData => OperationName::DecryptData,
            Purpose::BucketKey => OperationName::DecryptBucketKey,
            _ => OperationName::DecryptDataKey,
        }
    }

    /// The operation that seals for this purpose.
    pub(crate) fn sealing(&self) -> OperationName {
        match self.header.purpose {
            Purpose::SmallData => OperationName::EncryptData,
            Purpose::BucketKey => OperationName::GenerateBucketKey,
            _ => OperationName::EncryptDataKey,
        }
    }

    /// What opens it, if it was sealed by `key` for one of `purposes`.
    pub(crate) fn opener(&self, key: &KeyRecord, purposes: &[Purpose]) -> Result<Opener, Error> {
        let backing_key = sealing::opener(key, &self.header, purposes)?;
        Ok(self.opened_by(key, backing_key))
    }

    /// What opens it, if this is the backing key that sealed it.
    pub(crate) fn opened_by(&self, key: &KeyRecord, backing_key: BackingKey) -> Opener {
        Opener {
            key_id: key.id,
            place: key.keystore.clone(),
            header: self.header,
            backing_key,
            context: self.context.clone(),
            bytes: self.bytes.clone(),
        }
    }
}

/// A ciphertext and what opens it: all that the HSM needs to know.
pub(crate) struct Opener {
    pub(crate) key_id: KeyId,
    /// Where the key lies.
    pub(crate) place: Place,
    pub(crate) header: Header,
    backing_key: BackingKey,
    context: EncryptionContext,
    bytes: Vec<u8>,
}

impl Opener {
    /// The plaintext; [`Error::CannotDecrypt`] whatever is different.
    pub(crate) fn open(&self, session: &mut dyn HsmSession) -> Result<SecretBytes, Error> {
        sealing::open(session, &self.header, &self.backing_key, &self.context, &self.bytes)
    }
}
