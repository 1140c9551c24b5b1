//! Tags over gRPC: set, listed, removed, and keys found by them.

use std::collections::HashMap;

use dewpoint_tests::{Clients, Dev, DevOptions, reason};
use kms_proto::v1::{
    BatchCreateTagsRequest, BatchDeleteTagsRequest, CreateKeyRequest, CreateTagRequest, DeleteTagRequest,
    KeyTag, ListKeysByTagsRequest, ListProjectTagsRequest, ListTagsRequest, TagAction, TagValues,
    tag_service_client::TagServiceClient,
};
use tonic::{Code, Status, transport::Channel};

fn tags(clients: &Clients) -> TagServiceClient<Channel> {
    TagServiceClient::new(clients.channel.clone())
}

fn tag(key: &str, value: &str) -> KeyTag {
    KeyTag { key: key.to_owned(), value: value.to_owned() }
}

fn sought(key: &str, values: &[&str]) -> TagValues {
    TagValues { key: key.to_owned(), values: values.iter().map(|value| (*value).to_owned()).collect() }
}

async fn find(clients: &Clients, request: ListKeysByTagsRequest) -> Result<(Vec<String>, u32), Status> {
    let found = tags(clients).list_keys_by_tags(request).await?.into_inner();
    Ok((found.keys.into_iter().map(|key| key.alias).collect(), found.total))
}

fn by_tags(tags: Vec<TagValues>) -> ListKeysByTagsRequest {
    ListKeysByTagsRequest { tags, ..ListKeysByTagsRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_tagged_and_found() {
    let arguments = vec!["--traffic-control=off".to_owned()];
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let mut admin = dev.user(0, "admin").await;
    let with_tags = CreateKeyRequest {
        alias: "orders".to_owned(),
        tags: HashMap::from([("team".to_owned(), "shop".to_owned())]),
        ..CreateKeyRequest::default()
    };
    admin.keys.create_key(with_tags.clone()).await.expect("tagged at once");
    let bad = HashMap::from([("_sys_team".to_owned(), "shop".to_owned())]);
    let bad = CreateKeyRequest { alias: "bad".to_owned(), tags: bad, ..with_tags };
    let refused = admin.keys.create_key(bad).await.expect_err("a reserved key");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::InvalidArgument, "INVALID_FIELD"));
    let other = admin.create("payments").await.key_id;
    let request = CreateTagRequest { key_id: "payments".to_owned(), tag: Some(tag("team", "web")) };
    tags(&admin).create_tag(request).await.expect("by alias");
    let both = vec![tag("team", "pay"), tag("stage", "")];
    let request = BatchCreateTagsRequest { key_id: other.clone(), tags: both.clone() };
    tags(&admin).batch_create_tags(request).await.expect("two");
    let listed = tags(&admin).list_tags(ListTagsRequest { key_id: other.clone() }).await;
    assert_eq!(listed.expect("it exists").into_inner().tags, [tag("stage", ""), tag("team", "pay")]);
    let all = tags(&admin).list_project_tags(ListProjectTagsRequest::default()).await;
    assert_eq!(
        all.expect("few").into_inner().tags,
        [sought("stage", &[""]), sought("team", &["pay", "shop"])]
    );

    let team = sought("team", &["pay", "shop"]);
    let found = find(&admin, by_tags(vec![team.clone()])).await.expect("both");
    assert_eq!(found, (vec!["orders".to_owned(), "payments".to_owned()], 2));
    let found = find(&admin, by_tags(vec![team.clone(), sought("stage", &[])])).await.expect("one");
    assert_eq!(found, (vec!["payments".to_owned()], 1));
    let part = ListKeysByTagsRequest { limit: 1, offset: 1, ..by_tags(vec![team.clone()]) };
    assert_eq!(find(&admin, part.clone()).await.expect("the second"), (vec!["payments".to_owned()], 2));
    let named = ListKeysByTagsRequest { resource_name: "rder".to_owned(), ..by_tags(vec![team.clone()]) };
    assert_eq!(find(&admin, named).await.expect("one"), (vec!["orders".to_owned()], 1));
    let count = ListKeysByTagsRequest { action: TagAction::Count.into(), ..by_tags(vec![team]) };
    assert_eq!(find(&admin, count.clone()).await.expect("a number"), (vec![], 2));
    let refused = find(&admin, ListKeysByTagsRequest { limit: 1, ..count }).await.expect_err("a limit");
    assert_eq!(refused.code(), Code::InvalidArgument);

    let one = DeleteTagRequest { key_id: other.clone(), tag_key: "stage".to_owned() };
    tags(&admin).delete_tag(one.clone()).await.expect("it has it");
    let refused = tags(&admin).delete_tag(one).await.expect_err("it had it");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::NotFound, "TAG_NOT_FOUND"));
    let rest = BatchDeleteTagsRequest { key_id: other, tag_keys: vec!["team".to_owned()] };
    let key = tags(&admin).batch_delete_tags(rest).await.expect("it has it").into_inner().key;
    assert!(key.expect("a key").tags.is_empty());
}
