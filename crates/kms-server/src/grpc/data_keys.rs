//! The service of data keys.

use kms_proto::v1::{self, data_key_service_server::DataKeyService};
use tonic::{Request, Response, Status};

use super::{Grpc, convert};

#[tonic::async_trait]
impl DataKeyService for Grpc {
    async fn generate_data_key(
        &self,
        request: Request<v1::GenerateDataKeyRequest>,
    ) -> Result<Response<v1::GenerateDataKeyResponse>, Status> {
        self.answer(request, convert::generate_data_key, |key| v1::GenerateDataKeyResponse {
            key_id: key.sealed.key_id.to_string(),
            key_version: key.sealed.key_version,
            plaintext: convert::secret_field(key.plaintext),
            ciphertext_blob: key.sealed.ciphertext.into(),
        })
        .await
    }

    async fn generate_data_key_without_plaintext(
        &self,
        request: Request<v1::GenerateDataKeyWithoutPlaintextRequest>,
    ) -> Result<Response<v1::GenerateDataKeyWithoutPlaintextResponse>, Status> {
        self.answer(request, convert::generate_data_key_without_plaintext, |sealed| {
            v1::GenerateDataKeyWithoutPlaintextResponse {
                key_id: sealed.key_id.to_string(),
                key_version: sealed.key_version,
                ciphertext_blob: sealed.ciphertext.into(),
            }
        })
        .await
    }

    async fn encrypt_data_key(
        &self,
        request: Request<v1::EncryptDataKeyRequest>,
    ) -> Result<Response<v1::EncryptDataKeyResponse>, Status> {
        self.answer(request, convert::encrypt_data_key, |sealed| v1::EncryptDataKeyResponse {
            key_id: sealed.key_id.to_string(),
            key_version: sealed.key_version,
            ciphertext_blob: sealed.ciphertext.into(),
        })
        .await
    }

    async fn decrypt_data_key(
        &self,
        request: Request<v1::DecryptDataKeyRequest>,
    ) -> Result<Response<v1::DecryptDataKeyResponse>, Status> {
        self.answer(request, convert::decrypt_data_key, |key| v1::DecryptDataKeyResponse {
            key_id: key.key_id.to_string(),
            key_version: key.key_version,
            plaintext: convert::secret_field(key.plaintext),
        })
        .await
    }

    async fn generate_data_keys(
        &self,
        request: Request<v1::GenerateDataKeysRequest>,
    ) -> Result<Response<v1::GenerateDataKeysResponse>, Status> {
        self.answer(request, convert::generate_data_keys, convert::data_keys).await
    }

    async fn generate_data_key_pair(
        &self,
        request: Request<v1::GenerateDataKeyPairRequest>,
    ) -> Result<Response<v1::GenerateDataKeyPairResponse>, Status> {
        self.answer(request, convert::generate_data_key_pair, |pair| v1::GenerateDataKeyPairResponse {
            key_id: pair.key_id.to_string(),
            key_version: pair.key_version,
            public_key: pair.public_key.into(),
            private_key_ciphertext_blob: pair.ciphertext.into(),
            private_key_plaintext: pair.private_key.map(convert::secret_field).unwrap_or_default(),
        })
        .await
    }

    async fn re_encrypt(
        &self,
        request: Request<v1::ReEncryptRequest>,
    ) -> Result<Response<v1::ReEncryptResponse>, Status> {
        self.answer(request, convert::re_encrypt, |sealed| v1::ReEncryptResponse {
            source_key_id: sealed.source_key_id.to_string(),
            source_key_version: sealed.source_key_version,
            key_id: sealed.key_id.to_string(),
            key_version: sealed.key_version,
            ciphertext_blob: sealed.ciphertext.into(),
        })
        .await
    }

    async fn generate_random(
        &self,
        request: Request<v1::GenerateRandomRequest>,
    ) -> Result<Response<v1::GenerateRandomResponse>, Status> {
        self.answer(request, convert::generate_random, |random| v1::GenerateRandomResponse {
            random: convert::secret_field(random),
        })
        .await
    }
}
