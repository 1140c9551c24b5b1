//! `dewctl keystore`: HSMs that an account has for keys of its own.

use kms_client::{
    Client, Repeat,
    proto::{self, Keystore, keystore_service_client::KeystoreServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    key::name,
    output::{Failure, show, show_all},
    rotation::at,
};

/// How many keystores one call lists.
const PAGE: u32 = 1000;

/// What to do with keystores. ID is the name of a token in the service's configuration.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeystoreCommand {
    /// Take a configured token for the account's own keys; it is disabled at first
    Create {
        /// Its id
        id: String,
        /// A name for it: 1 to 255 of A-Z a-z 0-9 : / _ -
        alias: String,
    },
    /// Give up a keystore that no key lives on
    Delete {
        /// Its id
        id: String,
    },
    /// Let keys live on it and be used
    Enable {
        /// Its id
        id: String,
    },
    /// Refuse all use of its keys from now on
    Disable {
        /// Its id
        id: String,
    },
    /// Show a keystore
    Describe {
        /// Its id
        id: String,
    },
    /// Show all keystores of the account
    List,
}

macro_rules! call {
    ($client:expr, $repeat:expr, $method:ident, $request:expr) => {
        $client.call($repeat, $request, |channel, request| async move {
            KeystoreServiceClient::new(channel).$method(request).await
        })
    };
}

/// Runs one of them.
pub(crate) async fn run(
    command: &KeystoreCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let keystore = match command {
        KeystoreCommand::Create { id, alias } => {
            let request = proto::CreateKeystoreRequest { keystore_id: id.clone(), alias: alias.clone() };
            call!(client, Repeat::OnlyIfUndone, create_keystore, request).await?.keystore
        }
        KeystoreCommand::Delete { id } => {
            let request = proto::DeleteKeystoreRequest { keystore_id: id.clone() };
            call!(client, Repeat::OnlyIfUndone, delete_keystore, request).await?;
            return show(&json!({ "deleted": id }), as_json);
        }
        KeystoreCommand::Enable { id } => {
            let request = proto::EnableKeystoreRequest { keystore_id: id.clone() };
            call!(client, Repeat::OnlyIfUndone, enable_keystore, request).await?.keystore
        }
        KeystoreCommand::Disable { id } => {
            let request = proto::DisableKeystoreRequest { keystore_id: id.clone() };
            call!(client, Repeat::OnlyIfUndone, disable_keystore, request).await?.keystore
        }
        KeystoreCommand::Describe { id } => {
            let request = proto::DescribeKeystoreRequest { keystore_id: id.clone() };
            call!(client, Repeat::Harmless, describe_keystore, request).await?.keystore
        }
        KeystoreCommand::List => return list(&client, as_json).await,
    };
    show(&keystore.map_or(Value::Null, |keystore| described(&keystore)), as_json)
}

async fn list(client: &Client, as_json: bool) -> Result<(), Failure> {
    let (mut keystores, mut offset) = (Vec::new(), 0);
    loop {
        let request = proto::ListKeystoresRequest { limit: PAGE, offset };
        let page = call!(client, Repeat::Harmless, list_keystores, request).await?;
        offset = offset.saturating_add(PAGE);
        keystores.extend(page.keystores.iter().map(described));
        if page.keystores.is_empty() || offset >= page.total {
            return show_all(&keystores, &["keystore_id", "alias", "state", "created_at"], as_json);
        }
    }
}

fn described(keystore: &Keystore) -> Value {
    json!({
        "keystore_id": keystore.keystore_id,
        "alias": keystore.alias,
        "state": name(keystore.state().as_str_name(), "KEYSTORE_STATE_"),
        "domain_id": keystore.domain_id,
        "created_at": at(keystore.created_at.as_ref()),
    })
}
