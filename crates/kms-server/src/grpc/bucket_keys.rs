//! The service of bucket keys.

use std::time::Duration;

use kms_core::{
    Error,
    bucket_key::{MOST_USES, UseCount, Validity},
    error::Field,
    key::{Cipher, KeySpec},
    ops::{BucketKey, DecryptBucketKey, DecryptedBucketKey, GenerateBucketKey, ReportBucketKeyUse},
};
use kms_proto::v1::{self, bucket_key_service_server::BucketKeyService};
use tonic::{Request, Response, Status};

use super::{Grpc, convert};

#[tonic::async_trait]
impl BucketKeyService for Grpc {
    async fn generate_bucket_key(
        &self,
        request: Request<v1::GenerateBucketKeyRequest>,
    ) -> Result<Response<v1::GenerateBucketKeyResponse>, Status> {
        self.answer(request, generate_bucket_key, generated).await
    }

    async fn decrypt_bucket_key(
        &self,
        request: Request<v1::DecryptBucketKeyRequest>,
    ) -> Result<Response<v1::DecryptBucketKeyResponse>, Status> {
        let longest = self.gate.service.settings().longest_bucket_key_validity;
        self.answer(request, decrypt_bucket_key, |opened| decrypted(opened, longest)).await
    }

    async fn report_bucket_key_use(
        &self,
        request: Request<v1::ReportBucketKeyUseRequest>,
    ) -> Result<Response<v1::ReportBucketKeyUseResponse>, Status> {
        self.answer(request, report_bucket_key_use, |reported| v1::ReportBucketKeyUseResponse {
            bucket_key_id: reported.id.to_string(),
            key_id: reported.key_id.to_string(),
            key_version: reported.key_version,
            uses: reported.uses.get(),
        })
        .await
    }
}

pub(crate) fn generate_bucket_key(request: v1::GenerateBucketKeyRequest) -> Result<GenerateBucketKey, Error> {
    let unfit = Error::invalid(Field::Algorithm, "must be AES_256 or SM4");
    let algorithm = match convert::spec(request.algorithm) {
        Ok(None) => None,
        Ok(Some(KeySpec::Aes256)) => Some(Cipher::Aes256Gcm),
        Ok(Some(KeySpec::Sm4)) => Some(Cipher::Sm4Gcm),
        Ok(Some(_)) | Err(_) => return Err(unfit),
    };
    Ok(GenerateBucketKey {
        key: convert::required_key(request.key)?,
        algorithm,
        validity: Validity::parse(request.validity_seconds),
        encryption_context: convert::either(
            request.encryption_context,
            &request.additional_authenticated_data,
        )?,
    })
}

pub(crate) fn decrypt_bucket_key(request: v1::DecryptBucketKeyRequest) -> Result<DecryptBucketKey, Error> {
    let context = convert::either(request.encryption_context, &request.additional_authenticated_data)?;
    DecryptBucketKey::new(&request.ciphertext_blob, convert::optional_key(request.key)?, context)
}

#[allow(clippy::needless_pass_by_value, reason = "every request is converted by a function of one form")]
pub(crate) fn report_bucket_key_use(
    request: v1::ReportBucketKeyUseRequest,
) -> Result<ReportBucketKeyUse, Error> {
    Ok(ReportBucketKeyUse { receipt: request.receipt.to_vec(), uses: UseCount::parse(request.uses)? })
}

fn generated(made: BucketKey) -> v1::GenerateBucketKeyResponse {
    v1::GenerateBucketKeyResponse {
        bucket_key_id: made.id.to_string(),
        key_id: made.sealed.key_id.to_string(),
        key_version: made.sealed.key_version,
        plaintext: convert::secret_field(made.plaintext),
        ciphertext_blob: made.sealed.ciphertext.into(),
        algorithm: algorithm(made.algorithm).into(),
        validity_seconds: seconds(made.validity),
        expires_at: Some(convert::time(made.expires)),
        most_uses: MOST_USES,
        receipt: made.receipt.into(),
    }
}

fn decrypted(opened: DecryptedBucketKey, longest: Duration) -> v1::DecryptBucketKeyResponse {
    v1::DecryptBucketKeyResponse {
        bucket_key_id: opened.id.to_string(),
        key_id: opened.key_id.to_string(),
        key_version: opened.key_version,
        plaintext: convert::secret_field(opened.plaintext),
        algorithm: algorithm(opened.algorithm).into(),
        issued_at: Some(convert::time(opened.issued)),
        expires_at: Some(convert::time(opened.expires)),
        validity_seconds: seconds(longest),
    }
}

fn algorithm(cipher: Cipher) -> v1::KeySpec {
    match cipher {
        Cipher::Aes256Gcm => v1::KeySpec::Aes256,
        Cipher::Sm4Gcm => v1::KeySpec::Sm4,
    }
}

/// Whole seconds: validities have no others, and none is longer than an hour.
fn seconds(validity: Duration) -> u32 {
    u32::try_from(validity.as_secs()).unwrap_or(u32::MAX)
}
