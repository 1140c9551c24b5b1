//! The service of keys in several regions.

use kms_core::ops::ListSupportedRegions;
use kms_proto::v1::{self, replication_service_server::ReplicationService};
use tonic::{Request, Response, Status};

use super::{Grpc, convert::replication};

#[tonic::async_trait]
impl ReplicationService for Grpc {
    async fn replicate_key(
        &self,
        request: Request<v1::ReplicateKeyRequest>,
    ) -> Result<Response<v1::ReplicateKeyResponse>, Status> {
        self.answer(request, replication::replicate_key, |key| v1::ReplicateKeyResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn update_primary_region(
        &self,
        request: Request<v1::UpdatePrimaryRegionRequest>,
    ) -> Result<Response<v1::UpdatePrimaryRegionResponse>, Status> {
        self.answer(request, replication::update_primary_region, |key| v1::UpdatePrimaryRegionResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn list_supported_regions(
        &self,
        request: Request<v1::ListSupportedRegionsRequest>,
    ) -> Result<Response<v1::ListSupportedRegionsResponse>, Status> {
        self.answer(
            request,
            |_| Ok(ListSupportedRegions),
            |regions| v1::ListSupportedRegionsResponse {
                regions: regions.iter().map(ToString::to_string).collect(),
            },
        )
        .await
    }
}
