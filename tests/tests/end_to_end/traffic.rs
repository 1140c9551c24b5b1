//! Traffic control as clients see it: what is left, what a refusal says, and a profile that changes while calls come.

use std::{fs, path::PathBuf, time::Duration};

use dewpoint_tests::{
    ADMIN, Clients, Dev, DevOptions, Identity, Serve, by_id, check_log, reason, records, valid,
};
use kms_proto::v1::{
    CountKeysRequest, CountKeysResponse, CreateKeyRequest, DescribeTrafficRequest,
    ReloadTrafficProfileRequest, StreamRecordsRequest, ThrottleOperationRequest, TrafficBudget,
    TrafficSubject, TrafficWindow, account_service_client::AccountServiceClient,
    audit_service_client::AuditServiceClient,
};
use tempfile::TempDir;
use tonic::{Code, Response, Status, metadata::MetadataMap};
use tonic_types::StatusExt as _;

const BUILT_IN: &str = include_str!("../../../crates/kms-server/src/traffic/dew.toml");
/// The line of the built-in profile that all queries go by.
const QUERIES: &str =
    r#"limits = [{ per = "account", calls = 1000, window = "second", burst = 1000, figure = "chosen" }]"#;
/// So long a window that no test is slow enough for it to refill.
const TWO_A_DAY: &str = r#"limits = [{ per = "user", calls = 2, window = "day", burst = 2 }]"#;

/// A deployment under the built-in profile with other limits of queries.
fn dev(queries: &str) -> (Dev, PathBuf, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("profile.toml");
    write(&file, queries);
    let arguments = vec![format!("--profile={}", file.display())];
    (Dev::start_with(DevOptions { arguments, ..DevOptions::default() }), file, directory)
}

fn write(file: &PathBuf, queries: &str) {
    assert!(BUILT_IN.contains(QUERIES));
    fs::write(file, BUILT_IN.replace(QUERIES, queries)).expect("a file");
}

async fn count(clients: &Clients) -> Result<Response<CountKeysResponse>, Status> {
    AccountServiceClient::new(clients.channel.clone()).count_keys(CountKeysRequest {}).await
}

async fn budgets(clients: &Clients) -> Vec<TrafficBudget> {
    let mut account = AccountServiceClient::new(clients.channel.clone());
    let told = account.describe_traffic(DescribeTrafficRequest {}).await;
    told.expect("it is permitted").into_inner().budgets
}

fn told(metadata: &MetadataMap) -> Vec<&str> {
    ["limit", "window", "remaining", "scope"]
        .map(|name| metadata.get(format!("x-ratelimit-{name}")).expect(name).to_str().expect("text"))
        .to_vec()
}

