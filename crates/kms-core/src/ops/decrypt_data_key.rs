//! DecryptDataKey: opens a sealed data key, or the sealed private half of a data key pair.

use crate::{
    ciphertext::{Header, Purpose, TAG_BYTES},
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::KeyId,
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        sealing::{open, opener},
    },
    secret::SecretBytes,
    service::Scope,
};

/// An opened data key.
#[derive(Debug)]
pub struct DecryptedDataKey {
    /// The key that sealed it.
    pub key_id: KeyId,
    /// The version that sealed it.
    pub key_version: u32,
    /// The data key itself.
    pub plaintext: SecretBytes,
}

/// Opens a sealed data key or the private half of a data key pair.
#[derive(Debug, Clone)]
pub struct DecryptDataKey {
    header: Header,
    sealed: Vec<u8>,
    key: Option<KeySelector>,
    encryption_context: EncryptionContext,
}

impl DecryptDataKey {
    /// Takes a whole ciphertext; `key` is the key that must have sealed it, if the caller says so.
    pub fn new(
        ciphertext: &[u8],
        key: Option<KeySelector>,
        encryption_context: EncryptionContext,
    ) -> Result<Self, Error> {
        let (header, sealed) = Header::parse(ciphertext)?;
        Ok(Self { header, sealed: sealed.to_vec(), key, encryption_context })
    }

    /// How long the data key is, in bytes, if the ciphertext is sound: no secret.
    pub fn plaintext_length(&self) -> usize {
        self.sealed.len().saturating_sub(TAG_BYTES)
    }
}

impl Operation for DecryptDataKey {
    const NAME: OperationName = OperationName::DecryptDataKey;
    type Output = DecryptedDataKey;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.encryption_context)
    }

    async fn prepare(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Prepared<DecryptedDataKey>, Error> {
        let key = match &self.key {
            Some(selector) => scope.key(selector, draft).await?,
            None => scope.key_of_material(self.header.material, draft).await?,
        };
        key.check_cipher(Self::NAME)?;
        let header = self.header;
        let backing_key = opener(&key, &header, &[Purpose::DataKey, Purpose::DataKeyPair])?;
        draft.key(key.id, Some(header.version));
        let (sealed, context, key_id) = (self.sealed.clone(), self.encryption_context.clone(), key.id);
        Ok(Prepared::by_use(key.keystore.clone(), move |session, _| {
            let plaintext = open(session, &header, &backing_key, &context, &sealed)?;
            Ok(DecryptedDataKey { key_id, key_version: header.version, plaintext })
        }))
    }
}
