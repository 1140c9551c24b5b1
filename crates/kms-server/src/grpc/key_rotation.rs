//! The service of the rotation of keys.

use kms_proto::v1::{self, rotation_service_server::RotationService};
use tonic::{Request, Response, Status};

use super::{Grpc, convert::rotation};

#[tonic::async_trait]
impl RotationService for Grpc {
    async fn enable_key_rotation(
        &self,
        request: Request<v1::EnableKeyRotationRequest>,
    ) -> Result<Response<v1::EnableKeyRotationResponse>, Status> {
        self.answer(request, rotation::enable_key_rotation, |key| v1::EnableKeyRotationResponse {
            next_rotation_at: rotation::next_rotation(&key),
            key: Some(self.key(key)),
        })
        .await
    }

    async fn disable_key_rotation(
        &self,
        request: Request<v1::DisableKeyRotationRequest>,
    ) -> Result<Response<v1::DisableKeyRotationResponse>, Status> {
        self.answer(request, rotation::disable_key_rotation, |key| v1::DisableKeyRotationResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn update_rotation_interval(
        &self,
        request: Request<v1::UpdateRotationIntervalRequest>,
    ) -> Result<Response<v1::UpdateRotationIntervalResponse>, Status> {
        self.answer(request, rotation::update_rotation_interval, |key| v1::UpdateRotationIntervalResponse {
            next_rotation_at: rotation::next_rotation(&key),
            key: Some(self.key(key)),
        })
        .await
    }

    async fn get_rotation_status(
        &self,
        request: Request<v1::GetRotationStatusRequest>,
    ) -> Result<Response<v1::GetRotationStatusResponse>, Status> {
        let budget = self.gate.service.settings().in_hsm_budget;
        self.answer(request, rotation::get_rotation_status, |key| rotation::rotation_status(&key, budget))
            .await
    }

    async fn rotate_key_on_demand(
        &self,
        request: Request<v1::RotateKeyOnDemandRequest>,
    ) -> Result<Response<v1::RotateKeyOnDemandResponse>, Status> {
        self.answer(request, rotation::rotate_key_on_demand, |key| v1::RotateKeyOnDemandResponse {
            key: Some(self.key(key)),
        })
        .await
    }
}
