//! `dewctl usage`: how the keys of all accounts were used.

use kms_client::UsedKey;
use serde_json::Value;

use crate::{
    connection::ConnectionOptions,
    key::name,
    output::{Failure, show_all},
    rotation::{at, used},
};

/// Shows how keys of all accounts were used.
pub(crate) async fn run(
    only_pending_deletion: bool,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let keys = connection.operator().await?.used_keys(only_pending_deletion).await?;
    let keys: Vec<Value> = keys.iter().map(described).collect();
    let columns = ["key_id", "domain_id", "alias", "state", "deletion_due_at", "last_used_at", "uses"];
    show_all(&keys, &columns, as_json)
}

fn described(key: &UsedKey) -> Value {
    let usage = key.usage.clone().unwrap_or_default();
    let of_version = usage.versions.iter().map(|version| {
        let counts = [version.data_keys, version.encryptions, version.decryptions, version.others];
        counts.into_iter().fold(0, u64::saturating_add)
    });
    let uses = of_version.fold(0, u64::saturating_add);
    let state = match key.destroyed_at {
        Some(_) => "DESTROYED",
        None => name(key.state().as_str_name(), "KEY_STATE_"),
    };
    let mut shown = used(&usage);
    shown["domain_id"] = key.domain_id.clone().into();
    shown["region"] = key.region.clone().into();
    shown["alias"] = key.alias.clone().into();
    shown["state"] = state.into();
    shown["deletion_due_at"] = at(key.deletion_due_at.as_ref());
    shown["destroyed_at"] = at(key.destroyed_at.as_ref());
    shown["uses"] = uses.into();
    shown
}
