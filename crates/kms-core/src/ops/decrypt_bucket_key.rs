//! DecryptBucketKey: opens a sealed bucket key, for the objects that hang on it.

use crate::{
    Timestamp,
    bucket_key::{BucketKeyContent, BucketKeyId},
    ciphertext::Purpose,
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::{Cipher, KeyId},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, sealed::Sealed},
    record::BucketKeyNote,
    secret::SecretBytes,
    service::Scope,
};

/// An opened bucket key.
#[derive(Debug)]
pub struct DecryptedBucketKey {
    /// Which one it is.
    pub id: BucketKeyId,
    /// The key that sealed it.
    pub key_id: KeyId,
    /// The version that sealed it.
    pub key_version: u32,
    /// The bucket key itself: 32 bytes.
    pub plaintext: SecretBytes,
    /// What the data keys are for that are derived from it.
    pub algorithm: Cipher,
    /// When it was made.
    pub issued: Timestamp,
    /// The end of its validity for new objects. Those that hang on it can be read after that, too.
    pub expires: Timestamp,
}

/// Opens a sealed bucket key.
#[derive(Debug, Clone)]
pub struct DecryptBucketKey(Sealed);

impl DecryptBucketKey {
    /// Takes a whole ciphertext; `key` is the key that must have sealed it, if the caller says so.
    pub fn new(
        ciphertext: &[u8],
        key: Option<KeySelector>,
        encryption_context: EncryptionContext,
    ) -> Result<Self, Error> {
        Sealed::parse(ciphertext, key, encryption_context).map(Self)
    }
}

impl Operation for DecryptBucketKey {
    const NAME: OperationName = OperationName::DecryptBucketKey;
    type Output = DecryptedBucketKey;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.0.context)
    }

    async fn prepare(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Prepared<DecryptedBucketKey>, Error> {
        let key = self.0.key(scope, draft).await?;
        key.check_cipher(Self::NAME, scope.now)?;
        let opener = self.0.opener(&key, &[Purpose::BucketKey])?;
        let (key_id, key_version) = (key.id, opener.header.version);
        draft.key(key_id, Some(key_version));
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            let content = opener.open(session)?;
            let BucketKeyContent { id, algorithm, issued, expires, key } =
                BucketKeyContent::decode(&content)?;
            draft.bucket_key(BucketKeyNote { id, valid_until: None, uses: None });
            Ok(DecryptedBucketKey { id, key_id, key_version, plaintext: key, algorithm, issued, expires })
        }))
    }
}
