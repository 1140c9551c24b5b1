//! Further aliases over gRPC: made, moved, listed, deleted; each names its key wherever a key is named.

use dewpoint_tests::{Clients, Context, Dev, DevOptions, by_alias, reason};
use kms_proto::v1::{
    AssociateAliasRequest, CreateAliasRequest, DeleteAliasRequest, KeyAlias, ListAliasesRequest,
    alias_service_client::AliasServiceClient,
};
use tonic::{Code, Status, transport::Channel};

fn aliases(clients: &Clients) -> AliasServiceClient<Channel> {
    AliasServiceClient::new(clients.channel.clone())
}

async fn create(clients: &Clients, key_id: &str, alias: &str) -> Result<KeyAlias, Status> {
    let request = CreateAliasRequest { key_id: key_id.to_owned(), alias: alias.to_owned() };
    Ok(aliases(clients).create_alias(request).await?.into_inner().alias.expect("an alias"))
}

async fn list(clients: &Clients, key_id: &str) -> Vec<String> {
    let mut request =
        ListAliasesRequest { key_id: key_id.to_owned(), page_size: 1, ..ListAliasesRequest::default() };
    let mut names = Vec::new();
    loop {
        let page = aliases(clients).list_aliases(request.clone()).await.expect("a page").into_inner();
        names.extend(page.aliases.into_iter().map(|alias| alias.alias));
        if page.next_page_token.is_empty() {
            return names;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_used_by_an_alias_that_moves_to_another_key() {
    let arguments = vec!["--traffic-control=off".to_owned()];
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let mut admin = dev.user(0, "admin").await;
    let (one, other) = (admin.create("one").await.key_id, admin.create("other").await.key_id);
    let made = create(&admin, &one, "alias/orders").await.expect("free");
    assert_eq!(made.alias_urn, format!("kms:{}:{}:alias:alias/orders", made.region, made.domain_id));
    let refused = create(&admin, &other, "alias/orders").await.expect_err("taken");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::AlreadyExists, "ALIAS_EXISTS"));
    let refused = create(&admin, &other, "orders").await.expect_err("no prefix");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::InvalidArgument, "INVALID_FIELD"));
    let sealed = admin.generate(by_alias("alias/orders"), Context::new()).await.expect("it names a key");
    assert_eq!(sealed.key_id, one);

    create(&admin, &one, "alias/second").await.expect("free");
    let (alias, target_key_id) = ("alias/orders".to_owned(), "other".to_owned());
    let moved = aliases(&admin).associate_alias(AssociateAliasRequest { alias, target_key_id }).await;
    let moved = moved.expect("both are the account's").into_inner().alias.expect("an alias");
    assert_eq!((&moved.key_id, moved.created_at), (&other, made.created_at));
    let sealed = admin.generate(by_alias(&moved.alias_urn), Context::new()).await.expect("it names a key");
    assert_eq!(sealed.key_id, other);
    assert_eq!(list(&admin, "").await, ["alias/orders", "alias/second"]);
    assert_eq!((list(&admin, &one).await, list(&admin, "other").await.len()), (vec![made_second()], 1));

    let delete = |key_id: &str| DeleteAliasRequest {
        key_id: key_id.to_owned(),
        aliases: vec!["alias/orders".to_owned()],
    };
    let refused = aliases(&admin).delete_alias(delete(&one)).await.expect_err("another key's");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::NotFound, "ALIAS_NOT_FOUND"));
    aliases(&admin).delete_alias(delete(&other)).await.expect("its own");
    let refused = admin.generate(by_alias("alias/orders"), Context::new()).await.expect_err("it is gone");
    assert_eq!(reason(&refused), "KEY_NOT_FOUND");
}

fn made_second() -> String {
    "alias/second".to_owned()
}
