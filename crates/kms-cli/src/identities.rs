//! `dewctl identities`: who may call.

use serde_json::json;

use crate::{
    connection::ConnectionOptions,
    output::{Failure, show},
};

/// What to do about the identities of the service.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum IdentitiesCommand {
    /// Have the file of identities read anew; a file that cannot be used changes nothing
    Reload,
}

/// Runs one of them.
pub(crate) async fn run(
    command: &IdentitiesCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let IdentitiesCommand::Reload = command;
    let reloaded = connection.operator().await?.reload_identities().await?;
    let digest = reloaded.digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    show(&json!({ "digest": digest, "users": reloaded.users }), as_json)
}
