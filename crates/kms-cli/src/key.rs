//! `dewctl key`: customer master keys and their life cycle.

use std::collections::HashMap;

use kms_client::{
    Client, CreateKeyRequest, Key, KeySpec, KeyState, ListKeysRequest, Repeat,
    proto::{self, key_service_client::KeyServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    input::{key_reference, pair},
    output::{Failure, moment, show, show_all},
    rotation::used,
};

/// What to do with master keys. KEY is an id or an alias.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key
    Create(CreateOptions),
    /// Show a key
    Describe {
        /// Its id, its alias, or a default key as obs/default
        key: String,
    },
    /// Show when a key was last used, and how often each version was
    Usage {
        /// Its id or alias
        key: String,
    },
    /// Show all keys of the region
    List {
        /// Only keys in this state, as ENABLED
        #[arg(long, value_parser = state)]
        state: Option<KeyState>,
        /// Only keys of this kind, as AES_256
        #[arg(long, value_parser = spec)]
        spec: Option<KeySpec>,
    },
    /// Let a disabled key be used again
    Enable {
        /// Its id or alias
        key: String,
    },
    /// Refuse all use of a key from now on
    Disable {
        /// Its id or alias
        key: String,
    },
    /// Let a key be destroyed after a waiting time
    ///
    /// Until then it refuses all use, and the deletion can be cancelled. After it nothing that the key sealed can be
    /// opened again.
    ScheduleDeletion {
        /// Its id or alias
        key: String,
        /// The waiting time, 7 to 1096
        #[arg(long, default_value_t = 30)]
        days: u32,
    },
    /// Keep a key that waits for its deletion; it is disabled then
    CancelDeletion {
        /// Its id or alias
        key: String,
    },
    /// Give a key another name
    SetAlias {
        /// Its id or alias
        key: String,
        /// The new one: 1 to 255 of A-Z a-z 0-9 : / _ -
        alias: String,
    },
    /// Describe a key anew
    SetDescription {
        /// Its id or alias
        key: String,
        /// 0 to 255 characters
        description: String,
    },
}

/// What a new key is.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateOptions {
    /// Its name: 1 to 255 of A-Z a-z 0-9 : / _ -
    alias: String,
    /// What it is for, in words
    #[arg(long, default_value = "")]
    description: String,
    /// Its kind, as AES_256, SM4, RSA_3072, EC_P256, SM2, ED25519 or HMAC_256
    #[arg(long, default_value = "AES_256", value_parser = spec)]
    spec: KeySpec,
    /// ENCRYPT_DECRYPT, SIGN_VERIFY, GENERATE_VERIFY_MAC or KEY_AGREEMENT; without it, what its kind is mostly for
    #[arg(long, value_parser = usage)]
    usage: Option<proto::KeyUsage>,
    /// Make it without material, which is to be imported
    #[arg(long)]
    external: bool,
    /// The keystore that it lives on
    #[arg(long, default_value = "")]
    keystore: String,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Makes a retry of the same command answer the first one's key
    #[arg(long, default_value = "")]
    idempotency_token: String,
}

/// Runs one of them.
pub(crate) async fn run(
    command: &KeyCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let key = match command {
        KeyCommand::List { state, spec } => return list(&client, *state, *spec, as_json).await,
        KeyCommand::Create(options) => client.create_key(options.request()).await?,
        KeyCommand::Describe { key } => client.describe_key(&key_reference(key)).await?,
        KeyCommand::Enable { key } => client.enable_key(key).await?,
        KeyCommand::Disable { key } => client.disable_key(key).await?,
        KeyCommand::Usage { key } => return show_usage(&client, key, as_json).await,
        KeyCommand::ScheduleDeletion { key, days } => {
            let (key, usage) = client.schedule_key_deletion_with_usage(key, *days).await?;
            let mut shown = described(&key);
            shown["usage"] = used(&usage);
            return show(&shown, as_json);
        }
        KeyCommand::CancelDeletion { key } => client.cancel_key_deletion(key).await?,
        KeyCommand::SetAlias { key, alias } => client.update_key_alias(key, alias).await?,
        KeyCommand::SetDescription { key, description } => {
            client.update_key_description(key, description).await?
        }
    };
    show(&described(&key), as_json)
}

