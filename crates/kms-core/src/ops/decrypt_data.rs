//! DecryptData: opens small data.

use crate::{
    ciphertext::{Header, Purpose},
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::KeyId,
    operation::OperationName,
    ops::{
        EncryptionAlgorithm, KeySelector, Operation, Prepared,
        sealing::{open, opener},
    },
    secret::SecretBytes,
    service::Scope,
};

/// Opened small data.
#[derive(Debug)]
pub struct DecryptedData {
    /// The key that encrypted it.
    pub key_id: KeyId,
    /// The version that encrypted it.
    pub key_version: u32,
    /// The data itself.
    pub plaintext: SecretBytes,
}

/// Opens small data.
#[derive(Debug, Clone)]
pub struct DecryptData {
    header: Header,
    sealed: Vec<u8>,
    key: Option<KeySelector>,
    algorithm: EncryptionAlgorithm,
    encryption_context: EncryptionContext,
}

impl DecryptData {
    /// Takes a whole ciphertext; `key` is the key that must have sealed it, if the caller says so.
    pub fn new(
        ciphertext: &[u8],
        key: Option<KeySelector>,
        algorithm: EncryptionAlgorithm,
        encryption_context: EncryptionContext,
    ) -> Result<Self, Error> {
        // Only what a symmetric key sealed names its key.
        let (header, sealed) = Header::parse(ciphertext)?;
        Ok(Self { header, sealed: sealed.to_vec(), key, algorithm, encryption_context })
    }
}

impl Operation for DecryptData {
    const NAME: OperationName = OperationName::DecryptData;
    type Output = DecryptedData;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.encryption_context)
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<DecryptedData>, Error> {
        let key = match &self.key {
            Some(selector) => scope.key(selector, draft).await?,
            None => scope.visible_key(self.header.material.key_id(), draft).await?,
        };
        key.check(Self::NAME)?;
        key.check_encryption(self.algorithm)?;
        let header = self.header;
        let backing_key = opener(&key, &header, &[Purpose::SmallData])?;
        draft.key(key.id, Some(header.version));
        let (sealed, context, key_id) = (self.sealed.clone(), self.encryption_context.clone(), key.id);
        Ok(Prepared::by_use(key.keystore.clone(), move |session, _| {
            let plaintext = open(session, &header, &backing_key, &context, &sealed)?;
            Ok(DecryptedData { key_id, key_version: header.version, plaintext })
        }))
    }
}
