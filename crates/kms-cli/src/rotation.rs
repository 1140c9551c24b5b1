//! `dewctl rotation`: how keys are rotated. `dewctl key usage`: how they were used.

use kms_client::{
    Client, Repeat,
    proto::{self, rotation_service_client::RotationServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    input::key_reference,
    key::{described, name},
    output::{Failure, moment, show},
};

/// What to do about the rotation of a key. KEY is its id; status takes an alias, too.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RotationCommand {
    /// Rotate a key by time from now on
    Enable {
        /// Its id
        key: String,
        /// How often, 30 to 365
        #[arg(long, default_value_t = 365)]
        days: u32,
    },
    /// Do not rotate a key by time any more
    Disable {
        /// Its id
        key: String,
    },
    /// Change how often a key is rotated; the next time is one interval from now
    SetInterval {
        /// Its id
        key: String,
        /// How often, 30 to 365
        days: u32,
    },
    /// Show how a key is rotated, and its versions
    Status {
        /// Its id or alias
        key: String,
    },
    /// Rotate a key now
    Now {
        /// Its id
        key: String,
        /// Only if this version is current: makes a retry safe
        #[arg(long, default_value_t = 0)]
        from_version: u32,
    },
}

macro_rules! call {
    ($client:expr, $repeat:expr, $method:ident, $request:expr) => {
        $client.call($repeat, $request, |channel, request| async move {
            RotationServiceClient::new(channel).$method(request).await
        })
    };
}

/// Runs one of them.
pub(crate) async fn run(
    command: &RotationCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let key = match command {
        RotationCommand::Status { key } => return status(&client, key, as_json).await,
        RotationCommand::Enable { key, days } => {
            let request = proto::EnableKeyRotationRequest { key_id: key.clone(), interval_days: *days };
            call!(client, Repeat::OnlyIfUndone, enable_key_rotation, request).await?.key
        }
        RotationCommand::Disable { key } => {
            let request = proto::DisableKeyRotationRequest { key_id: key.clone() };
            call!(client, Repeat::OnlyIfUndone, disable_key_rotation, request).await?.key
        }
        RotationCommand::SetInterval { key, days } => {
            let request = proto::UpdateRotationIntervalRequest { key_id: key.clone(), interval_days: *days };
            call!(client, Repeat::OnlyIfUndone, update_rotation_interval, request).await?.key
        }
        RotationCommand::Now { key, from_version } => {
            let request =
                proto::RotateKeyOnDemandRequest { key_id: key.clone(), from_version: *from_version };
            call!(client, Repeat::OnlyIfUndone, rotate_key_on_demand, request).await?.key
        }
    };
    show(&key.map_or(Value::Null, |key| described(&key)), as_json)
}

async fn status(client: &Client, key: &str, as_json: bool) -> Result<(), Failure> {
    let request = proto::GetRotationStatusRequest {
        key: Some(proto::KeyReference { reference: Some(key_reference(key)) }),
    };
    let status = call!(client, Repeat::Harmless, get_rotation_status, request).await?;
    let versions = status.versions.iter().map(|version| {
        json!({
            "number": version.number,
            "state": name(version.state().as_str_name(), "KEY_VERSION_STATE_"),
            "created_at": at(version.created_at.as_ref()),
        })
    });
    let shown = json!({
        "key_id": status.key_id,
        "enabled": status.enabled,
        "interval_days": status.interval_days,
        "next_rotation_at": at(status.next_rotation_at.as_ref()),
        "last_rotation_at": at(status.last_rotation_at.as_ref()),
        "rotations": status.rotations,
        "versions": versions.collect::<Vec<_>>(),
    });
    show(&shown, as_json)
}

/// How a key was used, as it is shown.
pub(crate) fn used(usage: &proto::KeyUse) -> Value {
    let versions = usage.versions.iter().map(|version| {
        json!({
            "number": version.number,
            "data_keys": version.data_keys,
            "encryptions": version.encryptions,
            "decryptions": version.decryptions,
            "others": version.others,
            "moved_in": version.moved_in,
            "moved_out": version.moved_out,
            "last_used_at": at(version.last_used_at.as_ref()),
        })
    });
    json!({
        "key_id": usage.key_id,
        "last_used_at": at(usage.last_used_at.as_ref()),
        "versions": versions.collect::<Vec<_>>(),
        "unknown_before": at(usage.unknown_before.as_ref()),
    })
}

pub(crate) fn at(moment_of: Option<&prost_types::Timestamp>) -> Value {
    moment(moment_of.map(|at| (at.seconds, at.nanos)))
}
