//! The service of keys and their life cycle.

use kms_core::{key::KeyRecord, ops::PageToken};
use kms_proto::v1::{self, key_service_server::KeyService};
use tonic::{Request, Response, Status};

use super::{
    Grpc,
    convert::{self, campaign},
};

#[tonic::async_trait]
impl KeyService for Grpc {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        self.answer(request, convert::create_key, |key| v1::CreateKeyResponse { key: Some(self.key(key)) })
            .await
    }

    async fn describe_key(
        &self,
        request: Request<v1::DescribeKeyRequest>,
    ) -> Result<Response<v1::DescribeKeyResponse>, Status> {
        self.answer(request, convert::describe_key, |key| v1::DescribeKeyResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        self.answer(request, convert::list_keys, |page| v1::ListKeysResponse {
            keys: page.keys.into_iter().map(|key| self.key(key)).collect(),
            next_page_token: page.next.as_ref().map_or_else(String::new, PageToken::encode),
        })
        .await
    }

    async fn enable_key(
        &self,
        request: Request<v1::EnableKeyRequest>,
    ) -> Result<Response<v1::EnableKeyResponse>, Status> {
        self.answer(request, convert::enable_key, |key| v1::EnableKeyResponse { key: Some(self.key(key)) })
            .await
    }

    async fn disable_key(
        &self,
        request: Request<v1::DisableKeyRequest>,
    ) -> Result<Response<v1::DisableKeyResponse>, Status> {
        self.answer(request, convert::disable_key, |key| v1::DisableKeyResponse { key: Some(self.key(key)) })
            .await
    }

    async fn schedule_key_deletion(
        &self,
        request: Request<v1::ScheduleKeyDeletionRequest>,
    ) -> Result<Response<v1::ScheduleKeyDeletionResponse>, Status> {
        self.answer(request, convert::schedule_key_deletion, |used| v1::ScheduleKeyDeletionResponse {
            key: Some(self.key(KeyRecord::clone(&used.record))),
            usage: Some(campaign::usage(&used)),
        })
        .await
    }

    async fn cancel_key_deletion(
        &self,
        request: Request<v1::CancelKeyDeletionRequest>,
    ) -> Result<Response<v1::CancelKeyDeletionResponse>, Status> {
        self.answer(request, convert::cancel_key_deletion, |key| v1::CancelKeyDeletionResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn update_key_alias(
        &self,
        request: Request<v1::UpdateKeyAliasRequest>,
    ) -> Result<Response<v1::UpdateKeyAliasResponse>, Status> {
        self.answer(request, convert::update_key_alias, |key| v1::UpdateKeyAliasResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn update_key_description(
        &self,
        request: Request<v1::UpdateKeyDescriptionRequest>,
    ) -> Result<Response<v1::UpdateKeyDescriptionResponse>, Status> {
        self.answer(request, convert::update_key_description, |key| v1::UpdateKeyDescriptionResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn describe_key_usage(
        &self,
        request: Request<v1::DescribeKeyUsageRequest>,
    ) -> Result<Response<v1::DescribeKeyUsageResponse>, Status> {
        self.answer(request, campaign::describe_key_usage, |used| v1::DescribeKeyUsageResponse {
            usage: Some(campaign::usage(&used)),
        })
        .await
    }
}
