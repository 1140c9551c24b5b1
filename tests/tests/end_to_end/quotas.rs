//! How many keys an account has and may have, told and held to.

use std::fs;

use dewpoint_tests::{ADMIN, Clients, Dev, Identity, Serve, reason, valid};
use kms_proto::v1::{
    CountKeysRequest, CreateKeyRequest, DescribeQuotasRequest, DescribedQuota, QuotaKind,
    account_service_client::AccountServiceClient,
};
use tonic::Code;

async fn count(clients: &Clients) -> u64 {
    let mut account = AccountServiceClient::new(clients.channel.clone());
    account.count_keys(CountKeysRequest {}).await.expect("it is permitted").into_inner().custom_keys
}

async fn quotas(clients: &Clients) -> Vec<DescribedQuota> {
    let mut account = AccountServiceClient::new(clients.channel.clone());
    let described = account.describe_quotas(DescribeQuotasRequest {}).await;
    described.expect("it is permitted").into_inner().quotas
}

fn create(alias: &str) -> CreateKeyRequest {
    CreateKeyRequest { alias: alias.to_owned(), ..CreateKeyRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_counted_and_limits_told() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let before = count(&admin).await;
    admin.keys.create_key(create("counted")).await.expect("made");
    assert_eq!(count(&admin).await, before + 1);
    let quotas = quotas(&admin).await;
    assert_eq!((quotas[0].kind(), quotas[0].used), (QuotaKind::CustomKeys, Some(before + 1)));
    let per_key: Vec<_> = quotas[1..].iter().map(|quota| (quota.kind(), quota.limit, quota.used)).collect();
    let told = [
        (QuotaKind::GrantsPerKey, 100, None),
        (QuotaKind::AliasesPerKey, 50, None),
        (QuotaKind::TagsPerKey, 20, None),
    ];
    assert_eq!(per_key, told);
    let nobody = dev.user(0, "nobody").await;
    let refused = AccountServiceClient::new(nobody.channel.clone()).count_keys(CountKeysRequest {}).await;
    assert_eq!(reason(&refused.expect_err("no permission")), "PERMISSION_DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configured_quota_is_held_to_over_a_restart() {
    let mut serve = Serve::prepare();
    let path = serve.directory().join("profile.toml");
    let profile = fs::read_to_string(&path).expect("it was written");
    fs::write(&path, profile.replace("custom_keys = 10000000", "custom_keys = 2")).expect("a file");
    assert!(serve.run("init").status.success());
    let files = serve.authority.client("admin", &[ADMIN], valid());
    let identity = || Identity { files: Some(files.clone()), ..Identity::default() };
    serve.start().await;
    let mut admin = serve.connect(identity()).await;
    for alias in ["a", "b"] {
        admin.create(alias).await;
    }
    let refused = admin.keys.create_key(create("c")).await.expect_err("full");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert!(serve.stop().success());

    serve.start().await;
    let mut admin = serve.connect(identity()).await;
    let refused = admin.keys.create_key(create("c")).await.expect_err("still full");
    assert_eq!(reason(&refused), "QUOTA_EXCEEDED");
    assert_eq!(count(&admin).await, 2);
    assert!(serve.stop().success());
}
