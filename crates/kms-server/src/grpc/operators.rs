//! The service of operators: the root keys, and backups.

use std::{pin::Pin, sync::Arc};

use kms_core::{
    Error,
    error::Field,
    identity::UserId,
    ops::{DescribeRoot, ExplainAccess, IdentityLister, ReloadIdentities, ReloadTrafficProfile, RetireRoot},
};
use kms_proto::v1::{self, operator_service_server::OperatorService};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Grpc,
    convert::{self, campaign},
    status,
};
use crate::{identity::reload, peer::Peer, traffic};

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

    type BackUpStream = Pin<Box<dyn Stream<Item = Result<v1::BackUpResponse, Status>> + Send>>;

    async fn back_up(
        &self,
        request: Request<v1::BackUpRequest>,
    ) -> Result<Response<Self::BackUpStream>, Status> {
        let request_id = Uuid::new_v4();
        let (metadata, extensions, _) = request.into_parts();
        let Some(peer) = extensions.get::<Arc<Peer>>() else {
            return Err(Status::internal("the connection has no peer"));
        };
        let credentials = super::credentials(peer, &metadata);
        let parts = self.gate.back_up(request_id, &credentials).await;
        let parts = parts.map_err(|refused| status::of(&refused, request_id))?;
        let rendered = ReceiverStream::new(parts).map(move |part| {
            part.map(convert::backup_part).map_err(|refused| status::of(&refused, request_id))
        });
        let mut response: Response<Self::BackUpStream> = Response::new(Box::pin(rendered));
        status::name_request(response.metadata_mut(), request_id);
        Ok(response)
    }

    async fn list_destroyed_keys(
        &self,
        request: Request<v1::ListDestroyedKeysRequest>,
    ) -> Result<Response<v1::ListDestroyedKeysResponse>, Status> {
        self.answer(request, convert::list_destroyed_keys, convert::destroyed_keys).await
    }

    async fn explain_access(
        &self,
        request: Request<v1::ExplainAccessRequest>,
    ) -> Result<Response<v1::ExplainAccessResponse>, Status> {
        let gate = self.gate.clone();
        // Of the identities that hold when it is decided that the caller may know them.
        let identities: IdentityLister = Arc::new(move |user| gate.identities.now().everyone(user));
        let only_some = request.get_ref().user_id.is_empty();
        let parse = |request: v1::ExplainAccessRequest| {
            let unknown = Error::invalid(Field::UserId, "must be the id of a user");
            let named = Some(&*request.user_id).filter(|named| !named.is_empty());
            let user = named.map(|named| UserId::parse(named).ok_or(unknown)).transpose()?;
            Ok(ExplainAccess { key_id: request.key_id.parse()?, user, identities })
        };
        self.answer(request, parse, |explained| convert::explained(explained, only_some)).await
    }

    async fn reload_identities(
        &self,
        request: Request<v1::ReloadIdentitiesRequest>,
    ) -> Result<Response<v1::ReloadIdentitiesResponse>, Status> {
        let (load, take_effect) = reload::identities(&self.gate);
        let render = |digest: [u8; 32]| v1::ReloadIdentitiesResponse {
            digest: digest.to_vec().into(),
            users: u32::try_from(self.gate.identities.now().users()).unwrap_or(u32::MAX),
        };
        self.answer_in_effect(request, ReloadIdentities::new(load), take_effect, render).await
    }

    async fn reload_traffic_profile(
        &self,
        request: Request<v1::ReloadTrafficProfileRequest>,
    ) -> Result<Response<v1::ReloadTrafficProfileResponse>, Status> {
        let (load, take_effect) = traffic::reload::profile(&self.gate);
        let render = |digest: [u8; 32]| v1::ReloadTrafficProfileResponse { digest: digest.to_vec().into() };
        self.answer_in_effect(request, ReloadTrafficProfile::new(load), take_effect, render).await
    }

    async fn list_key_usage(
        &self,
        request: Request<v1::ListKeyUsageRequest>,
    ) -> Result<Response<v1::ListKeyUsageResponse>, Status> {
        self.answer(request, campaign::list_key_usage, campaign::key_usage_page).await
    }
}
