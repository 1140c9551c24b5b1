//! Calls of the bucket key service.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use kms_proto::v1::{self, bucket_key_service_client::BucketKeyServiceClient};

use crate::{Client, Error, KeyReference, KeySpec, Repeat, SecretBytes, envelope::Suite, keys::named};

/// A new bucket key, in plain and sealed.
#[derive(Debug)]
pub struct BucketKey {
    /// Which one it is, in the log.
    pub bucket_key_id: String,
    /// The id of the key that sealed it.
    pub key_id: String,
    /// The version that sealed it.
    pub key_version: u32,
    /// The bucket key itself: 32 bytes.
    pub plaintext: SecretBytes,
    /// The sealed bucket key; store it beside the objects.
    pub ciphertext: Vec<u8>,
    /// What its objects are encrypted with.
    pub suite: Suite,
    /// How long objects may be put under it, from the answer on.
    pub validity: Duration,
    /// How many objects may be put under it.
    pub most_uses: u64,
    /// By which its use is reported.
    pub receipt: Vec<u8>,
}

/// A bucket key that the service opened.
#[derive(Debug)]
pub struct OpenedBucketKey {
    /// Which one it is, in the log.
    pub bucket_key_id: String,
    /// The id of the key that had sealed it.
    pub key_id: String,
    /// The version that had sealed it.
    pub key_version: u32,
    /// The bucket key itself: 32 bytes.
    pub plaintext: SecretBytes,
    /// What its objects are encrypted with.
    pub suite: Suite,
    /// How long it may be kept for reading objects, from the answer on.
    pub validity: Duration,
}

macro_rules! call {
    ($client:expr, $repeat:expr, $message:expr, $method:ident) => {
        $client.call($repeat, $message, |channel, request| async move {
            BucketKeyServiceClient::new(channel).$method(request).await
        })
    };
}

/// Bucket keys. [`BucketKeys`](crate::bucket_keys::BucketKeys) makes these calls when they are needed.
impl Client {
    /// Makes a bucket key for objects of this suite. `validity`, in whole seconds: how long objects may be put under
    /// it; zero: as the service says. Permission `kms:dek:create`.
    pub async fn generate_bucket_key(
        &self,
        key: &KeyReference,
        suite: Suite,
        validity: Duration,
        context: &HashMap<String, String>,
    ) -> Result<BucketKey, Error> {
        let request = v1::GenerateBucketKeyRequest {
            key: Some(named(key)),
            algorithm: spec_of(suite).into(),
            encryption_context: context.clone(),
            validity_seconds: u32::try_from(validity.as_secs()).unwrap_or(u32::MAX),
            ..Default::default()
        };
        let answer = call!(self, Repeat::Harmless, request, generate_bucket_key).await?;
        // All of them may be slices of one buffer: let go of the others, or the plaintext cannot be wiped in it.
        let (ciphertext, receipt) = (owned(answer.ciphertext_blob), owned(answer.receipt));
        Ok(BucketKey {
            bucket_key_id: answer.bucket_key_id,
            key_id: answer.key_id,
            key_version: answer.key_version,
            plaintext: SecretBytes::take(answer.plaintext),
            ciphertext,
            suite: suite_of(answer.algorithm)?,
            validity: Duration::from_secs(answer.validity_seconds.into()),
            most_uses: answer.most_uses,
            receipt,
        })
    }

    /// Opens a sealed bucket key. If `key` is given, it must be the one that sealed it. Permission `kms:dek:crypto`.
    pub async fn decrypt_bucket_key(
        &self,
        ciphertext: &[u8],
        key: Option<&KeyReference>,
        context: &HashMap<String, String>,
    ) -> Result<OpenedBucketKey, Error> {
        let request = v1::DecryptBucketKeyRequest {
            ciphertext_blob: Bytes::copy_from_slice(ciphertext),
            key: key.map(named),
            encryption_context: context.clone(),
            ..Default::default()
        };
        let answer = call!(self, Repeat::Read, request, decrypt_bucket_key).await?;
        Ok(OpenedBucketKey {
            bucket_key_id: answer.bucket_key_id,
            key_id: answer.key_id,
            key_version: answer.key_version,
            plaintext: SecretBytes::take(answer.plaintext),
            suite: suite_of(answer.algorithm)?,
            validity: Duration::from_secs(answer.validity_seconds.into()),
        })
    }

    /// Tells the log how many objects hang on a bucket key in all. May be repeated: of several numbers the largest
    /// holds. Needs no permission; only the user that the bucket key was made for can do it.
    pub async fn report_bucket_key_use(&self, receipt: &[u8], uses: u64) -> Result<(), Error> {
        let request = v1::ReportBucketKeyUseRequest { receipt: Bytes::copy_from_slice(receipt), uses };
        call!(self, Repeat::Harmless, request, report_bucket_key_use).await.map(|_| ())
    }
}

fn spec_of(suite: Suite) -> KeySpec {
    match suite {
        Suite::Aes256Gcm => KeySpec::Aes256,
        Suite::Sm4Gcm => KeySpec::Sm4,
    }
}

fn suite_of(algorithm: i32) -> Result<Suite, Error> {
    match KeySpec::try_from(algorithm) {
        Ok(KeySpec::Aes256) => Ok(Suite::Aes256Gcm),
        Ok(KeySpec::Sm4) => Ok(Suite::Sm4Gcm),
        _ => Err(Error::InvalidAnswer("the bucket key is for an unknown algorithm")),
    }
}

/// A copy of its own: the answer's buffer is let go of.
#[expect(clippy::needless_pass_by_value, reason = "the buffer must be dropped here")]
fn owned(bytes: Bytes) -> Vec<u8> {
    bytes.to_vec()
}
