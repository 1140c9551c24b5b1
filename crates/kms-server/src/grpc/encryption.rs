//! The service of small data.

use kms_proto::v1::{self, encryption_service_server::EncryptionService};
use tonic::{Request, Response, Status};

use super::{Grpc, convert};

#[tonic::async_trait]
impl EncryptionService for Grpc {
    async fn encrypt_data(
        &self,
        request: Request<v1::EncryptDataRequest>,
    ) -> Result<Response<v1::EncryptDataResponse>, Status> {
        self.answer(request, convert::encrypt_data, |data| v1::EncryptDataResponse {
            key_id: data.key_id.to_string(),
            key_version: data.key_version,
            ciphertext_blob: data.ciphertext.into(),
        })
        .await
    }

    async fn decrypt_data(
        &self,
        request: Request<v1::DecryptDataRequest>,
    ) -> Result<Response<v1::DecryptDataResponse>, Status> {
        self.answer(request, convert::decrypt_data, |data| v1::DecryptDataResponse {
            key_id: data.key_id.to_string(),
            key_version: data.key_version,
            plaintext: convert::secret_field(data.plaintext),
        })
        .await
    }
}
