//! `dewctl replica`: keys of other regions that share a key's material.

use std::collections::HashMap;

use kms_client::{
    Repeat,
    proto::{self, replication_service_client::ReplicationServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    input::pair,
    key::described,
    output::{Failure, show},
};

/// What to do about a key's replicas. KEY is the primary: its id or alias; call with a --project of its region.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ReplicaCommand {
    /// Make a key in another region that opens what this one seals, and the other way round
    Create(CreateOptions),
    /// Make another region's replica the primary: the key that is rotated and replicated
    Promote {
        /// The primary's id or alias
        key: String,
        /// Where the next primary is
        #[arg(long)]
        region: String,
    },
    /// Show the regions that the account has projects in
    Regions,
}

/// What a new replica is.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateOptions {
    /// The primary's id or alias
    key: String,
    /// Where the replica is to be valid
    #[arg(long)]
    region: String,
    /// Its name there: 1 to 255 of A-Z a-z 0-9 : / _ -
    #[arg(long)]
    alias: String,
    /// The project that it is to belong to; without it, the account's first one in the region
    #[arg(long, default_value = "", value_name = "PROJECT_ID")]
    replica_project: String,
    /// What it is for, in words
    #[arg(long, default_value = "")]
    description: String,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Makes a retry of the same command answer the first one's key
    #[arg(long, default_value = "")]
    idempotency_token: String,
}

macro_rules! call {
    ($client:expr, $repeat:expr, $method:ident, $request:expr) => {
        $client.call($repeat, $request, |channel, request| async move {
            ReplicationServiceClient::new(channel).$method(request).await
        })
    };
}

/// Runs one of them.
pub(crate) async fn run(
    command: &ReplicaCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let key = match command {
        ReplicaCommand::Create(options) => {
            let request = options.request();
            let harmless = !request.idempotency_token.is_empty();
            let repeat = if harmless { Repeat::Harmless } else { Repeat::OnlyIfUndone };
            call!(client, repeat, replicate_key, request).await?.key
        }
        ReplicaCommand::Promote { key, region } => {
            let request =
                proto::UpdatePrimaryRegionRequest { key_id: key.clone(), primary_region: region.clone() };
            call!(client, Repeat::OnlyIfUndone, update_primary_region, request).await?.key
        }
        ReplicaCommand::Regions => {
            let request = proto::ListSupportedRegionsRequest {};
            let found = call!(client, Repeat::Harmless, list_supported_regions, request).await?;
            return show(&json!({ "regions": found.regions }), as_json);
        }
    };
    show(&key.map_or(Value::Null, |key| described(&key)), as_json)
}

impl CreateOptions {
    fn request(&self) -> proto::ReplicateKeyRequest {
        proto::ReplicateKeyRequest {
            key_id: self.key.clone(),
            replica_region: self.region.clone(),
            replica_project_id: self.replica_project.clone(),
            alias: self.alias.clone(),
            description: self.description.clone(),
            tags: self.tags.iter().cloned().collect::<HashMap<_, _>>(),
            idempotency_token: self.idempotency_token.clone(),
        }
    }
}
