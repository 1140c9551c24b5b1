//! EncryptData: seals small data of the caller.

use std::sync::Arc;

use crate::{
    ciphertext::{MAX_SEALED_BYTES, Purpose},
    context::EncryptionContext,
    crypto::{check_plaintext, encrypt},
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
    /// RSAES-OAEP with SHA-1: only to open what was encrypted elsewhere.
    RsaesOaepSha1,
    /// SM2 public key encryption.
    Sm2Encrypt,
}

impl EncryptionAlgorithm {
    /// Refuses a context where nothing would authenticate it.
    pub(super) fn check_context(self, context: &EncryptionContext) -> Result<(), Error> {
        let none = context.pairs().is_empty() && context.authenticated_data().is_none();
        if self == Self::SymmetricDefault || none {
            Ok(())
        } else {
            Err(Error::invalid(Field::EncryptionContext, "must be empty: only symmetric keys bind one"))
        }
    }
}

impl KeyRecord {
    /// Refuses what cannot encrypt by its kind, keys for other usages, and algorithms of other kinds of keys.
    // DEW: KMS.1114 (kind), KMS.0335 (usage), KMS.2105 and KMS.2106 (algorithm).
    pub(crate) fn check_encryption(&self, algorithm: EncryptionAlgorithm) -> Result<(), Error> {
        self.check_usage(KeyUsage::EncryptDecrypt)?;
        match (self.spec.class(), algorithm) {
            (KeyClass::Symmetric, EncryptionAlgorithm::SymmetricDefault)
            | (KeyClass::Rsa, EncryptionAlgorithm::RsaesOaepSha256 | EncryptionAlgorithm::RsaesOaepSha1)
            | (KeyClass::Sm2, EncryptionAlgorithm::Sm2Encrypt) => Ok(()),
            (class, _) => Err(Error::AlgorithmMismatch(class)),
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
    /// For a symmetric key: header, sealed bytes, tag. For an RSA key the bare block, for an SM2 key DER.
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
        if algorithm == EncryptionAlgorithm::RsaesOaepSha1 {
            return Err(Error::invalid(Field::Algorithm, "must not be RSAES_OAEP_SHA_1, which only opens"));
        }
        algorithm.check_context(&encryption_context)?;
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
        let key = scope.key_or_default(&self.key, None, draft).await?;
        key.check(Self::NAME, scope.now)?;
        key.check_encryption(self.algorithm)?;
        if self.algorithm != EncryptionAlgorithm::SymmetricDefault {
            return self.to_public_key(&key, draft);
        }
        let Some(key) = scope.counted(key, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let (plaintext, context) = (self.plaintext.clone(), self.encryption_context.clone());
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            let (key_version, ciphertext) =
                seal_as(Purpose::SmallData, session, draft, &key, &context, &plaintext)?;
            Ok(EncryptedData { key_id: key.id, key_version, ciphertext })
        }))
    }
}

impl EncryptData {
    /// Needs nothing of the HSM but random numbers.
    fn to_public_key(&self, key: &KeyRecord, draft: &mut Draft) -> Result<Prepared<EncryptedData>, Error> {
        let version = key.check_use(Self::NAME, KeyUsage::EncryptDecrypt, draft.time())?;
        let (key_id, key_version, public_key) = (key.id, version.number, key.public_key(version)?);
        check_plaintext(&public_key, &self.plaintext)?;
        draft.key(key_id, Some(key_version));
        let plaintext = self.plaintext.clone();
        Ok(Prepared::by_use(key.keystore.clone(), move |session, _| {
            let ciphertext = encrypt(session, &public_key, &plaintext)?;
            Ok(EncryptedData { key_id, key_version, ciphertext })
        }))
    }
}
