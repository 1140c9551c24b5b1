//! `dewctl grant`: grants of keys to users and accounts.

use kms_client::{
    Client, Repeat,
    proto::{self, GrantOperation, grant_service_client::GrantServiceClient, grantee},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    key::name,
    output::{Failure, show, show_all},
    rotation::at,
};

/// What the names of operations in the contract begin with.
const OPERATION: &str = "GRANT_OPERATION_";
const COLUMNS: [&str; 5] = ["grant_id", "key_id", "grantee", "operations", "name"];

/// What to do about grants. KEY is a key's id, an alias or the URN of an alias.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum GrantCommand {
    /// Grant a key to a user or to a whole account
    #[command(group = clap::ArgGroup::new("grantee").required(true))]
    Create(CreateOptions),
    /// Show the grants of a key
    List {
        /// The key
        key: String,
    },
    /// Show the grants that the caller may retire
    Retirable,
    /// Give a grant up: as its creator, its retiring principal or its grantee
    Retire {
        /// The key; of another account by its id only
        key: String,
        /// The grant's id
        grant: String,
    },
    /// Take a grant away
    Revoke {
        /// The key
        key: String,
        /// The grant's id
        grant: String,
    },
}

/// A new grant.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateOptions {
    /// The key
    key: String,
    /// The id of the user that it is for
    #[arg(long, group = "grantee")]
    to_user: Option<String>,
    /// The id of the account that it is for
    #[arg(long, group = "grantee")]
    to_account: Option<String>,
    /// What it allows, as encrypt-datakey,decrypt-datakey
    #[arg(long, required = true, value_delimiter = ',', value_parser = parse_operation)]
    operations: Vec<GrantOperation>,
    /// A name for people
    #[arg(long, default_value = "")]
    name: String,
    /// The id of a user who may retire it besides
    #[arg(long, default_value = "")]
    retiring_principal: String,
}

macro_rules! call {
    ($client:expr, $repeat:expr, $method:ident, $request:expr) => {
        $client.call($repeat, $request, |channel, request| async move {
            GrantServiceClient::new(channel).$method(request).await
        })
    };
}

/// Runs one of them.
pub(crate) async fn run(
    command: &GrantCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    match command {
        GrantCommand::Create(options) => {
            let made = call!(client, Repeat::OnlyIfUndone, create_grant, options.request()).await?;
            show(&made.grant.map_or(Value::Null, |grant| described(&grant)), as_json)
        }
        GrantCommand::List { key } => show_all(&list(&client, key).await?, &COLUMNS, as_json),
        GrantCommand::Retirable => show_all(&retirable(&client).await?, &COLUMNS, as_json),
        GrantCommand::Retire { key, grant } => {
            let request = proto::RetireGrantRequest { key_id: key.clone(), grant_id: grant.clone() };
            call!(client, Repeat::OnlyIfUndone, retire_grant, request).await?;
            show(&json!({ "grant_id": grant }), as_json)
        }
        GrantCommand::Revoke { key, grant } => {
            let request = proto::RevokeGrantRequest { key_id: key.clone(), grant_id: grant.clone() };
            call!(client, Repeat::OnlyIfUndone, revoke_grant, request).await?;
            show(&json!({ "grant_id": grant }), as_json)
        }
    }
}

impl CreateOptions {
    fn request(&self) -> proto::CreateGrantRequest {
        let account = self.to_account.clone().map(grantee::Principal::DomainId);
        let principal = self.to_user.clone().map(grantee::Principal::UserId).or(account);
        proto::CreateGrantRequest {
            key_id: self.key.clone(),
            grantee: Some(proto::Grantee { principal }),
            operations: self.operations.iter().map(|operation| i32::from(*operation)).collect(),
            name: self.name.clone(),
            retiring_principal: self.retiring_principal.clone(),
            idempotency_token: String::new(),
        }
    }
}

async fn list(client: &Client, key: &str) -> Result<Vec<Value>, Failure> {
    let (mut grants, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListGrantsRequest { key_id: key.to_owned(), page_size: 0, page_token };
        let page = call!(client, Repeat::Harmless, list_grants, request).await?;
        grants.extend(page.grants.iter().map(described));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(grants);
        }
    }
}

async fn retirable(client: &Client) -> Result<Vec<Value>, Failure> {
    let (mut grants, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListRetirableGrantsRequest { page_size: 0, page_token };
        let page = call!(client, Repeat::Harmless, list_retirable_grants, request).await?;
        grants.extend(page.grants.iter().map(described));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(grants);
        }
    }
}

fn described(grant: &proto::Grant) -> Value {
    let grantee = grant.grantee.as_ref().and_then(|grantee| grantee.principal.as_ref());
    let operations = grant.operations().map(|operation| dashed(name(operation.as_str_name(), OPERATION)));
    json!({
        "grant_id": grant.grant_id,
        "key_id": grant.key_id,
        "grantee": match grantee {
            Some(grantee::Principal::UserId(user)) => json!({ "user_id": user }),
            Some(grantee::Principal::DomainId(account)) => json!({ "domain_id": account }),
            None => Value::Null,
        },
        "operations": operations.collect::<Vec<_>>(),
        "name": grant.name,
        "retiring_principal": grant.retiring_principal,
        "issuing_principal": grant.issuing_principal,
        "issuing_domain_id": grant.issuing_domain_id,
        "created_at": at(grant.created_at.as_ref()),
    })
}

/// An operation by DEW's name of it.
fn parse_operation(text: &str) -> Result<GrantOperation, String> {
    let wire = format!("{OPERATION}{}", text.to_uppercase().replace('-', "_"));
    let known = GrantOperation::from_str_name(&wire);
    known.ok_or_else(|| "is no operation that a grant can allow, as decrypt-datakey".to_owned())
}

fn dashed(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}