async fn show_usage(client: &Client, key: &str, as_json: bool) -> Result<(), Failure> {
    let request = proto::DescribeKeyUsageRequest {
        key: Some(proto::KeyReference { reference: Some(key_reference(key)) }),
    };
    let answer = client.call(Repeat::Harmless, request, |channel, request| async move {
        KeyServiceClient::new(channel).describe_key_usage(request).await
    });
    show(&used(&answer.await?.usage.unwrap_or_default()), as_json)
}

impl CreateOptions {
    fn request(&self) -> CreateKeyRequest {
        let origin = if self.external { proto::KeyOrigin::External } else { proto::KeyOrigin::Kms };
        CreateKeyRequest {
            alias: self.alias.clone(),
            description: self.description.clone(),
            key_spec: self.spec.into(),
            idempotency_token: self.idempotency_token.clone(),
            key_usage: self.usage.unwrap_or_default().into(),
            origin: origin.into(),
            keystore_id: self.keystore.clone(),
            tags: self.tags.iter().cloned().collect::<HashMap<_, _>>(),
        }
    }
}

async fn list(
    client: &Client,
    state: Option<KeyState>,
    spec: Option<KeySpec>,
    as_json: bool,
) -> Result<(), Failure> {
    let (mut keys, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = client.list_keys(ListKeysRequest {
            page_size: 1000,
            page_token,
            state: state.unwrap_or_default().into(),
            key_spec: spec.unwrap_or_default().into(),
        });
        let page = page.await?;
        keys.extend(page.keys.iter().map(described));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return show_all(&keys, &["key_id", "alias", "key_spec", "state", "created_at"], as_json);
        }
    }
}

/// A key as it is shown.
pub(crate) fn described(key: &Key) -> Value {
    let protection = key.protection.as_ref().map(|protection| {
        json!({
            "cipher": name(protection.cipher().as_str_name(), "CIPHER_PLACE_"),
            "root_generation": protection.root_generation,
            "budget": protection.budget,
            "reserved_uses": protection.reserved_uses,
        })
    });
    let at = |moment_of: Option<&prost_types::Timestamp>| moment(moment_of.map(|at| (at.seconds, at.nanos)));
    json!({
        "key_id": key.key_id,
        "alias": key.alias,
        "aliases": key.aliases,
        "description": key.description,
        "key_spec": name(key.key_spec().as_str_name(), "KEY_SPEC_"),
        "key_usage": name(key.key_usage().as_str_name(), "KEY_USAGE_"),
        "origin": name(key.origin().as_str_name(), "KEY_ORIGIN_"),
        "state": name(key.state().as_str_name(), "KEY_STATE_"),
        "domain_id": key.domain_id,
        "region": key.region,
        "project_id": key.project_id,
        "default_for_service": key.default_for_service,
        "keystore_id": key.keystore_id,
        "current_version": key.current_version,
        "created_at": at(key.created_at.as_ref()),
        "deletion_due_at": at(key.deletion_due_at.as_ref()),
        "rotation_enabled": key.rotation_enabled,
        "material_expires_at": at(key.material_expires_at.as_ref()),
        "primary_key_id": key.primary_key_id,
        "replicas": key.replicas.iter().map(|replica| {
            json!({ "region": replica.region, "key_id": replica.key_id })
        }).collect::<Vec<_>>(),
        "tags": key.tags,
        "protection": protection,
    })
}

/// A name of the contract without its prefix.
pub(crate) fn name<'a>(whole: &'a str, prefix: &str) -> &'a str {
    whole.strip_prefix(prefix).unwrap_or(whole)
}

/// Reads a name of the contract without its prefix; `UNSPECIFIED` is none.
pub(crate) fn named<T>(text: &str, prefix: &str, read: fn(&str) -> Option<T>) -> Result<T, String> {
    let found = if text == "UNSPECIFIED" { None } else { read(&format!("{prefix}{text}")) };
    found.ok_or_else(|| format!("is no {}", prefix.trim_end_matches('_').to_lowercase().replace('_', " ")))
}

pub(crate) fn spec(text: &str) -> Result<KeySpec, String> {
    named(text, "KEY_SPEC_", KeySpec::from_str_name)
}

fn usage(text: &str) -> Result<proto::KeyUsage, String> {
    named(text, "KEY_USAGE_", proto::KeyUsage::from_str_name)
}

fn state(text: &str) -> Result<KeyState, String> {
    named(text, "KEY_STATE_", KeyState::from_str_name)
}
