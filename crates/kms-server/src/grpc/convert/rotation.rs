//! Conversions of the rotation of keys.

use kms_core::{
    Error,
    key::KeyRecord,
    ops::{
        DisableKeyRotation, EnableKeyRotation, GetRotationStatus, KeySelector, RotateKeyOnDemand,
        RotationInterval, UpdateRotationInterval,
    },
};
use kms_proto::v1;

use super::{protection, required_key, time};

pub(crate) fn enable_key_rotation(request: v1::EnableKeyRotationRequest) -> Result<EnableKeyRotation, Error> {
    let interval = match request.interval_days {
        0 => RotationInterval::DEFAULT,
        days => RotationInterval::parse(days)?,
    };
    Ok(EnableKeyRotation { key: KeySelector::parse(&request.key_id)?, interval })
}

pub(crate) fn disable_key_rotation(
    request: v1::DisableKeyRotationRequest,
) -> Result<DisableKeyRotation, Error> {
    Ok(DisableKeyRotation { key: KeySelector::parse(&request.key_id)? })
}

pub(crate) fn update_rotation_interval(
    request: v1::UpdateRotationIntervalRequest,
) -> Result<UpdateRotationInterval, Error> {
    let interval = RotationInterval::parse(request.interval_days)?;
    Ok(UpdateRotationInterval { key: KeySelector::parse(&request.key_id)?, interval })
}

pub(crate) fn get_rotation_status(request: v1::GetRotationStatusRequest) -> Result<GetRotationStatus, Error> {
    Ok(GetRotationStatus { key: required_key(request.key)? })
}

pub(crate) fn rotate_key_on_demand(
    request: v1::RotateKeyOnDemandRequest,
) -> Result<RotateKeyOnDemand, Error> {
    let from_version = (request.from_version != 0).then_some(request.from_version);
    Ok(RotateKeyOnDemand { key: KeySelector::parse(&request.key_id)?, from_version })
}

/// When a key will be rotated by time.
pub(crate) fn next_rotation(record: &KeyRecord) -> Option<prost_types::Timestamp> {
    record.rotation.as_ref().map(|policy| time(policy.next))
}

/// How a key is rotated; `budget` is how often a version may seal in the HSM.
pub(crate) fn rotation_status(record: &KeyRecord, budget: u64) -> v1::GetRotationStatusResponse {
    let current = record.current_version().map(|version| version.number);
    let rotated = record.current_version().filter(|_| record.versions.len() > 1);
    let versions = record.versions.iter().map(|version| v1::KeyVersion {
        number: version.number,
        created_at: Some(time(version.created)),
        state: if current == Some(version.number) {
            v1::KeyVersionState::Current
        } else {
            v1::KeyVersionState::Earlier
        }
        .into(),
        protection: Some(protection(version, budget)),
    });
    v1::GetRotationStatusResponse {
        key_id: record.id.to_string(),
        enabled: record.rotation.is_some(),
        interval_days: record.rotation.as_ref().map_or(0, |policy| policy.interval_days),
        next_rotation_at: next_rotation(record),
        last_rotation_at: rotated.map(|version| time(version.created)),
        rotations: current.map_or(0, |number| number.saturating_sub(1)),
        versions: versions.collect(),
    }
}
