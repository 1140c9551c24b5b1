//! GenerateBucketKey: a key for many objects of a bucket, in plain and sealed.

use std::time::Duration;

use crate::{
    Timestamp,
    bucket_key::{BucketKeyContent, BucketKeyId, Receipt, Validity},
    ciphertext::Purpose,
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::Cipher,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, SealedDataKey, sealing::seal_as},
    record::BucketKeyNote,
    secret::SecretBytes,
    service::Scope,
};

/// A bucket key in plain and sealed.
#[derive(Debug)]
pub struct BucketKey {
    /// Which one it is.
    pub id: BucketKeyId,
    /// The key itself: 32 bytes.
    pub plaintext: SecretBytes,
    /// The same, sealed with all that is said of it here.
    pub sealed: SealedDataKey,
    /// What the data keys are for that are derived from it.
    pub algorithm: Cipher,
    /// How long objects may be put under it.
    pub validity: Duration,
    /// The end of that.
    pub expires: Timestamp,
    /// By which its use is reported.
    pub receipt: Vec<u8>,
}

/// Makes a bucket key; answers it in plain and sealed.
#[derive(Debug, Clone)]
pub struct GenerateBucketKey {
    /// The key to seal it with.
    pub key: KeySelector,
    /// What the data keys are for that are derived from it; `None`: for what the key itself is.
    pub algorithm: Option<Cipher>,
    /// How long objects may be put under it, or less where the deployment allows less; `None`:
    /// [`DEFAULT_VALIDITY`](crate::bucket_key::DEFAULT_VALIDITY).
    pub validity: Option<Validity>,
    /// What the ciphertext is bound to.
    pub encryption_context: EncryptionContext,
}

impl Operation for GenerateBucketKey {
    const NAME: OperationName = OperationName::GenerateBucketKey;
    type Output = BucketKey;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.encryption_context)
    }

    fn may_change(&self) -> bool {
        self.key.may_make()
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<BucketKey>, Error> {
        let longest = scope.service.settings().longest_bucket_key_validity;
        let validity = Validity::within(self.validity, longest);
        let key = scope.key_or_default(&self.key, None, draft).await?;
        let cipher = key.check_cipher(Self::NAME, scope.now)?;
        let algorithm = self.algorithm.unwrap_or(cipher);
        let Some(key) = scope.counted(key, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let (issued, expires) = (scope.now, scope.now.plus(validity));
        let (context, caller) = (self.encryption_context.clone(), scope.caller().clone());
        let directory = scope.directory().clone();
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            let made = BucketKeyContent::make(session, algorithm, issued, expires)?;
            let (key_version, ciphertext) =
                seal_as(Purpose::BucketKey, session, draft, &key, &context, &made.encode())?;
            draft.bucket_key(BucketKeyNote { id: made.id, valid_until: Some(expires), uses: None });
            let receipt = Receipt { id: made.id, key_id: key.id, key_version, expires };
            Ok(BucketKey {
                id: made.id,
                plaintext: made.key,
                sealed: SealedDataKey { key_id: key.id, key_version, ciphertext },
                algorithm,
                validity,
                expires,
                receipt: receipt.seal(&directory, &caller),
            })
        }))
    }
}
