//! `dewctl key`: what an operator may know of keys.

use kms_client::DestroyedKey;
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    moment,
    output::{Failure, print},
};

/// What to ask about keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Show what remains of keys whose deletion was due, of all accounts
    ///
    /// A destruction is final when the root keys that wrapped the material are destroyed, too: until then, who has the
    /// token and an old backup can open it. `dewctl root rotate` ends that.
    Destroyed,
}

/// Runs one of them.
pub(crate) async fn run(
    command: &KeyCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let KeyCommand::Destroyed = command;
    let keys = connection.operator().await?.destroyed_keys().await?;
    print(&if as_json {
        format!("{:#}", json!({"keys": keys.iter().map(described).collect::<Vec<_>>()}))
    } else {
        table(&keys)
    })
}

fn described(key: &DestroyedKey) -> Value {
    json!({
        "key_id": key.key_id,
        "domain_id": key.domain_id,
        "alias": key.alias,
        "destroyed_at": destroyed_at(key),
        "root_generation": key.root_generation,
        "final": key.r#final,
    })
}

fn table(keys: &[DestroyedKey]) -> String {
    let mut lines =
        vec![format!("{:36}  {:5}  {:4}  {:20}  ACCOUNT  ALIAS", "KEY", "FINAL", "ROOT", "DESTROYED")];
    for key in keys {
        let is_final = if key.r#final { "yes" } else { "no" };
        lines.push(format!(
            "{:36}  {is_final:5}  {:4}  {:20}  {}  {}",
            key.key_id,
            key.root_generation,
            destroyed_at(key),
            key.domain_id,
            key.alias
        ));
    }
    lines.join("\n")
}

fn destroyed_at(key: &DestroyedKey) -> String {
    moment::of(key.destroyed_at.map(|at| at.seconds))
}
