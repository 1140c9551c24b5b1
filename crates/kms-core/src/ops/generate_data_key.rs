//! GenerateDataKey: a data key from the HSM's random numbers, in plain and sealed.

use crate::{
    ciphertext::{MAX_DATA_KEY_BYTES, Purpose},
    context::EncryptionContext,
    draft::Draft,
    error::{Error, Field},
    key::{Cipher, KeyId, KeyRecord},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, sealing::seal_as},
    ports::HsmSession,
    secret::SecretBytes,
    service::Scope,
};

/// The length of a data key, in bytes: 1 to 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataKeyLength(usize);

impl DataKeyLength {
    /// Takes a length of 1 to 1024 bytes.
    // DEW: datakey_length, 8 to 8192 bits.
    pub fn parse(bytes: usize) -> Result<Self, Error> {
        if (1..=MAX_DATA_KEY_BYTES).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(Error::invalid(Field::Length, "must be 1 to 1024 bytes"))
        }
    }

    /// The length that a key of this kind would use itself.
    pub(crate) fn natural(cipher: Cipher) -> Self {
        Self(cipher.key_bytes())
    }
}

/// A sealed data key.
#[derive(Debug)]
pub struct SealedDataKey {
    /// The key that sealed it.
    pub key_id: KeyId,
    /// The version that sealed it.
    pub key_version: u32,
    /// Header, sealed bytes, tag.
    pub ciphertext: Vec<u8>,
}

/// A data key in plain and sealed.
#[derive(Debug)]
pub struct DataKey {
    /// The data key itself.
    pub plaintext: SecretBytes,
    /// The same, sealed.
    pub sealed: SealedDataKey,
}

/// Makes a data key; answers it in plain and sealed.
#[derive(Debug, Clone)]
pub struct GenerateDataKey {
    /// The key to seal it with.
    pub key: KeySelector,
    /// Its length; `None`: 32 bytes for AES_256, 16 for SM4.
    pub length: Option<DataKeyLength>,
    /// What the ciphertext is bound to.
    pub encryption_context: EncryptionContext,
}

impl Operation for GenerateDataKey {
    const NAME: OperationName = OperationName::GenerateDataKey;
    type Output = DataKey;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.encryption_context)
    }

    fn may_change(&self) -> bool {
        self.key.may_make()
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<DataKey>, Error> {
        let key = scope.key_or_default(&self.key, None, draft).await?;
        let cipher = key.check_cipher(Self::NAME, scope.now)?;
        let Some(key) = scope.counted(key, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let length = self.length.unwrap_or(DataKeyLength::natural(cipher));
        let context = self.encryption_context.clone();
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            make(session, draft, &key, length, &context)
        }))
    }
}

/// Makes one data key under the current version of `key`, whose use was [counted](Scope::counted).
pub(crate) fn make(
    session: &mut dyn HsmSession,
    draft: &mut Draft,
    key: &KeyRecord,
    length: DataKeyLength,
    context: &EncryptionContext,
) -> Result<DataKey, Error> {
    let mut plaintext = SecretBytes::zeroed(length.0);
    session.fill_random(plaintext.expose_secret_mut())?;
    let (key_version, ciphertext) = seal_as(Purpose::DataKey, session, draft, key, context, &plaintext)?;
    Ok(DataKey { plaintext, sealed: SealedDataKey { key_id: key.id, key_version, ciphertext } })
}
