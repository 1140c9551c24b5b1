//! EncryptData: seals small data of the caller.

use std::sync::Arc;

use crate::{
    ciphertext::{MAX_SEALED_BYTES, Purpose},
    context::EncryptionContext,
    draft::Draft,
    error::{Error, Field},
    key::{KeyClass, KeyId, KeyRecord, KeyUsage},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, sealing::seal_as},
    secret::SecretBytes,
    service::Scope,
};

/// What small data is encrypted with. DEW: encryption_algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptionAlgorithm {
    /// AES-256-GCM or SM4-GCM, as the key says.
    SymmetricDefault,
    /// RSAES-OAEP with SHA-256.
    RsaesOaepSha256,
    /// RSAES-OAEP with SHA-1: for opening what was sealed elsewhere only.
    RsaesOaepSha1,
    /// SM2 public key encryption.
    Sm2Encrypt,
}

impl KeyRecord {
    /// Refuses keys for other usages, and algorithms of other kinds of keys. DEW: KMS.0334, KMS.0332.
    pub(crate) fn check_encryption(&self, algorithm: EncryptionAlgorithm) -> Result<(), Error> {
        if self.usage != KeyUsage::EncryptDecrypt {
            return Err(Error::KeyUsageMismatch);
        }
        match (self.spec.class(), algorithm) {
            (KeyClass::Symmetric, EncryptionAlgorithm::SymmetricDefault) => Ok(()),
            _ => Err(Error::AlgorithmMismatch),
        }
    }
}

/// Encrypted small data.
#[derive(Debug)]
pub struct EncryptedData {
    /// The key that encrypted it.
    pub key_id: KeyId,
    /// The version that encrypted it.
    pub key_version: u32,
    /// For a symmetric key: header, sealed bytes, tag.
    pub ciphertext: Vec<u8>,
}

/// Seals small data of the caller.
#[derive(Debug, Clone)]
pub struct EncryptData {
    key: KeySelector,
    plaintext: Arc<SecretBytes>,
    algorithm: EncryptionAlgorithm,
    encryption_context: EncryptionContext,
}

impl EncryptData {
    /// Takes data of 1 to 4096 bytes.
    // DEW: plain_text, 4096 bytes.
    pub fn new(
        key: KeySelector,
        plaintext: SecretBytes,
        algorithm: EncryptionAlgorithm,
        encryption_context: EncryptionContext,
    ) -> Result<Self, Error> {
        if !(1..=MAX_SEALED_BYTES).contains(&plaintext.len()) {
            return Err(Error::invalid(Field::Plaintext, "must be 1 to 4096 bytes"));
        }
        Ok(Self { key, plaintext: Arc::new(plaintext), algorithm, encryption_context })
    }
}

impl Operation for EncryptData {
    const NAME: OperationName = OperationName::EncryptData;
    type Output = EncryptedData;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.encryption_context)
    }

    fn may_change(&self) -> bool {
        self.key.may_make()
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<EncryptedData>, Error> {
        let key = scope.key_or_default(&self.key, draft).await?;
        key.check(Self::NAME)?;
        key.check_encryption(self.algorithm)?;
        let Some(key) = scope.counted(key, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let (plaintext, context) = (self.plaintext.clone(), self.encryption_context.clone());
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            let (key_version, ciphertext) =
                seal_as(Purpose::SmallData, session, draft, &key, &context, &plaintext)?;
            Ok(EncryptedData { key_id: key.id, key_version, ciphertext })
        }))
    }
}
