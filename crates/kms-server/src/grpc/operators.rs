//! The service of operators: the root keys.

use kms_core::ops::{DescribeRoot, RetireRoot};
use kms_proto::v1::{self, operator_service_server::OperatorService};
use tonic::{Request, Response, Status};

use super::{Grpc, convert};

#[tonic::async_trait]
impl OperatorService for Grpc {
    async fn rotate_root(
        &self,
        request: Request<v1::RotateRootRequest>,
    ) -> Result<Response<v1::RotateRootResponse>, Status> {
        let rotation = &self.gate.rotation;
        self.answer(
            request,
            |request| Ok(convert::rotate_root(request)),
            |root| {
                rotation.look();
                v1::RotateRootResponse { root: Some(convert::root(root, rotation)) }
            },
        )
        .await
    }

    async fn retire_root(
        &self,
        request: Request<v1::RetireRootRequest>,
    ) -> Result<Response<v1::RetireRootResponse>, Status> {
        let rotation = &self.gate.rotation;
        self.answer(
            request,
            |_| Ok(RetireRoot),
            |root| {
                rotation.look();
                v1::RetireRootResponse { root: Some(convert::root(root, rotation)) }
            },
        )
        .await
    }

    async fn describe_root(
        &self,
        request: Request<v1::DescribeRootRequest>,
    ) -> Result<Response<v1::DescribeRootResponse>, Status> {
        let rotation = &self.gate.rotation;
        self.answer(
            request,
            |_| Ok(DescribeRoot),
            |status| v1::DescribeRootResponse {
                root: Some(convert::root(status.root, rotation)),
                token_generations: status.token_generations,
            },
        )
        .await
    }

    async fn list_destroyed_keys(
        &self,
        request: Request<v1::ListDestroyedKeysRequest>,
    ) -> Result<Response<v1::ListDestroyedKeysResponse>, Status> {
        self.answer(request, convert::list_destroyed_keys, convert::destroyed_keys).await
    }
}