fn reset(metadata: &MetadataMap) -> f64 {
    metadata.get("x-ratelimit-reset").expect("told").to_str().expect("text").parse().expect("seconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_tells_what_is_left_and_a_refusal_what_was_spent() {
    let (dev, _, _directory) = dev(TWO_A_DAY);
    let admin = dev.user(0, "admin").await;
    for left in ["1", "0"] {
        let answer = count(&admin).await.expect("within the limit");
        assert_eq!(told(answer.metadata()), ["2", "day", left, "user queries/CountKeys"]);
    }
    let refused = count(&admin).await.expect_err("the third of two");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "THROTTLED"));
    assert_eq!(told(refused.metadata()), ["2", "day", "0", "user queries/CountKeys"]);
    let details = refused.get_error_details();
    let wait = details.retry_info().and_then(|info| info.retry_delay).expect("when to try again");
    assert!(wait <= Duration::from_secs(43_200) && wait > Duration::from_secs(40_000), "{wait:?}");
    assert!((reset(refused.metadata()) - wait.as_secs_f64()).abs() < 0.01);
    let user = dev.description.account(0).user("admin").user_id.clone();
    let violation = &details.quota_failure().expect("a QuotaFailure").violations[0];
    assert_eq!(violation.subject, format!("user:{user}"));
    assert_eq!(violation.description, "2 calls per day, queries/CountKeys");
    let info = &details.error_info().expect("an ErrorInfo").metadata;
    assert_eq!(["group", "limit", "window"].map(|name| &*info[name]), ["queries/CountKeys", "2", "day"]);

    // Another user has a budget of his own, and so has another operation.
    count(&dev.user(1, "admin").await).await.expect("another user");
    let budgets = budgets(&admin).await;
    let of = |group: &str| budgets.iter().find(|budget| budget.group == group).expect("told");
    let spent = of("queries/CountKeys");
    assert_eq!((spent.remaining, spent.limit, spent.burst, spent.documented), (0, 2, 2, false));
    assert_eq!((spent.subject(), spent.window()), (TrafficSubject::User, TrafficWindow::Day));
    let life_cycle = of("life-cycle");
    assert_eq!((life_cycle.remaining, life_cycle.limit, life_cycle.documented), (20, 20, true));
    assert!(budgets.iter().all(|budget| budget.subject() != TrafficSubject::Unspecified));
    assert!(dev.ctl(&["traffic", "show"]).stdout.contains("life-cycle"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_is_left_when_it_begins() {
    let (dev, _, _directory) = dev(TWO_A_DAY);
    let mut audit = AuditServiceClient::new(dev.user(0, "admin").await.channel.clone());
    let begun = audit.stream_records(StreamRecordsRequest::default()).await.expect("it is permitted");
    assert_eq!(told(begun.metadata()), ["2", "day", "1", "user queries/StreamRecords"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_profile_holds_from_the_next_call_on_and_a_broken_one_changes_nothing() {
    let (dev, file, _directory) = dev(TWO_A_DAY);
    let mut admin = dev.user(0, "admin").await;
    for _ in 0..2 {
        count(&admin).await.expect("within the limit");
    }
    count(&admin).await.expect_err("the third of two");
    admin.create("first").await;

    let reload = async || {
        let mut operator = dev.operator().await;
        operator.roots.reload_traffic_profile(ReloadTrafficProfileRequest {}).await
    };
    fs::write(&file, BUILT_IN.replace("\"CountKeys\",", "")).expect("a file");
    let refused = reload().await.expect_err("it misses an operation");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "PROFILE_INVALID"));
    assert!(refused.message().contains("line ") && refused.message().contains("CountKeys"), "{refused:?}");
    count(&admin).await.expect_err("all is as it was");

    // The same limit: what is spent stays spent. The quota holds at once, and takes nothing away.
    let few_keys = BUILT_IN.replace(QUERIES, TWO_A_DAY).replace("custom_keys = 100\n", "custom_keys = 1\n");
    fs::write(&file, few_keys).expect("a file");
    assert_eq!(reload().await.expect("a sound file").into_inner().digest.len(), 32);
    count(&admin).await.expect_err("still spent");
    let second = CreateKeyRequest { alias: "second".into(), ..CreateKeyRequest::default() };
    let refused = admin.keys.create_key(second).await.expect_err("one is enough by now");
    assert_eq!(reason(&refused), "QUOTA_EXCEEDED");

    write(
        &file,
        &TWO_A_DAY
            .replace("calls = 2, window = \"day\", burst = 2", "calls = 3, window = \"day\", burst = 3"),
    );
    assert_eq!(dev.ctl(&["traffic", "reload"]).code, Some(0));
    assert_eq!(told(count(&admin).await.expect("a new budget").metadata())[2], "2");
    let user = reload_as(&mut admin).await.expect_err("operators only");
    assert_eq!(user.code(), Code::PermissionDenied);
    let reloads = records(dev.directory());
    let reloads = reloads.iter().filter(|record| record["operation"] == "ReloadTrafficProfile");
    assert_eq!(reloads.filter(|record| record["verdict"] == "succeeded").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_has_the_profile_read_anew_on_connections_that_are_open() {
    let mut serve = Serve::prepare();
    let config = serve.directory().join("dewpoint.toml");
    let enforced = fs::read_to_string(&config).expect("it is there").replace("\"off\"", "\"enforce\"");
    fs::write(&config, enforced).expect("it can be written");
    let file = serve.directory().join("profile.toml");
    write(&file, TWO_A_DAY);
    assert!(serve.run("init").status.success());
    serve.start().await;
    let process = serve.id();
    let files = Some(serve.authority.client("admin", &[ADMIN], valid()));
    let admin = serve.connect(Identity { files, ..Identity::default() }).await;
    for _ in 0..2 {
        count(&admin).await.expect("within the limit");
    }
    count(&admin).await.expect_err("the third of two");
    let taken = "the profile of traffic limits and quotas was read anew";
    fs::write(&file, BUILT_IN.replace("\"CountKeys\",", "")).expect("it can be written");
    serve.hang_up("the profile cannot be used", 1).await;
    count(&admin).await.expect_err("all is as it was");
    write(&file, TWO_A_DAY);
    serve.hang_up(taken, 1).await;
    count(&admin).await.expect_err("what is spent stays spent");
    write(&file, &TWO_A_DAY.replace('2', "3"));
    serve.hang_up(taken, 2).await;
    assert_eq!(told(count(&admin).await.expect("a new budget").metadata())[2], "2");
    assert_eq!(serve.id(), process);
    assert!(serve.stop().success());
    let data = serve.directory().join("data");
    let mut reloads = records(&data);
    reloads.retain(|record| record["operation"] == "ReloadTrafficProfile");
    let [refused, same, other] = &reloads[..] else { panic!("three records, not {reloads:?}") };
    assert_eq!(refused["reason"], "PROFILE_INVALID");
    assert!(reloads.iter().all(|record| record["user"].is_null() && record["source"].is_null()));
    assert!(other["state_digest"].is_string() && other["state_digest"] != same["state_digest"]);
    check_log(&data);
}

async fn reload_as(clients: &mut Clients) -> Result<(), Status> {
    clients.roots.reload_traffic_profile(ReloadTrafficProfileRequest {}).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tester_has_calls_refused() {
    let arguments = vec!["--traffic-control=off".into(), "--clock=manual".into()];
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let (mut admin, mut operator) = (dev.user(0, "admin").await, dev.operator().await);
    let key = admin.create("key").await;
    assert_eq!(dev.ctl(&["dev", "throttle", "DescribeKey", "2"]).code, Some(0));
    for _ in 0..2 {
        let refused = admin.describe(by_id(&key.key_id)).await.expect_err("a tester says so");
        assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "THROTTLED"));
        assert!(refused.get_error_details().retry_info().is_some_and(|info| info.retry_delay.is_some()));
    }
    admin.describe(by_id(&key.key_id)).await.expect("the third");
    for (operation, calls) in [("DescribeKeys", 1), ("DescribeKey", 1_000_001)] {
        let request = ThrottleOperationRequest { operation: operation.to_owned(), calls };
        let refused = operator.dev.throttle_operation(request).await.expect_err("malformed");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let request = ThrottleOperationRequest { operation: "DescribeKey".to_owned(), calls: 1 };
    let refused = admin.dev.throttle_operation(request).await.expect_err("operators only");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_it_is_known_who_calls_one_limit_holds_for_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("profile.toml");
    let door = "calls = 20000\nwindow = \"second\"\nburst = 20000";
    assert!(BUILT_IN.contains(door));
    fs::write(&file, BUILT_IN.replace(door, "calls = 2\nwindow = \"day\"\nburst = 2")).expect("a file");
    let arguments = vec![format!("--profile={}", file.display())];
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let (admin, stranger) =
        (dev.user(0, "admin").await, dev.connect(Identity { files: None, ..Identity::default() }).await);
    count(&admin).await.expect("the first");
    assert_eq!(count(&stranger).await.expect_err("nobody").code(), Code::Unauthenticated);
    for clients in [&admin, &stranger] {
        let refused = count(clients).await.expect_err("no more than two");
        assert_eq!(reason(&refused), "THROTTLED");
        assert_eq!(told(refused.metadata()), ["2", "day", "0", "server before-authentication"]);
    }
    let records = records(dev.directory());
    let refused: Vec<_> = records.iter().filter(|record| record["reason"] == "THROTTLED").collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|record| record["user"].is_null() && record["source"].is_string()));
}
