//! The service of grants, and its conversions.
#![allow(clippy::needless_pass_by_value, reason = "every request is converted by a function of one form")]

use kms_core::{
    Error,
    error::Field,
    grant::{Grant, GrantId, GrantName, GrantOperation, GrantOperations, Principal},
    identity::UserId,
    ops::{
        CreateGrant, KeySelector, ListGrants, ListRetirableGrants, PageSize, PageToken, RetireGrant,
        RevokeGrant,
    },
};
use kms_proto::v1::{self, grant_service_server::GrantService, grantee};
use tonic::{Request, Response, Status};

use super::{Grpc, convert};

#[tonic::async_trait]
impl GrantService for Grpc {
    async fn create_grant(
        &self,
        request: Request<v1::CreateGrantRequest>,
    ) -> Result<Response<v1::CreateGrantResponse>, Status> {
        let render = |made| v1::CreateGrantResponse { grant: Some(grant(made)) };
        self.answer(request, create_grant, render).await
    }

    async fn list_grants(
        &self,
        request: Request<v1::ListGrantsRequest>,
    ) -> Result<Response<v1::ListGrantsResponse>, Status> {
        self.answer(request, list_grants, |found| v1::ListGrantsResponse {
            grants: found.page.grants.into_iter().map(grant).collect(),
            next_page_token: next(found.page.next),
            total: u32::try_from(found.total).unwrap_or(u32::MAX),
        })
        .await
    }

    async fn list_retirable_grants(
        &self,
        request: Request<v1::ListRetirableGrantsRequest>,
    ) -> Result<Response<v1::ListRetirableGrantsResponse>, Status> {
        self.answer(request, list_retirable_grants, |page| v1::ListRetirableGrantsResponse {
            grants: page.grants.into_iter().map(grant).collect(),
            next_page_token: next(page.next),
        })
        .await
    }

    async fn retire_grant(
        &self,
        request: Request<v1::RetireGrantRequest>,
    ) -> Result<Response<v1::RetireGrantResponse>, Status> {
        self.answer(request, retire_grant, |()| v1::RetireGrantResponse {}).await
    }

    async fn revoke_grant(
        &self,
        request: Request<v1::RevokeGrantRequest>,
    ) -> Result<Response<v1::RevokeGrantResponse>, Status> {
        self.answer(request, revoke_grant, |()| v1::RevokeGrantResponse {}).await
    }
}

pub(crate) fn list_grants(request: v1::ListGrantsRequest) -> Result<ListGrants, Error> {
    let key = KeySelector::parse(&request.key_id)?;
    let (size, token) = (PageSize::parse(request.page_size)?, PageToken::parse(&request.page_token)?);
    Ok(ListGrants { key, size, token })
}

pub(crate) fn list_retirable_grants(
    request: v1::ListRetirableGrantsRequest,
) -> Result<ListRetirableGrants, Error> {
    let (size, token) = (PageSize::parse(request.page_size)?, PageToken::parse(&request.page_token)?);
    Ok(ListRetirableGrants { size, token })
}

pub(crate) fn retire_grant(request: v1::RetireGrantRequest) -> Result<RetireGrant, Error> {
    let (key, grant_id) = (KeySelector::parse(&request.key_id)?, GrantId::parse(&request.grant_id)?);
    Ok(RetireGrant { key, grant_id })
}

pub(crate) fn revoke_grant(request: v1::RevokeGrantRequest) -> Result<RevokeGrant, Error> {
    let (key, grant_id) = (KeySelector::parse(&request.key_id)?, GrantId::parse(&request.grant_id)?);
    Ok(RevokeGrant { key, grant_id })
}

pub(crate) fn create_grant(request: v1::CreateGrantRequest) -> Result<CreateGrant, Error> {
    let operations: Vec<_> =
        request.operations.iter().map(|wire| operation(*wire)).collect::<Result<_, _>>()?;
    let (retiring, token) = (&request.retiring_principal, &request.idempotency_token);
    let unknown = Error::invalid(Field::RetiringPrincipal, "must be empty or the id of a user");
    Ok(CreateGrant {
        key: KeySelector::parse(&request.key_id)?,
        operations: GrantOperations::parse(operations)?,
        name: GrantName::parse(&request.name)?,
        retiring_principal: match &**retiring {
            "" => None,
            text => Some(UserId::parse(text).ok_or(unknown)?),
        },
        idempotency_token: convert::idempotency_token(token)?,
        grantee: match request.grantee.and_then(|grantee| grantee.principal) {
            Some(grantee::Principal::UserId(user)) => Principal::user(&user)?,
            Some(grantee::Principal::DomainId(account)) => Principal::account(&account)?,
            None => return Err(Error::invalid(Field::Grantee, "must name a user or an account")),
        },
    })
}

/// Both sides of the contract's operations.
const OPERATIONS: [(v1::GrantOperation, GrantOperation); 9] = [
    (v1::GrantOperation::CreateDatakey, GrantOperation::CreateDatakey),
    (v1::GrantOperation::CreateDatakeyWithoutPlaintext, GrantOperation::CreateDatakeyWithoutPlaintext),
    (v1::GrantOperation::EncryptDatakey, GrantOperation::EncryptDatakey),
    (v1::GrantOperation::DecryptDatakey, GrantOperation::DecryptDatakey),
    (v1::GrantOperation::DescribeKey, GrantOperation::DescribeKey),
    (v1::GrantOperation::CreateGrant, GrantOperation::CreateGrant),
    (v1::GrantOperation::RetireGrant, GrantOperation::RetireGrant),
    (v1::GrantOperation::EncryptData, GrantOperation::EncryptData),
    (v1::GrantOperation::DecryptData, GrantOperation::DecryptData),
];

fn operation(wire: i32) -> Result<GrantOperation, Error> {
    let known = OPERATIONS.iter().find(|(told, _)| i32::from(*told) == wire).map(|(_, operation)| *operation);
    known.ok_or(Error::invalid(Field::GrantOperations, "must be operations that a grant can allow"))
}

fn grant(grant: Grant) -> v1::Grant {
    let told = OPERATIONS.iter().filter(|(_, operation)| grant.operations.allow(*operation));
    let principal = match grant.grantee {
        Principal::User(user) => grantee::Principal::UserId(user.to_string()),
        Principal::Account(account) => grantee::Principal::DomainId(account.to_string()),
    };
    v1::Grant {
        grant_id: grant.id.to_string(),
        key_id: grant.key_id.to_string(),
        grantee: Some(v1::Grantee { principal: Some(principal) }),
        operations: told.map(|(wire, _)| i32::from(*wire)).collect(),
        name: grant.name.as_str().to_owned(),
        retiring_principal: grant.retiring_principal.map(|user| user.to_string()).unwrap_or_default(),
        issuing_principal: grant.issuer.to_string(),
        issuing_domain_id: grant.issuing_account.to_string(),
        created_at: Some(convert::time(grant.created)),
    }
}

fn next(token: Option<PageToken>) -> String {
    token.map(|token| token.encode()).unwrap_or_default()
}
