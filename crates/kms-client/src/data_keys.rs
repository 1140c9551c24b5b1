//! Calls of the data key service: data keys made, sealed and opened under a customer master key.

use std::collections::HashMap;

use bytes::Bytes;
use kms_proto::v1::{self, data_key_service_client::DataKeyServiceClient};

use crate::{Client, Error, KeyReference, SecretBytes, keys::named, retry::Repeat};

/// A new data key, in plain and sealed.
#[derive(Debug)]
pub struct DataKey {
    /// The id of the key that sealed it.
    pub key_id: String,
    /// The version that sealed it.
    pub key_version: u32,
    /// The data key itself.
    pub plaintext: SecretBytes,
    /// The sealed data key; store it beside the data.
    pub ciphertext: Vec<u8>,
}

/// A sealed data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedDataKey {
    /// The id of the key that sealed it.
    pub key_id: String,
    /// The version that sealed it.
    pub key_version: u32,
    /// The sealed data key; store it beside the data.
    pub ciphertext: Vec<u8>,
}

/// A data key that the service opened.
#[derive(Debug)]
pub struct OpenedDataKey {
    /// The id of the key that had sealed it.
    pub key_id: String,
    /// The version that had sealed it.
    pub key_version: u32,
    /// The data key itself.
    pub plaintext: SecretBytes,
}

/// One call of the data key service, which may always be repeated: no key changes by it.
macro_rules! call {
    ($client:expr, $message:expr, $method:ident) => {
        call!($client, Repeat::Harmless, $message, $method)
    };
    ($client:expr, $repeat:expr, $message:expr, $method:ident) => {
        $client.call($repeat, $message, |channel, request| async move {
            DataKeyServiceClient::new(channel).$method(request).await
        })
    };
}

/// Data keys.
///
/// The encryption context is authenticated and not secret: the pairs that were given to seal a data key must be
/// given to open it. The log keeps its keys as they are and its values as keyed hashes.
impl Client {
    /// Makes a data key of `length` bytes, 1 to 1024; 0: 32 for an AES_256 key, 16 for an SM4 key. Permission
    /// `kms:dek:create`.
    pub async fn generate_data_key(
        &self,
        key: &KeyReference,
        length: u32,
        context: &HashMap<String, String>,
    ) -> Result<DataKey, Error> {
        let encryption_context = context.clone();
        let request = v1::GenerateDataKeyRequest {
            key: Some(named(key)),
            length,
            encryption_context,
            ..Default::default()
        };
        let answer = call!(self, request, generate_data_key).await?;
        // Both fields may be slices of one buffer: let go of the other one, or the plaintext cannot be wiped in it.
        let ciphertext = copied(answer.ciphertext_blob);
        let plaintext = SecretBytes::take(answer.plaintext);
        Ok(DataKey { key_id: answer.key_id, key_version: answer.key_version, plaintext, ciphertext })
    }

    /// As [`Client::generate_data_key`], without the plaintext. Permission `kms:dek:create`.
    pub async fn generate_data_key_without_plaintext(
        &self,
        key: &KeyReference,
        length: u32,
        context: &HashMap<String, String>,
    ) -> Result<SealedDataKey, Error> {
        let encryption_context = context.clone();
        let request = v1::GenerateDataKeyWithoutPlaintextRequest {
            key: Some(named(key)),
            length,
            encryption_context,
            ..Default::default()
        };
        let answer = call!(self, request, generate_data_key_without_plaintext).await?;
        let ciphertext = answer.ciphertext_blob.into();
        Ok(SealedDataKey { key_id: answer.key_id, key_version: answer.key_version, ciphertext })
    }

    /// Seals a data key of 1 to 1024 bytes that the caller made. Permission `kms:dek:crypto`.
    pub async fn encrypt_data_key(
        &self,
        key: &KeyReference,
        plaintext: SecretBytes,
        context: &HashMap<String, String>,
    ) -> Result<SealedDataKey, Error> {
        let request = v1::EncryptDataKeyRequest {
            key: Some(named(key)),
            plaintext: plaintext.into_request(),
            encryption_context: context.clone(),
            ..Default::default()
        };
        let answer = call!(self, request, encrypt_data_key).await?;
        let ciphertext = answer.ciphertext_blob.into();
        Ok(SealedDataKey { key_id: answer.key_id, key_version: answer.key_version, ciphertext })
    }

    /// Opens a sealed data key. If `key` is given, it must be the one that sealed it. Permission `kms:dek:crypto`.
    pub async fn decrypt_data_key(
        &self,
        ciphertext: &[u8],
        key: Option<&KeyReference>,
        context: &HashMap<String, String>,
    ) -> Result<OpenedDataKey, Error> {
        let request = v1::DecryptDataKeyRequest {
            ciphertext_blob: Bytes::copy_from_slice(ciphertext),
            key: key.map(named),
            encryption_context: context.clone(),
            ..Default::default()
        };
        let answer = call!(self, Repeat::Read, request, decrypt_data_key).await?;
        let plaintext = SecretBytes::take(answer.plaintext);
        Ok(OpenedDataKey { key_id: answer.key_id, key_version: answer.key_version, plaintext })
    }

    /// 1 to 1024 random bytes of the HSM. Permission `kms:cmk:generate`.
    pub async fn generate_random(&self, length: u32) -> Result<SecretBytes, Error> {
        let request = v1::GenerateRandomRequest { length };
        Ok(SecretBytes::take(call!(self, request, generate_random).await?.random))
    }
}

/// A copy of its own: the answer's buffer is let go of.
#[expect(clippy::needless_pass_by_value, reason = "the buffer must be dropped here")]
fn copied(bytes: Bytes) -> Vec<u8> {
    bytes.to_vec()
}
