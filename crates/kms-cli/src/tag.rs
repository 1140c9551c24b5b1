//! `dewctl tag`: tags of keys, and keys by their tags.

use kms_client::{
    Client, Repeat,
    proto::{self, tag_service_client::TagServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    key::described,
    output::{Failure, show, show_all},
};

/// What to do about tags. KEY is a key's id, an alias, or the URN of an alias.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TagCommand {
    /// Give a key tags, or other values of those that it has
    Set {
        /// Its id or alias
        key: String,
        /// The tags, as KEY=VALUE
        #[arg(required = true, value_name = "TAG")]
        tags: Vec<String>,
    },
    /// Remove tags of a key
    Remove {
        /// Its id or alias
        key: String,
        /// The keys of the tags
        #[arg(required = true, value_name = "TAG_KEY")]
        tag_keys: Vec<String>,
    },
    /// List the tags of a key; without one, which tags the keys of the region have
    List {
        /// Its id or alias
        key: Option<String>,
    },
    /// Find keys that have all of these tags
    Find {
        /// As KEY=VALUE; the same KEY again for one more value; KEY alone for any value
        #[arg(value_name = "TAG")]
        tags: Vec<String>,
        /// Only keys whose first alias has this in it
        #[arg(long, default_value = "")]
        alias: String,
        /// Only tell how many there are
        #[arg(long)]
        count: bool,
    },
}

/// How many keys are asked for at once.
const LIMIT: u32 = 100;

macro_rules! call {
    ($client:expr, $repeat:expr, $method:ident, $request:expr) => {
        $client.call($repeat, $request, |channel, request| async move {
            TagServiceClient::new(channel).$method(request).await
        })
    };
}

/// Runs one of them.
pub(crate) async fn run(
    command: &TagCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let key = match command {
        TagCommand::Set { key, tags } => {
            let request = proto::BatchCreateTagsRequest { key_id: key.clone(), tags: pairs(tags)? };
            call!(client, Repeat::OnlyIfUndone, batch_create_tags, request).await?.key
        }
        TagCommand::Remove { key, tag_keys } => {
            let request = proto::BatchDeleteTagsRequest { key_id: key.clone(), tag_keys: tag_keys.clone() };
            call!(client, Repeat::OnlyIfUndone, batch_delete_tags, request).await?.key
        }
        TagCommand::List { key: Some(key) } => return list(&client, key, as_json).await,
        TagCommand::List { key: None } => return list_all(&client, as_json).await,
        TagCommand::Find { tags, alias, count } => {
            let request = proto::ListKeysByTagsRequest {
                tags: wanted(tags),
                resource_name: alias.clone(),
                ..proto::ListKeysByTagsRequest::default()
            };
            return find(&client, request, *count, as_json).await;
        }
    };
    show(&key.map_or(Value::Null, |key| described(&key)), as_json)
}

async fn list(client: &Client, key: &str, as_json: bool) -> Result<(), Failure> {
    let request = proto::ListTagsRequest { key_id: key.to_owned() };
    let answer = call!(client, Repeat::Harmless, list_tags, request).await?;
    let rows = answer.tags.iter().map(|tag| json!({"key": tag.key, "value": tag.value}));
    show_all(&rows.collect::<Vec<_>>(), &["key", "value"], as_json)
}

async fn list_all(client: &Client, as_json: bool) -> Result<(), Failure> {
    let mut request = proto::ListProjectTagsRequest::default();
    let mut rows = Vec::new();
    loop {
        let page = call!(client, Repeat::Harmless, list_project_tags, request.clone()).await?;
        rows.extend(page.tags.iter().map(|tag| json!({"key": tag.key, "values": tag.values})));
        if page.next_page_token.is_empty() {
            return show_all(&rows, &["key", "values"], as_json);
        }
        request.page_token = page.next_page_token;
    }
}

async fn find(
    client: &Client,
    mut request: proto::ListKeysByTagsRequest,
    count: bool,
    as_json: bool,
) -> Result<(), Failure> {
    if count {
        request.action = proto::TagAction::Count.into();
        let answer = call!(client, Repeat::Harmless, list_keys_by_tags, request).await?;
        return show(&json!({"total": answer.total}), as_json);
    }
    request.limit = LIMIT;
    let mut keys = Vec::new();
    loop {
        let answer = call!(client, Repeat::Harmless, list_keys_by_tags, request.clone()).await?;
        keys.extend(answer.keys.iter().map(described));
        request.offset = request.offset.saturating_add(LIMIT);
        if request.offset >= answer.total {
            return show_all(&keys, &["key_id", "alias", "tags"], as_json);
        }
    }
}

fn pairs(tags: &[String]) -> Result<Vec<proto::KeyTag>, Failure> {
    let pair = |tag: &String| match tag.split_once('=') {
        Some((key, value)) => Ok(proto::KeyTag { key: key.to_owned(), value: value.to_owned() }),
        None => Err(Failure::Usage(format!("{tag}: a tag is KEY=VALUE"))),
    };
    tags.iter().map(pair).collect()
}

/// What is sought: the values of each key together, in the order of the keys' first mention.
fn wanted(tags: &[String]) -> Vec<proto::TagValues> {
    let mut wanted: Vec<proto::TagValues> = Vec::new();
    for tag in tags {
        let (key, value) =
            tag.split_once('=').map_or((tag.as_str(), None), |(key, value)| (key, Some(value)));
        let value = value.map(str::to_owned);
        if let Some(known) = wanted.iter_mut().find(|known| known.key == key) {
            known.values.extend(value);
        } else {
            let values = value.into_iter().collect();
            wanted.push(proto::TagValues { key: key.to_owned(), values });
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_key_are_sought_together() {
        let tags = ["team=web", "stage", "team=shop"].map(str::to_owned);
        let wanted: Vec<_> = wanted(&tags).into_iter().map(|tag| (tag.key, tag.values)).collect();
        let values = ["web", "shop"].map(str::to_owned).to_vec();
        assert_eq!(wanted, [("team".to_owned(), values), ("stage".to_owned(), Vec::new())]);
        pairs(&tags).expect_err("stage has no value");
    }
}
