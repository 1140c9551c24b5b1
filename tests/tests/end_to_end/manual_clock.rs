//! A deployment whose clock a tester keeps: what days and years bring, in a moment.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, SystemTime},
};

use dewpoint_tests::{
    Clients, Context, Dev, DevOptions, binary, by_id, check_log, records, reflected, refusal,
};
use kms_proto::v1::{AdvanceRequest, NowRequest, ScheduleKeyDeletionRequest};
use serde_json::Value;
use tonic::{Code, Status};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn dev() -> Dev {
    Dev::start_with(DevOptions {
        arguments: vec!["--traffic-control=off".into(), "--clock=manual".into()],
        ..DevOptions::default()
    })
}

async fn advance(clients: &mut Clients, by: Duration) -> Result<SystemTime, Status> {
    let by = Some(by.try_into().expect("a duration"));
    let answer = clients.dev.advance(AdvanceRequest { by }).await?.into_inner();
    Ok(answer.now.expect("the time").try_into().expect("a time"))
}

async fn now(clients: &mut Clients) -> Result<SystemTime, Status> {
    let answer = clients.dev.now(NowRequest {}).await?.into_inner();
    Ok(answer.now.expect("the time").try_into().expect("a time"))
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_methods, reason = "the clock is compared with the machine's")]
async fn the_clock_stands_still_until_an_operator_advances_it() {
    let mut dev = dev();
    assert_eq!(dev.description.json["clock"], "manual");
    let mut operator = dev.operator().await;
    let start = now(&mut operator).await.expect("an operator");
    let machine = SystemTime::now();
    assert!(machine.duration_since(start).expect("begun before") < DAY, "it begins at the machine's time");
    assert_eq!(now(&mut operator).await.expect("an operator"), start);
    assert!(reflected(&operator).await.contains(&"kms.v1.DevService".to_owned()));

    // Two years: longer than any certificate of the deployment is valid, and all go on being accepted.
    assert_eq!(advance(&mut operator, 730 * DAY).await.expect("an operator"), start + 730 * DAY);
    let mut admin = dev.user(0, "admin").await;
    let made = admin.create("later").await.created_at.expect("a time");
    assert_eq!(SystemTime::try_from(made).expect("a time"), start + 730 * DAY);

    dev.restart();
    let mut operator = dev.operator().await;
    assert_eq!(now(&mut operator).await.expect("an operator"), start + 730 * DAY, "kept over a restart");

    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    let mut admin = dev.user(0, "admin").await;
    assert_eq!(refusal(advance(&mut admin, DAY).await), denied);
    assert_eq!(refusal(now(&mut admin).await), denied);
    for by in [Duration::ZERO, 3654 * DAY] {
        assert_eq!(refusal(advance(&mut operator, by).await).0, Code::InvalidArgument, "{by:?}");
    }
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let refused = operator.dev.advance(AdvanceRequest { by: Some(negative) }).await;
    assert_eq!(refusal(refused.map(drop)).0, Code::InvalidArgument);
    assert_eq!(now(&mut operator).await.expect("an operator"), start + 730 * DAY);
    let advances =
        records(dev.directory()).into_iter().filter(|record| record["operation"] == "AdvanceClock");
    assert_eq!(advances.filter(|record| record["verdict"] == "succeeded").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_deployment_that_was_told_to_has_the_service() {
    let dev = Dev::start();
    assert!(dev.description.json.get("clock").is_none());
    let mut operator = dev.operator().await;
    assert_eq!(advance(&mut operator, DAY).await.expect_err("not there").code(), Code::Unimplemented);
    assert_eq!(now(&mut operator).await.expect_err("not there").code(), Code::Unimplemented);
    assert!(!reflected(&operator).await.contains(&"kms.v1.DevService".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_a_clock_of_its_own_keeps_it() {
    let mut dev = dev();
    assert!(dev.stop().success());
    let mut command = Command::new(binary());
    command.args(["dev", "--grpc-port=0", "--dew-port=0", "--data-dir"]).arg(dev.directory());
    let ended = command.output().expect("it starts");
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("--clock manual"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_advances_it() {
    let dev = dev();
    let run = |arguments: &[&str]| {
        let output = dev.dewctl(arguments).output().expect("dewctl starts");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    let before = run(&["dev", "now"]);
    let after = run(&["dev", "advance", "1d"]);
    assert_eq!(run(&["dev", "now"]), after);
    assert!(after > before, "{before} {after}");
    let json: Value = serde_json::from_str(&run(&["--json", "dev", "now"])).expect("JSON");
    assert_eq!(json["now"], after);
    let refused = dev.dewctl(&["dev", "advance", "11y"]).output().expect("dewctl starts");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let unread = dev.dewctl(&["dev", "advance", "soon"]).output().expect("dewctl starts");
    assert_eq!(unread.status.code(), Some(2), "{unread:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_gone_when_its_deletion_is_due() {
    let mut dev = dev();
    let (mut operator, mut admin) = (dev.operator().await, dev.user(0, "admin").await);
    let (key_id, later) = (admin.create("doomed").await.key_id, admin.create("later").await.key_id);
    let made = admin.generate(by_id(&key_id), Context::new()).await.expect("enabled");
    schedule(&mut admin, &key_id, 7).await;
    schedule(&mut admin, &later, 91).await;
    advance(&mut operator, WEEK.saturating_sub(SECOND)).await.expect("an operator");
    admin.describe(by_id(&key_id)).await.expect("not due yet");
    let due = advance(&mut operator, SECOND).await.expect("an operator");
    let missing = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
    let [gone] = &destroyed(&dev)[..] else { panic!("one key") };
    assert_eq!((gone["key_id"].as_str(), &gone["final"]), (Some(&*key_id), &false.into()));
    assert_eq!(refusal(admin.describe(by_id(&key_id)).await), missing);

    advance(&mut operator, 83 * DAY).await.expect("an operator");
    dev.restart();
    let (mut operator, mut admin) = (dev.operator().await, dev.user(0, "admin").await);
    assert_eq!(refusal(admin.describe(by_id(&key_id)).await), missing);
    assert_eq!(refusal(admin.decrypt(&made.ciphertext_blob, None, Context::new()).await), missing);
    assert_ne!(admin.create("doomed").await.key_id, key_id, "the alias is free");
    assert_eq!(now(&mut operator).await.expect("an operator"), due + 83 * DAY);

    // What fell due at its own time is done at its own time, although the clock goes on by a year.
    advance(&mut operator, 365 * DAY).await.expect("an operator");
    let ended: BTreeSet<_> = destroyed(&dev).into_iter().map(|key| key["key_id"].to_string()).collect();
    assert_eq!(ended, BTreeSet::from([&key_id, &later].map(|id| format!("{id:?}"))));
    let records = records(dev.directory());
    let of_later = |record: &&Value| record["operation"] == "DestroyKey" && record["key_id"] == *later;
    let times: Vec<_> =
        records.iter().filter(of_later).filter_map(|record| record["time"].as_str()).collect();
    let day_91 = time::OffsetDateTime::from(due + 84 * DAY).date().to_string();
    assert_eq!(times.len(), 2, "intent and outcome");
    assert!(times.iter().all(|time| time.starts_with(&day_91)), "{times:?} {day_91}");

    let rotated = dev.dewctl(&["root", "rotate", "--wait"]).output().expect("dewctl starts");
    assert!(rotated.status.success(), "{rotated:?}");
    assert!(destroyed(&dev).iter().all(|key| key["final"] == true), "the old root key is destroyed");
    check_log(dev.directory());
}

async fn schedule(admin: &mut Clients, key_id: &str, pending_days: u32) {
    let request = ScheduleKeyDeletionRequest { key_id: key_id.to_owned(), pending_days };
    admin.keys.schedule_key_deletion(request).await.expect("enabled");
}

/// What `dewctl destroyed` shows.
fn destroyed(dev: &Dev) -> Vec<Value> {
    let output = dev.dewctl(&["--json", "destroyed"]).output().expect("dewctl starts");
    assert!(output.status.success(), "{output:?}");
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    shown.as_array().expect("an array").clone()
}
