//! The service of what is not offered: each call is one of the pipeline, which refuses it.

use kms_core::ops::{
    CreateAccessPoint, CreateDataKeyCapsule, CreateKeyPolicy, CreatePin, DecryptDataKeyCapsule,
    DeleteAccessPoint, DeleteKeyPolicy, DescribeKeyPolicy, DisableAccessPoint, DownloadAccessPointPrivateKey,
    EnableAccessPoint, ListAccessPoints, ListKeyPolicies, UpdateKeyPolicy,
};
use kms_proto::v1::{self, trusted_execution_service_server::TrustedExecutionService};
use tonic::{Request, Response, Status};

use super::Grpc;

macro_rules! refuse {
    ($($method:ident: $operation:ident, $request:ident, $response:ident;)*) => {
        #[tonic::async_trait]
        impl TrustedExecutionService for Grpc {
            $(async fn $method(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                self.answer(request, |_| Ok($operation), |never| match never {}).await
            })*
        }
    };
}

refuse! {
    create_key_policy: CreateKeyPolicy, CreateKeyPolicyRequest, CreateKeyPolicyResponse;
    update_key_policy: UpdateKeyPolicy, UpdateKeyPolicyRequest, UpdateKeyPolicyResponse;
    delete_key_policy: DeleteKeyPolicy, DeleteKeyPolicyRequest, DeleteKeyPolicyResponse;
    describe_key_policy: DescribeKeyPolicy, DescribeKeyPolicyRequest, DescribeKeyPolicyResponse;
    list_key_policies: ListKeyPolicies, ListKeyPoliciesRequest, ListKeyPoliciesResponse;
    create_access_point: CreateAccessPoint, CreateAccessPointRequest, CreateAccessPointResponse;
    delete_access_point: DeleteAccessPoint, DeleteAccessPointRequest, DeleteAccessPointResponse;
    enable_access_point: EnableAccessPoint, EnableAccessPointRequest, EnableAccessPointResponse;
    disable_access_point: DisableAccessPoint, DisableAccessPointRequest, DisableAccessPointResponse;
    list_access_points: ListAccessPoints, ListAccessPointsRequest, ListAccessPointsResponse;
    download_access_point_private_key: DownloadAccessPointPrivateKey, DownloadAccessPointPrivateKeyRequest,
        DownloadAccessPointPrivateKeyResponse;
    create_data_key_capsule: CreateDataKeyCapsule, CreateDataKeyCapsuleRequest, CreateDataKeyCapsuleResponse;
    decrypt_data_key_capsule: DecryptDataKeyCapsule, DecryptDataKeyCapsuleRequest, DecryptDataKeyCapsuleResponse;
    create_pin: CreatePin, CreatePinRequest, CreatePinResponse;
}
