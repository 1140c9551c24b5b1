//! Keystores: tokens of the deployment that keys can live on.

use http::Method;
use kms_core::{
    Error,
    error::Field,
    identity::{Caller, KeystoreId},
    keystore::{KeystoreRecord, KeystoreState},
    ops::{
        CreateKeystore, DeleteKeystore, DescribeKeystore, DisableKeystore, EnableKeystore, KeystoreList,
        ListKeystores,
    },
};
use serde::{Deserialize, Serialize};

use crate::dew::{
    answer::{Json, NoContent},
    codes::{Code, Unfit},
    forms::{self, Scalar},
    routes::{Asked, Bodiless, Row, row},
};

/// What keystores are: a cluster of HSMs that is the account's own. DEW: keystore_type.
const KIND: &str = "DHSM";

pub(super) fn rows() -> Vec<Row> {
    const ALL: &str = "/v1.0/{project_id}/keystores";
    const ONE: &str = "/v1.0/{project_id}/keystores/{keystore_id}";
    vec![
        row(Method::POST, ALL, create, created),
        row(Method::GET, ALL, list, listed),
        row(Method::GET, ONE, describe, described),
        row(Method::DELETE, ONE, delete, |_, _| NoContent),
        row(Method::POST, "/v1.0/{project_id}/keystores/{keystore_id}/enable", enable, switched),
        row(Method::POST, "/v1.0/{project_id}/keystores/{keystore_id}/disable", disable, switched),
    ]
}

#[derive(Deserialize)]
struct CreateBody {
    keystore_alias: Option<Scalar>,
    hsm_cluster_id: Option<Scalar>,
    cluster_id: Option<Scalar>,
    keystore_type: Option<Scalar>,
}

/// The cluster is a token that the configuration names.
fn create(asked: Asked<CreateBody>) -> Result<CreateKeystore, Unfit> {
    let body = asked.body;
    let other_kind = body.keystore_type.filter(|kind| kind.as_str() != KIND);
    forms::not_offered(other_kind.as_ref(), "must have the keystore_type DHSM, or none")?;
    let cluster = cluster(body.hsm_cluster_id, body.cluster_id)?;
    let unknown = Error::invalid(Field::KeystoreId, "must be the name of a token of the configuration");
    let keystore_id = KeystoreId::parse(cluster.as_str()).ok_or(unknown)?;
    Ok(CreateKeystore { keystore_id, alias: forms::alias(body.keystore_alias)? })
}

/// DEW: cluster_id is hsm_cluster_id for keystores of this kind. An empty text is none.
fn cluster(of_hsm: Option<Scalar>, of_kind: Option<Scalar>) -> Result<Scalar, Unfit> {
    let given = |cluster: Option<Scalar>| cluster.filter(|id| !id.as_str().is_empty());
    match (given(of_hsm), given(of_kind)) {
        (Some(one), Some(other)) if one != other => Err(Unfit::new(
            Code::PARAMETER_INVALID,
            Field::KeystoreId,
            "must be the same in hsm_cluster_id and cluster_id",
        )),
        (one, other) => forms::required(one.or(other), Field::KeystoreId),
    }
}

fn id<B>(asked: &Asked<B>) -> Result<KeystoreId, Unfit> {
    // What is no id is no keystore's.
    Ok(KeystoreId::parse(asked.parameter("keystore_id").unwrap_or_default())
        .ok_or(Error::KeystoreNotFound)?)
}

fn list(asked: Asked<Bodiless>) -> Result<ListKeystores, Unfit> {
    let parameter = |name| asked.parameter(name).unwrap_or_default();
    let window = forms::counted_window(parameter("limit"), parameter("offset"), Code::OFFSET_INVALID)?;
    Ok(ListKeystores { window })
}

fn describe(asked: Asked<Bodiless>) -> Result<DescribeKeystore, Unfit> {
    Ok(DescribeKeystore { keystore_id: id(&asked)? })
}

fn delete(asked: Asked<Bodiless>) -> Result<DeleteKeystore, Unfit> {
    Ok(DeleteKeystore { keystore_id: id(&asked)? })
}

fn enable(asked: Asked<Bodiless>) -> Result<EnableKeystore, Unfit> {
    Ok(EnableKeystore { keystore_id: id(&asked)? })
}

fn disable(asked: Asked<Bodiless>) -> Result<DisableKeystore, Unfit> {
    Ok(DisableKeystore { keystore_id: id(&asked)? })
}

/// An answer of one member, `keystore`.
#[derive(Serialize)]
struct Keystore<T> {
    keystore: T,
}

#[derive(Serialize)]
struct Created {
    keystore_id: String,
    domain_id: String,
}

#[derive(Serialize)]
struct Switched {
    keystore_id: String,
    keystore_state: &'static str,
}

#[derive(Serialize)]
struct Details {
    keystore_id: String,
    domain_id: String,
    keystore_alias: String,
    keystore_type: &'static str,
    hsm_cluster_id: String,
    create_time: String,
}

#[derive(Serialize)]
struct Listed {
    total: usize,
    keystores: Vec<Details>,
}

impl From<KeystoreRecord> for Details {
    fn from(record: KeystoreRecord) -> Self {
        Self {
            keystore_id: record.id.to_string(),
            domain_id: record.account.to_string(),
            keystore_alias: record.alias,
            keystore_type: KIND,
            hsm_cluster_id: record.id.to_string(),
            create_time: forms::milliseconds(record.created),
        }
    }
}

fn created(_: &Caller, record: KeystoreRecord) -> Json<Keystore<Created>> {
    let (keystore_id, domain_id) = (record.id.to_string(), record.account.to_string());
    Json(Keystore { keystore: Created { keystore_id, domain_id } })
}

/// The digits are those of keys. DEW: the example of a disabled one has 3.
fn switched(_: &Caller, record: KeystoreRecord) -> Json<Keystore<Switched>> {
    let keystore_state = match record.state {
        KeystoreState::Enabled => "2",
        KeystoreState::Disabled => "3",
    };
    Json(Keystore { keystore: Switched { keystore_id: record.id.to_string(), keystore_state } })
}

fn described(_: &Caller, record: KeystoreRecord) -> Json<Keystore<Details>> {
    Json(Keystore { keystore: record.into() })
}

fn listed(_: &Caller, list: KeystoreList) -> Json<Listed> {
    Json(Listed { total: list.total, keystores: list.keystores.into_iter().map(Into::into).collect() })
}
