//! EncryptDataKey: seals a data key that the caller made.

use std::sync::Arc;

use crate::{
    ciphertext::{MAX_DATA_KEY_BYTES, Purpose},
    context::EncryptionContext,
    draft::Draft,
    error::{Error, Field},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, SealedDataKey, sealing::seal_as},
    secret::SecretBytes,
    service::Scope,
};

/// Seals a data key that the caller made.
#[derive(Debug, Clone)]
pub struct EncryptDataKey {
    key: KeySelector,
    plaintext: Arc<SecretBytes>,
    encryption_context: EncryptionContext,
}

impl EncryptDataKey {
    /// Takes a data key of 1 to 1024 bytes.
    pub fn new(
        key: KeySelector,
        plaintext: SecretBytes,
        encryption_context: EncryptionContext,
    ) -> Result<Self, Error> {
        if !(1..=MAX_DATA_KEY_BYTES).contains(&plaintext.len()) {
            return Err(Error::invalid(Field::Plaintext, "must be 1 to 1024 bytes"));
        }
        Ok(Self { key, plaintext: Arc::new(plaintext), encryption_context })
    }
}

impl Operation for EncryptDataKey {
    const NAME: OperationName = OperationName::EncryptDataKey;
    type Output = SealedDataKey;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.encryption_context)
    }

    fn may_change(&self) -> bool {
        self.key.may_make()
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<SealedDataKey>, Error> {
        let key = scope.key_or_default(&self.key, None, draft).await?;
        key.check_cipher(Self::NAME)?;
        let Some(key) = scope.counted(key, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let (plaintext, context) = (self.plaintext.clone(), self.encryption_context.clone());
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            let (key_version, ciphertext) =
                seal_as(Purpose::DataKey, session, draft, &key, &context, &plaintext)?;
            Ok(SealedDataKey { key_id: key.id, key_version, ciphertext })
        }))
    }
}
