//! The service of keystores, and its conversions.
#![allow(clippy::needless_pass_by_value, reason = "every request is converted by a function of one form")]

use kms_core::{
    Error,
    error::Field,
    identity::KeystoreId,
    keystore::{KeystoreRecord, KeystoreState},
    ops::{
        Alias, CreateKeystore, DeleteKeystore, DescribeKeystore, DisableKeystore, EnableKeystore,
        ListKeystores, ListWindow,
    },
};
use kms_proto::v1::{self, keystore_service_server::KeystoreService};
use tonic::{Request, Response, Status};

use super::{Grpc, convert};

#[tonic::async_trait]
impl KeystoreService for Grpc {
    async fn create_keystore(
        &self,
        request: Request<v1::CreateKeystoreRequest>,
    ) -> Result<Response<v1::CreateKeystoreResponse>, Status> {
        let render = |record| v1::CreateKeystoreResponse { keystore: Some(keystore(record)) };
        self.answer(request, create_keystore, render).await
    }

    async fn delete_keystore(
        &self,
        request: Request<v1::DeleteKeystoreRequest>,
    ) -> Result<Response<v1::DeleteKeystoreResponse>, Status> {
        self.answer(request, delete_keystore, |_| v1::DeleteKeystoreResponse {}).await
    }

    async fn enable_keystore(
        &self,
        request: Request<v1::EnableKeystoreRequest>,
    ) -> Result<Response<v1::EnableKeystoreResponse>, Status> {
        let render = |record| v1::EnableKeystoreResponse { keystore: Some(keystore(record)) };
        self.answer(request, enable_keystore, render).await
    }

    async fn disable_keystore(
        &self,
        request: Request<v1::DisableKeystoreRequest>,
    ) -> Result<Response<v1::DisableKeystoreResponse>, Status> {
        let render = |record| v1::DisableKeystoreResponse { keystore: Some(keystore(record)) };
        self.answer(request, disable_keystore, render).await
    }

    async fn describe_keystore(
        &self,
        request: Request<v1::DescribeKeystoreRequest>,
    ) -> Result<Response<v1::DescribeKeystoreResponse>, Status> {
        let render = |record| v1::DescribeKeystoreResponse { keystore: Some(keystore(record)) };
        self.answer(request, describe_keystore, render).await
    }

    async fn list_keystores(
        &self,
        request: Request<v1::ListKeystoresRequest>,
    ) -> Result<Response<v1::ListKeystoresResponse>, Status> {
        self.answer(request, list_keystores, |list| v1::ListKeystoresResponse {
            total: u32::try_from(list.total).unwrap_or(u32::MAX),
            keystores: list.keystores.into_iter().map(keystore).collect(),
        })
        .await
    }
}

pub(crate) fn create_keystore(request: v1::CreateKeystoreRequest) -> Result<CreateKeystore, Error> {
    let (keystore_id, alias) = (id(&request.keystore_id)?, Alias::parse(&request.alias)?);
    Ok(CreateKeystore { keystore_id, alias })
}

pub(crate) fn delete_keystore(request: v1::DeleteKeystoreRequest) -> Result<DeleteKeystore, Error> {
    Ok(DeleteKeystore { keystore_id: id(&request.keystore_id)? })
}

pub(crate) fn enable_keystore(request: v1::EnableKeystoreRequest) -> Result<EnableKeystore, Error> {
    Ok(EnableKeystore { keystore_id: id(&request.keystore_id)? })
}

pub(crate) fn disable_keystore(request: v1::DisableKeystoreRequest) -> Result<DisableKeystore, Error> {
    Ok(DisableKeystore { keystore_id: id(&request.keystore_id)? })
}

pub(crate) fn describe_keystore(request: v1::DescribeKeystoreRequest) -> Result<DescribeKeystore, Error> {
    Ok(DescribeKeystore { keystore_id: id(&request.keystore_id)? })
}

pub(crate) fn list_keystores(request: v1::ListKeystoresRequest) -> Result<ListKeystores, Error> {
    Ok(ListKeystores { window: ListWindow::parse(request.limit, request.offset)? })
}

fn id(text: &str) -> Result<KeystoreId, Error> {
    KeystoreId::parse(text).ok_or(Error::invalid(Field::KeystoreId, "must be the id of a keystore"))
}

fn keystore(record: KeystoreRecord) -> v1::Keystore {
    let state = match record.state {
        KeystoreState::Enabled => v1::KeystoreState::Enabled,
        KeystoreState::Disabled => v1::KeystoreState::Disabled,
    };
    v1::Keystore {
        keystore_id: record.id.to_string(),
        domain_id: record.account.to_string(),
        alias: record.alias,
        state: state.into(),
        created_at: Some(convert::time(record.created)),
    }
}
