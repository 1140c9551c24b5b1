//! `dewctl usage`: how the keys of all accounts were used, or what billing would need.

use kms_client::UsedKey;
use serde_json::Value;

use crate::{
    connection::ConnectionOptions,
    key::name,
    metering::{self, MeteringOptions},
    output::{Failure, show_all},
    rotation::{at, used},
};

/// Which of both, and of what.
#[derive(Debug, clap::Args)]
pub(crate) struct UsageOptions {
    /// Only keys that wait for their deletion
    #[arg(long, conflicts_with_all = ["directories", "from_server"])]
    pending_deletion: bool,
    #[command(flatten)]
    metering: MeteringOptions,
}

/// Shows it.
pub(crate) async fn run(
    options: &UsageOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    if options.metering.is_asked_for() {
        metering::run(&options.metering, connection, as_json).await
    } else {
        show_keys(options.pending_deletion, connection, as_json).await
    }
}

async fn show_keys(
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
