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
    show(&json!({ "digest": hex::encode(&reloaded.digest), "users": reloaded.users }), as_json)
}
