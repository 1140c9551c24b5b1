//! `dewctl destroyed`: what remains of destroyed keys.

use kms_client::DestroyedKey;
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    output::{Failure, moment, show_all},
};

/// Shows what remains of keys whose deletion was due, of all accounts.
pub(crate) async fn run(connection: &ConnectionOptions, as_json: bool) -> Result<(), Failure> {
    let keys = connection.operator().await?.destroyed_keys().await?;
    let keys: Vec<Value> = keys.iter().map(described).collect();
    let columns = ["key_id", "final", "root_generation", "destroyed_at", "domain_id", "alias"];
    show_all(&keys, &columns, as_json)
}

fn described(key: &DestroyedKey) -> Value {
    json!({
        "key_id": key.key_id,
        "domain_id": key.domain_id,
        "alias": key.alias,
        "destroyed_at": moment(key.destroyed_at.map(|at| (at.seconds, at.nanos))),
        "root_generation": key.root_generation,
        "final": key.r#final,
    })
}
