//! Conversions of keys in several regions.

use kms_core::{
    Error,
    error::Field,
    identity::{ProjectId, Region},
    ops::{Alias, Description, KeySelector, ReplicateKey, Tags, UpdatePrimaryRegion},
};
use kms_proto::v1;

use super::idempotency_token;

pub(crate) fn replicate_key(request: v1::ReplicateKeyRequest) -> Result<ReplicateKey, Error> {
    let project = match request.replica_project_id.as_str() {
        "" => None,
        id => Some(
            ProjectId::parse(id).ok_or(Error::invalid(Field::ReplicaProject, "must be a project's id"))?,
        ),
    };
    Ok(ReplicateKey {
        key: KeySelector::parse(&request.key_id)?,
        region: region(Field::ReplicaRegion, &request.replica_region)?,
        project,
        alias: Alias::parse(&request.alias)?,
        description: Description::parse(&request.description)?,
        tags: Tags::parse(request.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())))?,
        idempotency_token: idempotency_token(&request.idempotency_token)?,
    })
}

pub(crate) fn update_primary_region(
    request: v1::UpdatePrimaryRegionRequest,
) -> Result<UpdatePrimaryRegion, Error> {
    Ok(UpdatePrimaryRegion {
        key: KeySelector::parse(&request.key_id)?,
        region: region(Field::PrimaryRegion, &request.primary_region)?,
    })
}

fn region(field: Field, name: &str) -> Result<Region, Error> {
    Region::parse(name).ok_or(Error::invalid(field, "must be the name of a region"))
}
