//! DecryptDataKey: opens a sealed data key, or the sealed private half of a data key pair.

use crate::{
    ciphertext::Purpose,
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::KeyId,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, sealed::Sealed},
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
pub struct DecryptDataKey(Sealed);

impl DecryptDataKey {
    /// Takes a whole ciphertext; `key` is the key that must have sealed it, if the caller says so.
    pub fn new(
        ciphertext: &[u8],
        key: Option<KeySelector>,
        encryption_context: EncryptionContext,
    ) -> Result<Self, Error> {
        Sealed::parse(ciphertext, key, encryption_context).map(Self)
    }

    /// How long the data key is, in bytes, if the ciphertext is sound: no secret.
    pub fn plaintext_length(&self) -> usize {
        self.0.plaintext_length()
    }
}

impl Operation for DecryptDataKey {
    const NAME: OperationName = OperationName::DecryptDataKey;
    type Output = DecryptedDataKey;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.0.context)
    }

    async fn prepare(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Prepared<DecryptedDataKey>, Error> {
        let key = self.0.key(scope, draft).await?;
        key.check_cipher(Self::NAME, scope.now)?;
        let opener = self.0.opener(&key, &[Purpose::DataKey, Purpose::DataKeyPair])?;
        let (key_id, key_version) = (key.id, opener.header.version);
        draft.key(key_id, Some(key_version));
        Ok(Prepared::by_use(key.keystore.clone(), move |session, _| {
            Ok(DecryptedDataKey { key_id, key_version, plaintext: opener.open(session)? })
        }))
    }
}
