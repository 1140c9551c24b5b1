//! `dewctl alias`: further names of keys.

use kms_client::{
    Client, Repeat,
    proto::{self, alias_service_client::AliasServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    key::described,
    output::{Failure, show, show_all},
    rotation::at,
};

/// What to do about further aliases. KEY is a key's id, an alias, or the URN of an alias.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AliasCommand {
    /// Give a key a further alias
    Create {
        /// Its id or alias
        key: String,
        /// The new alias, which begins with alias/
        alias: String,
    },
    /// Move a further alias to another key
    Associate {
        /// The alias
        alias: String,
        /// The id or alias of the key that is to have it
        target: String,
    },
    /// Remove further aliases of a key
    Delete {
        /// Its id or alias
        key: String,
        /// The aliases
        #[arg(required = true)]
        aliases: Vec<String>,
    },
    /// List further aliases
    List {
        /// Only those of this key: its id or alias
        key: Option<String>,
    },
}

macro_rules! call {
    ($client:expr, $repeat:expr, $method:ident, $request:expr) => {
        $client.call($repeat, $request, |channel, request| async move {
            AliasServiceClient::new(channel).$method(request).await
        })
    };
}

/// Runs one of them.
pub(crate) async fn run(
    command: &AliasCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let shown = match command {
        AliasCommand::Create { key, alias } => {
            let request = proto::CreateAliasRequest { key_id: key.clone(), alias: alias.clone() };
            entry(call!(client, Repeat::OnlyIfUndone, create_alias, request).await?.alias.as_ref())
        }
        AliasCommand::Associate { alias, target } => {
            let request =
                proto::AssociateAliasRequest { alias: alias.clone(), target_key_id: target.clone() };
            entry(call!(client, Repeat::OnlyIfUndone, associate_alias, request).await?.alias.as_ref())
        }
        AliasCommand::Delete { key, aliases } => {
            let request = proto::DeleteAliasRequest { key_id: key.clone(), aliases: aliases.clone() };
            let key = call!(client, Repeat::OnlyIfUndone, delete_alias, request).await?.key;
            key.map_or(Value::Null, |key| described(&key))
        }
        AliasCommand::List { key } => return list(&client, key.as_deref(), as_json).await,
    };
    show(&shown, as_json)
}

async fn list(client: &Client, key: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let mut request = proto::ListAliasesRequest {
        key_id: key.unwrap_or_default().to_owned(),
        ..proto::ListAliasesRequest::default()
    };
    let mut rows = Vec::new();
    loop {
        let page = call!(client, Repeat::Harmless, list_aliases, request.clone()).await?;
        rows.extend(page.aliases.iter().map(|alias| entry(Some(alias))));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    show_all(&rows, &["alias", "key_id", "updated_at"], as_json)
}

fn entry(alias: Option<&proto::KeyAlias>) -> Value {
    alias.map_or(Value::Null, |alias| {
        json!({
            "alias": alias.alias,
            "key_id": alias.key_id,
            "alias_urn": alias.alias_urn,
            "created_at": at(alias.created_at.as_ref()),
            "updated_at": at(alias.updated_at.as_ref()),
        })
    })
}
