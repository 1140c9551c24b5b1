//! Grants.

use http::Method;
use kms_core::{
    Error,
    error::Field,
    grant::{Grant, GrantId, GrantName, GrantOperation, GrantOperations, Principal},
    identity::{Caller, UserId},
    ops::{
        CreateGrant, GrantPage, GrantsOfKey, ListGrants, ListRetirableGrants, PageSize, RetireGrant,
        RevokeGrant,
    },
};
use serde::{Deserialize, Serialize};

use crate::dew::{
    answer::{Json, Nothing},
    codes::Unfit,
    forms::{self, Scalar, Window},
    routes::{Asked, Row, keeping, row},
};

/// The types of a principal. DEW: grantee_principal_type.
const USER: &str = "user";
const DOMAIN: &str = "domain";

pub(super) fn rows() -> Vec<Row> {
    let post = Method::POST;
    vec![
        row(post.clone(), "/v1.0/{project_id}/kms/create-grant", create, created),
        row(post.clone(), "/v1.0/{project_id}/kms/revoke-grant", revoke, |_, ()| Nothing),
        row(post.clone(), "/v1.0/{project_id}/kms/retire-grant", retire, |_, ()| Nothing),
        keeping(post.clone(), "/v1.0/{project_id}/kms/list-grants", list, listed),
        keeping(post, "/v1.0/{project_id}/kms/list-retirable-grants", list_retirable, listed_retirable),
    ]
}

#[derive(Deserialize)]
struct CreateBody {
    key_id: Option<Scalar>,
    grantee_principal: Option<Scalar>,
    grantee_principal_type: Option<Scalar>,
    operations: Option<Vec<Scalar>>,
    name: Option<Scalar>,
    retiring_principal: Option<Scalar>,
}

#[derive(Deserialize)]
struct GrantBody {
    key_id: Option<Scalar>,
    grant_id: Option<Scalar>,
}

#[derive(Deserialize)]
struct ListBody {
    key_id: Option<Scalar>,
    limit: Option<Scalar>,
    marker: Option<Scalar>,
}

fn create(asked: Asked<CreateBody>) -> Result<CreateGrant, Unfit> {
    let body = asked.body;
    let key = forms::key_id(body.key_id)?;
    let grantee = forms::required(body.grantee_principal, Field::Grantee)?;
    let operations = forms::required(body.operations, Field::GrantOperations)?;
    let operations = operations.iter().map(|name| operation(name.as_str())).collect::<Result<Vec<_>, _>>()?;
    let retiring = body.retiring_principal.filter(|principal| !principal.as_str().is_empty());
    let unknown = Error::invalid(Field::RetiringPrincipal, "must be the id of a user");
    Ok(CreateGrant {
        key,
        grantee: match forms::text(body.grantee_principal_type.as_ref()) {
            "" | USER => Principal::user(grantee.as_str())?,
            DOMAIN => Principal::account(grantee.as_str())?,
            _ => return Err(Error::invalid(Field::Grantee, "must be of the type user or domain").into()),
        },
        operations: GrantOperations::parse(operations)?,
        name: GrantName::parse(forms::text(body.name.as_ref()))?,
        retiring_principal: retiring
            .map(|principal| UserId::parse(principal.as_str()).ok_or(unknown))
            .transpose()?,
        idempotency_token: None,
    })
}

fn operation(name: &str) -> Result<GrantOperation, Error> {
    let found = GrantOperation::ALL.iter().find(|operation| operation.name() == name).copied();
    found.ok_or(Error::invalid(Field::GrantOperations, "must be operations that a grant can allow"))
}

fn revoke(asked: Asked<GrantBody>) -> Result<RevokeGrant, Unfit> {
    let (key, grant_id) = named(asked.body)?;
    Ok(RevokeGrant { key, grant_id })
}

fn retire(asked: Asked<GrantBody>) -> Result<RetireGrant, Unfit> {
    let (key, grant_id) = named(asked.body)?;
    Ok(RetireGrant { key, grant_id })
}

fn named(body: GrantBody) -> Result<(kms_core::ops::KeySelector, GrantId), Unfit> {
    let key = forms::key_id(body.key_id)?;
    // DEW takes digits of either case.
    let id = forms::required(body.grant_id, Field::GrantId)?.as_str().to_ascii_lowercase();
    Ok((key, GrantId::parse(&id)?))
}

fn list(asked: Asked<ListBody>) -> Result<(ListGrants, Window), Unfit> {
    let body = asked.body;
    let key = forms::key_id(body.key_id)?;
    let window = forms::window(body.limit.as_ref(), body.marker.as_ref())?;
    Ok((ListGrants { key, size: PageSize::WHOLE, token: None }, window))
}

fn list_retirable(asked: Asked<ListBody>) -> Result<(ListRetirableGrants, Window), Unfit> {
    let window = forms::window(asked.body.limit.as_ref(), asked.body.marker.as_ref())?;
    Ok((ListRetirableGrants { size: PageSize::WHOLE, token: None }, window))
}

#[derive(Serialize)]
struct CreatedGrant {
    grant_id: String,
}

#[derive(Serialize)]
struct ListedGrants {
    grants: Vec<ListedGrant>,
    next_marker: String,
    truncated: &'static str,
    total: usize,
}

#[derive(Serialize)]
struct ListedGrant {
    key_id: String,
    grant_id: String,
    grantee_principal: String,
    grantee_principal_type: &'static str,
    operations: Vec<&'static str>,
    issuing_principal: String,
    creation_date: String,
    name: String,
    retiring_principal: String,
}

impl From<Grant> for ListedGrant {
    fn from(grant: Grant) -> Self {
        let (grantee_principal, grantee_principal_type) = match grant.grantee {
            Principal::User(user) => (user.to_string(), USER),
            Principal::Account(account) => (account.to_string(), DOMAIN),
        };
        let allowed = GrantOperation::ALL.iter().filter(|operation| grant.operations.allow(**operation));
        Self {
            key_id: grant.key_id.to_string(),
            grant_id: grant.id.to_string(),
            grantee_principal,
            grantee_principal_type,
            operations: allowed.map(|operation| operation.name()).collect(),
            issuing_principal: grant.issuer.to_string(),
            creation_date: forms::milliseconds(grant.created),
            name: grant.name.as_str().to_owned(),
            retiring_principal: grant.retiring_principal.map(|user| user.to_string()).unwrap_or_default(),
        }
    }
}

fn created(_: &Caller, grant: Grant) -> Json<CreatedGrant> {
    Json(CreatedGrant { grant_id: grant.id.to_string() })
}

fn listed(window: Window, caller: &Caller, found: GrantsOfKey) -> Json<ListedGrants> {
    listed_retirable(window, caller, found.page)
}

fn listed_retirable(window: Window, _: &Caller, page: GrantPage) -> Json<ListedGrants> {
    let (grants, (next_marker, truncated, total)) = window.of(page.grants);
    Json(ListedGrants { grants: grants.into_iter().map(Into::into).collect(), next_marker, truncated, total })
}
