//! The rotation of keys, and keys in several regions.

use http::Method;
use kms_core::{
    Error,
    error::Field,
    identity::{Caller, ProjectId, Region},
    key::{KeyId, KeyRecord},
    ops::{
        Description, DisableKeyRotation, EnableKeyRotation, GetRotationStatus, KeySelector,
        ListSupportedRegions, ListWindow, ReplicateKey, RotateKeyOnDemand, RotationInterval,
        UpdatePrimaryRegion, UpdateRotationInterval,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    keys::KeyBody,
    tags::{self, Tag},
};
use crate::dew::{
    answer::{Json, Nothing},
    codes::{Code, Unfit},
    forms::{self, Scalar},
    json::Object,
    routes::{Asked, Bodiless, Row, keeping, row},
};

/// The state of material that can be used. DEW: key_materials; 0 is material that waits, which no key here has.
const MATERIAL_ENABLED: u32 = 2;

pub(super) fn rows() -> Vec<Row> {
    let post = Method::POST;
    vec![
        row(post.clone(), "/v1.0/{project_id}/kms/enable-key-rotation", enable, done),
        row(post.clone(), "/v1.0/{project_id}/kms/disable-key-rotation", disable, done),
        row(post.clone(), "/v1.0/{project_id}/kms/update-key-rotation-interval", update, done),
        row(post.clone(), "/v1.0/{project_id}/kms/get-key-rotation-status", status, told),
        row(post.clone(), "/v1.0/{project_id}/kms/rotate-on-demand", rotate, rotated),
        row(post, "/v2/{project_id}/kms/keys/{key_id}/replicate", replicate, replicated),
        row(Method::PUT, "/v2/{project_id}/kms/keys/{key_id}/update-primary-region", move_primary, moved),
        keeping(Method::GET, "/v2/{project_id}/kms/regions", regions, listed),
    ]
}

#[derive(Deserialize)]
struct IntervalBody {
    key_id: Option<Scalar>,
    rotation_interval: Option<Scalar>,
}

#[derive(Deserialize)]
struct ReplicateBody {
    key_id: Option<Scalar>,
    replica_region: Option<Scalar>,
    key_alias: Option<Scalar>,
    key_description: Option<Scalar>,
    enterprise_project_id: Option<Scalar>,
    replica_project_id: Option<Scalar>,
    tags: Option<Vec<Object<Tag>>>,
}

#[derive(Deserialize)]
struct PrimaryBody {
    key_id: Option<Scalar>,
    primary_region: Option<Scalar>,
}

fn enable(asked: Asked<KeyBody>) -> Result<EnableKeyRotation, Unfit> {
    Ok(EnableKeyRotation { key: forms::key_id(asked.body.key_id)?, interval: RotationInterval::DEFAULT })
}

fn disable(asked: Asked<KeyBody>) -> Result<DisableKeyRotation, Unfit> {
    Ok(DisableKeyRotation { key: forms::key_id(asked.body.key_id)? })
}

fn update(asked: Asked<IntervalBody>) -> Result<UpdateRotationInterval, Unfit> {
    let key = forms::key_id(asked.body.key_id)?;
    let days = forms::required(asked.body.rotation_interval, Field::IntervalDays)?;
    let days = forms::number(days.as_str()).unwrap_or(0); // is out of range
    Ok(UpdateRotationInterval { key, interval: RotationInterval::parse(days)? })
}

fn status(asked: Asked<KeyBody>) -> Result<GetRotationStatus, Unfit> {
    Ok(GetRotationStatus { key: forms::key_id(asked.body.key_id)? })
}

fn rotate(asked: Asked<KeyBody>) -> Result<RotateKeyOnDemand, Unfit> {
    Ok(RotateKeyOnDemand { key: forms::key_id(asked.body.key_id)?, from_version: None })
}

/// The key of the path, which the body names, too. DEW: key_id of both.
fn key<B>(asked: &Asked<B>, again: fn(&B) -> Option<&Scalar>) -> Result<KeySelector, Unfit> {
    let key: KeyId = asked.parameter("key_id").unwrap_or_default().parse()?;
    let again = forms::text(again(&asked.body));
    if again.is_empty() || again.parse() == Ok(key) {
        return Ok(KeySelector::Id(key));
    }
    Err(Error::invalid(Field::KeyId, "must be the same in the path and in the body").into())
}

fn region(value: Option<Scalar>, field: Field) -> Result<Region, Unfit> {
    let name = forms::required(value, field)?;
    Ok(Region::parse(name.as_str()).ok_or(Error::invalid(field, "must be the name of a region"))?)
}

fn replicate(asked: Asked<ReplicateBody>) -> Result<ReplicateKey, Unfit> {
    let key = key(&asked, |body| body.key_id.as_ref())?;
    let body = asked.body;
    forms::own_enterprise_project(body.enterprise_project_id.as_ref())?;
    let project = forms::required(body.replica_project_id, Field::ReplicaProject)?;
    let project = ProjectId::parse(project.as_str());
    Ok(ReplicateKey {
        key,
        region: region(body.replica_region, Field::ReplicaRegion)?,
        project: Some(project.ok_or(Error::invalid(Field::ReplicaProject, "must be the id of a project"))?),
        alias: forms::alias(body.key_alias)?,
        description: Description::parse(forms::text(body.key_description.as_ref()))?,
        tags: tags::tags(body.tags.as_deref().unwrap_or_default())?,
        idempotency_token: None,
    })
}

fn move_primary(asked: Asked<PrimaryBody>) -> Result<UpdatePrimaryRegion, Unfit> {
    Ok(UpdatePrimaryRegion {
        key: key(&asked, |body| body.key_id.as_ref())?,
        region: region(asked.body.primary_region, Field::PrimaryRegion)?,
    })
}

fn regions(asked: Asked<Bodiless>) -> Result<(ListSupportedRegions, ListWindow), Unfit> {
    let parameter = |name| asked.parameter(name).unwrap_or_default();
    let window = forms::counted_window(parameter("limit"), parameter("offset"), Code::OFFSET_INVALID)?;
    Ok((ListSupportedRegions, window))
}

#[derive(Serialize)]
struct RotationStatus {
    key_rotation_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_interval: Option<u32>,
    last_rotation_time: String,
    number_of_rotations: u32,
    key_materials: Vec<Material>,
}

/// A version of a key.
#[derive(Serialize)]
struct Material {
    material_id: String,
    create_time: String,
    expiration_time: String,
    state: u32,
}

#[derive(Serialize)]
struct Rotated {
    key_id: String,
}

#[derive(Serialize)]
struct Replicated {
    key_id: String,
    domain_id: String,
    region: String,
}

#[derive(Serialize)]
struct Moved {
    key_id: String,
    primary_region: String,
}

#[derive(Serialize)]
struct Regions {
    regions: Vec<String>,
}

fn done(_: &Caller, _: KeyRecord) -> Nothing {
    Nothing
}

fn told(_: &Caller, key: KeyRecord) -> Json<RotationStatus> {
    let expires = forms::optional_milliseconds(key.import.as_ref().and_then(|import| import.expires));
    let materials = key.versions.iter().map(|version| Material {
        material_id: version.number.to_string(),
        create_time: forms::milliseconds(version.created),
        expiration_time: expires.clone(),
        state: MATERIAL_ENABLED,
    });
    let current = key.current_version();
    let rotated = current.filter(|_| key.versions.len() > 1);
    Json(RotationStatus {
        key_rotation_enabled: key.rotation.is_some(),
        rotation_interval: key.rotation.as_ref().map(|policy| policy.interval_days),
        last_rotation_time: forms::optional_milliseconds(rotated.map(|version| version.created)),
        number_of_rotations: current.map_or(0, |version| version.number.saturating_sub(1)),
        key_materials: materials.collect(),
    })
}

fn rotated(_: &Caller, key: KeyRecord) -> Json<Rotated> {
    Json(Rotated { key_id: key.id.to_string() })
}

fn replicated(_: &Caller, key: KeyRecord) -> Json<Replicated> {
    let region = key.region().map_or_else(String::new, ToString::to_string);
    Json(Replicated { key_id: key.id.to_string(), domain_id: key.account.to_string(), region })
}

fn moved(_: &Caller, key: KeyRecord) -> Json<Moved> {
    let primary = key
        .replication
        .as_ref()
        .and_then(|shared| shared.members.iter().find(|member| member.key_id == shared.primary));
    let primary_region = primary.map_or_else(String::new, |member| member.region.to_string());
    Json(Moved { key_id: key.id.to_string(), primary_region })
}

fn listed(window: ListWindow, _: &Caller, regions: Vec<Region>) -> Json<Regions> {
    Json(Regions { regions: window.of(regions).iter().map(ToString::to_string).collect() })
}

#[cfg(test)]
mod tests {
    use kms_core::operation::OperationName;
    use serde_json::json;

    use super::*;

    const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
    const OTHER: &str = "1d0466b0-e727-4d9c-b35d-f84bb474a37f";

    #[test]
    fn a_key_is_the_same_in_the_path_and_in_the_body() {
        for (named, refused) in [
            (json!(null), None),
            (json!(""), None),
            (json!(KEY), None),
            (json!(OTHER), Some(Code::KEY_ID_INVALID)),
            (json!("an-alias"), Some(Code::KEY_ID_INVALID)),
        ] {
            let body = json!({
                "key_id": named, "replica_region": "r", "replica_project_id": "p", "key_alias": "a",
                "primary_region": "r",
            });
            let unfit = replicate(Asked::of(body.clone()).with("key_id", KEY)).err();
            assert_eq!(unfit.map(|unfit| unfit.code(OperationName::ReplicateKey)), refused, "{named}");
            let unfit = move_primary(Asked::of(body).with("key_id", KEY)).err();
            assert_eq!(unfit.map(|unfit| unfit.code(OperationName::UpdatePrimaryRegion)), refused, "{named}");
        }
    }
}
