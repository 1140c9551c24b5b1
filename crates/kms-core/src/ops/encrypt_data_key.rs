//! EncryptDataKey: seals a data key that the caller made.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use sm3::Sm3;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    ciphertext::{MAX_DATA_KEY_BYTES, Purpose},
    context::EncryptionContext,
    draft::Draft,
    error::{Error, Field},
    key::Cipher,
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
    digest: Option<Arc<SecretBytes>>,
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
        Ok(Self { key, plaintext: Arc::new(plaintext), digest: None, encryption_context })
    }

    /// The same, refused unless this is the data key's digest: SHA-256, under an SM4 key SM3.
    // DEW: encrypt-datakey, KMS.2103
    #[must_use]
    pub fn with_digest(self, digest: SecretBytes) -> Self {
        Self { digest: Some(Arc::new(digest)), ..self }
    }

    fn check_digest(&self, cipher: Cipher) -> Result<(), Error> {
        let Some(digest) = &self.digest else { return Ok(()) };
        let plaintext = self.plaintext.expose_secret();
        let expected: Zeroizing<[u8; 32]> = Zeroizing::new(match cipher {
            Cipher::Aes256Gcm => Sha256::digest(plaintext).into(),
            Cipher::Sm4Gcm => Sm3::digest(plaintext).into(),
        });
        // In constant time: what the digest tells of the data key, timing must not.
        let fits = bool::from(digest.expose_secret().ct_eq(&expected[..]));
        if fits { Ok(()) } else { Err(Error::DataKeyDigestMismatch) }
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
        self.check_digest(key.check_cipher(Self::NAME, scope.now)?)?;
        let Some(key) = scope.counted(key, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let (plaintext, context) = (self.plaintext.clone(), self.encryption_context.clone());
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            let (key_version, ciphertext) =
                seal_as(Purpose::DataKey, session, draft, &key, &context, &plaintext)?;
            Ok(SealedDataKey { key_id: key.id, key_version, ciphertext })
        }))
    }
}
