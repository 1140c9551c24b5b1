//! Metering: what the service and `dewctl` say that accounts had, against a count of the records made here in the plainest
//! way, over months of a manual clock.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use dewpoint_tests::{
    ADMIN, Clients, Dev, DevOptions, Identity, Serve, by_id, by_service, eventually, malformed_field, reason,
    records, refusal, valid,
};
use kms_proto::v1::{
    AdvanceRequest, CancelKeyDeletionRequest, CreateKeyRequest, DisableKeyRequest, GenerateDataKeyRequest,
    GenerateDataKeysRequest, GetMeteringRequest, GetMeteringResponse, KeyOrigin, KeySpec,
    ScheduleKeyDeletionRequest, audit_service_client::AuditServiceClient,
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::{Code, Status};

const DAY: u64 = 86_400;
/// A key-day in microseconds.
const KEY_DAY: i128 = 86_400_000_000;

fn dev(arguments: &[&str]) -> Dev {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Dev::start_with(DevOptions { arguments, ..DevOptions::default() })
}

async fn advance(dev: &Dev, days: u64) {
    let by = Duration::from_secs(days * DAY + 4321).try_into().expect("a duration");
    dev.operator().await.dev.advance(AdvanceRequest { by: Some(by) }).await.expect("an operator");
}

async fn create(admin: &mut Clients, alias: &str, key_spec: KeySpec, origin: KeyOrigin) -> String {
    let (key_spec, origin) = (key_spec.into(), origin.into());
    let request =
        CreateKeyRequest { alias: alias.to_owned(), key_spec, origin, ..CreateKeyRequest::default() };
    let made = admin.keys.create_key(request).await.expect("made").into_inner();
    made.key.expect("a key").key_id
}

async fn schedule(admin: &mut Clients, key_id: &str, pending_days: u32) {
    let request = ScheduleKeyDeletionRequest { key_id: key_id.to_owned(), pending_days };
    admin.keys.schedule_key_deletion(request).await.expect("scheduled");
}

async fn ask(reader: &Clients, request: GetMeteringRequest) -> Result<GetMeteringResponse, Status> {
    let answer = AuditServiceClient::new(reader.channel.clone()).get_metering(request).await;
    answer.map(tonic::Response::into_inner)
}

/// Quantities by month, account, item, name and unit.
type Rows = BTreeMap<[String; 5], String>;

/// Reads a CSV, but not of the reading itself: that changes with each reading.
fn rows(csv: &str) -> Rows {
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("month,account,item,name,unit,quantity"));
    let each = lines.map(|line| {
        let cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        let [month, account, item, name, unit, quantity] = cells.try_into().expect("six cells");
        ([month, account, item, name, unit], quantity)
    });
    each.filter(|([.., name, _], _)| name != "GetMetering").collect()
}

fn csv(dev: &Dev, arguments: &[&str]) -> Rows {
    let output = dev.dewctl(&[&["usage", "--csv"], arguments].concat()).output().expect("dewctl starts");
    assert!(output.status.success(), "{output:?}");
    rows(&String::from_utf8(output.stdout).expect("text"))
}

fn text<'a>(record: &'a Value, member: &str) -> &'a str {
    record[member].as_str().unwrap_or_default()
}

fn micros(time: &str) -> i128 {
    OffsetDateTime::parse(time, &Rfc3339).expect("a time").unix_timestamp_nanos() / 1000
}

/// The first moments of this and the next month.
fn bounds(month: &str) -> (i128, i128) {
    let (year, number) = month.split_once('-').expect("a month");
    let (year, number): (i32, u32) = (year.parse().expect("a year"), number.parse().expect("a month"));
    let next = if number == 12 { (year + 1, 1) } else { (year, number + 1) };
    let start = |(year, month): (i32, u32)| micros(&format!("{year:04}-{month:02}-01T00:00:00Z"));
    (start((year, number)), start(next))
}

/// A key as its records tell of it.
struct Key {
    account: String,
    kind: &'static str,
    begin: i128,
    end: Option<i128>,
}

/// Counts the calls one by one.
fn calls_in(records: &[Value]) -> Rows {
    let mut calls = HashMap::<_, u64>::new();
    for record in records {
        let operation = text(record, "operation");
        let succeeded = text(record, "verdict") == "succeeded";
        let is_part = text(record, "request_id").chars().nth(14) == Some('8');
        let is_answer =
            matches!(text(record, "phase"), "complete" | "outcome") && record["source"].is_string();
        let is_left_out = match operation {
            "CreateDefaultKey" | "GetMetering" => true,
            "GenerateDataKeys" => succeeded,
            "GenerateDataKey" => false,
            _ => is_part,
        };
        if is_answer && !is_left_out {
            let unit = if succeeded { "answered" } else { "refused" };
            let row = [&text(record, "time")[..7], text(record, "account"), "calls", operation, unit];
            *calls.entry(row.map(str::to_owned)).or_default() += record["count"].as_u64().expect("a number");
        }
    }
    calls.into_iter().map(|(row, count)| (row, count.to_string())).collect()
}

/// The keys that the records tell of.
fn keys_in(records: &[Value]) -> HashMap<String, Key> {
    let mut keys = HashMap::<String, Key>::new();
    let done = |record: &&Value| text(record, "phase") == "outcome" && text(record, "verdict") == "succeeded";
    for record in records.iter().filter(done) {
        let (key, time) = (text(record, "key_id").to_owned(), micros(text(record, "time")));
        match text(record, "operation") {
            operation @ ("CreateKey" | "CreateDefaultKey" | "ReplicateKey") => {
                let kind = match (operation, text(record, "key_origin"), text(record, "key_spec")) {
                    ("CreateDefaultKey", ..) => "default",
                    (_, "external", _) => "custom-imported",
                    (_, _, "AES_256") => "custom-symmetric",
                    _ => "custom-asymmetric",
                };
                let account = text(record, "account").to_owned();
                keys.insert(key, Key { account, kind, begin: time, end: None });
            }
            "ScheduleKeyDeletion" => keys.get_mut(&key).expect("it was made").end = Some(time),
            "CancelKeyDeletion" => keys.get_mut(&key).expect("it was made").end = None,
            _ => {}
        }
    }
    keys
}

/// What the records come to: each key in each month, and each call.
fn counted(records: &[Value], until: i128) -> Rows {
    let (keys, mut lived) = (keys_in(records), HashMap::<_, i128>::new());
    let mut month = text(&records[0], "time")[..7].to_owned();
    while bounds(&month).0 <= until {
        let (start, next) = bounds(&month);
        for key in keys.values() {
            let row = [month.as_str(), &key.account, "keys", key.kind, "key-days"].map(str::to_owned);
            let end = key.end.unwrap_or(until).min(next);
            *lived.entry(row).or_default() += (end - key.begin.max(start)).max(0);
        }
        let later = OffsetDateTime::from_unix_timestamp_nanos(next * 1000).expect("a time");
        month = format!("{:04}-{:02}", later.year(), u8::from(later.month()));
    }
    let lived = lived.into_iter().filter(|(_, micros)| *micros > 0);
    let lived = lived.map(|(row, micros)| {
        (row, format!("{}.{:06}", micros / KEY_DAY, micros % KEY_DAY * 1_000_000 / KEY_DAY))
    });
    lived.chain(calls_in(records)).collect()
}

/// The rows of an account, all or those of a month.
fn of_account(rows: &Rows, account: &str, month: Option<&str>) -> Rows {
    let is_kept = |row: &[String; 5]| row[1] == account && month.is_none_or(|month| row[0] == month);
    let kept = rows.iter().filter(|(row, _)| is_kept(row));
    kept.map(|(row, quantity)| (row.clone(), quantity.clone())).collect()
}

/// The months of an account, page by page.
async fn months_of(reader: &Clients, account: &str) -> Vec<String> {
    let mut months = Vec::new();
    let mut request =
        GetMeteringRequest { account: account.to_owned(), page_size: 1, ..GetMeteringRequest::default() };
    loop {
        let page = ask(reader, request.clone()).await.expect("may read");
        assert!(page.months.iter().all(|one| one.account == account));
        months.extend(page.months.into_iter().map(|one| one.month));
        if page.next_page_token.is_empty() {
            return months;
        }
        request.page_token = page.next_page_token;
    }
}

/// Calls of two accounts over some months: keys of all kinds, batches, refusals, deletions, and restarts.
async fn live(dev: &mut Dev) {
    let mut admin = dev.user(0, "admin").await;
    let symmetric = create(&mut admin, "symmetric", KeySpec::Aes256, KeyOrigin::Kms).await;
    let pair = create(&mut admin, "pair", KeySpec::EcP256, KeyOrigin::Kms).await;
    create(&mut admin, "brought", KeySpec::Aes256, KeyOrigin::External).await;
    let request =
        GenerateDataKeyRequest { key: by_service("obs"), length: 32, ..GenerateDataKeyRequest::default() };
    admin.data.generate_data_key(request).await.expect("the default key is made");
    let batch = |count| GenerateDataKeysRequest {
        key: by_id(&symmetric),
        length: 32,
        count,
        with_plaintext: true,
        ..GenerateDataKeysRequest::default()
    };
    admin.data.generate_data_keys(batch(7)).await.expect("made");
    assert_eq!(refusal(admin.data.generate_data_keys(batch(0)).await.map(drop)).0, Code::InvalidArgument);
    advance(dev, 9).await;

    schedule(&mut admin, &pair, 7).await;
    let mut nobody = dev.user(0, "nobody").await;
    for _ in 0..3 {
        let request = DisableKeyRequest { key_id: symmetric.clone() };
        let refused = nobody.keys.disable_key(request).await.expect_err("may do nothing");
        assert_eq!(reason(&refused), "PERMISSION_DENIED");
    }
    advance(dev, 20).await; // it is destroyed
    dev.restart();
    let mut other = dev.user(1, "admin").await;
    let theirs = create(&mut other, "theirs", KeySpec::Aes256, KeyOrigin::Kms).await;
    let mut admin = dev.user(0, "admin").await;
    schedule(&mut admin, &symmetric, 90).await;
    schedule(&mut other, &theirs, 300).await;
    advance(dev, 40).await; // over the end of a month, whatever day it is
    dev.kill();
    dev.start_again();
    let mut admin = dev.user(0, "admin").await;
    let request = CancelKeyDeletionRequest { key_id: symmetric.clone() };
    admin.keys.cancel_key_deletion(request).await.expect("cancelled");
    admin
        .keys
        .disable_key(DisableKeyRequest { key_id: symmetric })
        .await
        .expect_err("it is disabled already");
    advance(dev, 33).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sums_are_those_of_the_records() {
    let mut dev = dev(&["--traffic-control=off", "--clock=manual"]);
    live(&mut dev).await;
    let operator = dev.operator().await;
    let whole = ask(&operator, GetMeteringRequest::default()).await.expect("may read");
    assert!(whole.whole_since.is_none());
    let until = whole.until.expect("a moment");
    let until = i128::from(until.seconds) * 1_000_000 + i128::from(until.nanos / 1000);
    let served = csv(&dev, &["--from-server", "--operator"]);
    let own = csv(&dev, &["--from-server"]);

    let account = dev.description.account(0).domain_id;
    let months = months_of(&dev.user(0, "admin").await, &account).await;
    assert!(months.len() >= 4, "{months:?}");
    let second = csv(&dev, &["--from-server", "--operator", "--month", &months[1], "--account-id", &account]);

    let directory = dev.directory().to_owned();
    let until_text = OffsetDateTime::from_unix_timestamp_nanos(until * 1000).expect("a time");
    let until_text = until_text.format(&Rfc3339).expect("a time");
    assert!(dev.stop().success());
    let path = directory.to_str().expect("text");
    let offline = csv(&dev, &[path, "--until", &until_text]);
    let expected = counted(&records(&directory), until);
    assert!(expected.keys().filter(|row| row[2] == "keys").count() > 10, "{expected:#?}");
    assert_eq!(offline, expected);
    assert_eq!(served, expected);
    assert_eq!(own, of_account(&expected, &account, None), "an account sees its own");
    assert_eq!(second, of_account(&expected, &account, Some(&months[1])));
    check_what_was_done(&of_account(&expected, &account, None));
}

/// That the plain count itself has what [`live`] did.
fn check_what_was_done(rows: &Rows) {
    let quantity = |item: &str, name: &str, unit: &str| {
        let found = rows.iter().filter(|(row, _)| row[2..] == [item, name, unit]);
        found.map(|(_, quantity)| quantity.parse::<f64>().expect("a number")).sum::<f64>()
    };
    assert!(
        (quantity("calls", "GenerateDataKey", "answered") - 8.0).abs() < 0.1,
        "one, and those of the batch"
    );
    assert!((quantity("calls", "DisableKey", "refused") - 4.0).abs() < 0.1);
    assert!(
        quantity("keys", "custom-asymmetric", "key-days") < 9.2,
        "a key that waits for its deletion is free"
    );
    assert!(quantity("keys", "custom-symmetric", "key-days") > 100.0, "unless that is cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_checked() {
    let dev = dev(&[]);
    let admin = dev.user(0, "admin").await;
    let malformed = |field: &str| GetMeteringRequest {
        account: if field == "account" { "a b".into() } else { String::new() },
        from_month: if field == "from_month" { "2026-13".into() } else { String::new() },
        until_month: if field == "until_month" { "November".into() } else { String::new() },
        page_size: if field == "page_size" { 1001 } else { 0 },
        page_token: if field == "page_token" { "2026".into() } else { String::new() },
    };
    for field in ["account", "from_month", "until_month", "page_size", "page_token"] {
        assert_eq!(malformed_field(ask(&admin, malformed(field)).await), field);
    }
    let other = GetMeteringRequest { account: dev.description.account(1).domain_id, ..Default::default() };
    assert_eq!(ask(&admin, other).await.expect("may read").months, [], "nothing of another's");
    let nobody = dev.user(0, "nobody").await;
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    assert_eq!(refusal(ask(&nobody, GetMeteringRequest::default()).await), denied);
}

/// A service that archives its log into a directory, and keeps little of it.
async fn archiving() -> (Serve, PathBuf) {
    let mut serve = Serve::prepare();
    let place = serve.directory().join("archive");
    fs::create_dir(&place).expect("a directory");
    serve.add_configuration(&format!(
        "[audit]\nsegment_bytes = 65536\n[audit.archive]\ndirectory = \"{}\"\nkeep_segments = 1\n",
        place.display()
    ));
    assert!(serve.run("init").status.success());
    serve.start().await;
    (serve, place)
}

/// Whether `dewctl usage` says that it is not whole, and how many data keys it counts.
fn data_keys_offline(serve: &Serve, directories: &[&Path]) -> (bool, u64) {
    let directories = directories.iter().map(|path| path.to_str().expect("text"));
    let arguments: Vec<&str> = ["--json", "usage"].into_iter().chain(directories).collect();
    let output = serve.dewctl(&arguments).output().expect("dewctl starts");
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let is_partial = String::from_utf8_lossy(&output.stderr).contains("whole since");
    assert_eq!(told["whole_since"].is_string(), is_partial);
    let months = told["months"].as_array().expect("months").iter();
    let calls = months.flat_map(|month| month["calls"].as_array().expect("calls"));
    let data_keys = calls.filter(|calls| calls["operation"] == "GenerateDataKey");
    (is_partial, data_keys.map(|calls| calls["answered"].as_u64().expect("a number")).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_are_archived_stay_counted_over_restarts() {
    let (mut serve, place) = archiving().await;
    let asked = GetMeteringRequest::default();
    let data = serve.directory().join("data");
    let begin = || kms_audit::first_sequence(&data.join("audit")).expect("a log");
    let files = serve.authority.client("admin", &[ADMIN], valid());
    let connect = async |serve: &Serve| {
        serve.connect(Identity { files: Some(files.clone()), ..Identity::default() }).await
    };
    let mut admin = connect(&serve).await;
    let key_id = create(&mut admin, "used", KeySpec::Aes256, KeyOrigin::Kms).await;
    let request = GenerateDataKeyRequest { key: by_id(&key_id), ..GenerateDataKeyRequest::default() };
    // Enough for several segments.
    for _ in 0..500 {
        admin.data.generate_data_key(request.clone()).await.expect("made");
    }
    eventually("the first segment is gone", async || (begin() > 0).then_some(())).await;
    let answered = |metering: &GetMeteringResponse| {
        let all = metering.months.iter().flat_map(|month| &month.calls);
        all.filter(|calls| calls.operation == "GenerateDataKey").map(|calls| calls.answered).sum::<u64>()
    };
    let check_whole = |metering: &GetMeteringResponse, calls: u64| {
        assert_eq!((answered(metering), metering.whole_since), (calls, None));
        assert!(metering.months.iter().any(|month| !month.keys.is_empty()), "the key is counted, too");
    };
    check_whole(&ask(&admin, asked.clone()).await.expect("may read"), 500);
    assert!(serve.stop().success());
    serve.start().await;
    let mut admin = connect(&serve).await;
    check_whole(&ask(&admin, asked.clone()).await.expect("may read"), 500);
    // Neither twice nor not at all: what was counted before it was kept, and after.
    for _ in 0..100 {
        admin.data.generate_data_key(request.clone()).await.expect("made");
    }
    serve.kill();
    serve.start().await;
    check_whole(&ask(&serve.operator().await, asked.clone()).await.expect("may read"), 600);

    // What was kept is altered: it is not believed, and the lines that are gone are not counted.
    assert!(serve.stop().success());
    let kept = fs::read_to_string(data.join("metering")).expect("kept");
    fs::write(data.join("metering"), kept.replacen("\"month\"", "\"Month\"", 1)).expect("written");
    serve.start().await;
    let left = ask(&serve.operator().await, asked).await.expect("may read");
    assert!(left.whole_since.is_some() && answered(&left) < 600, "{left:?}");
    assert!(serve.stop().success());

    let log_name = fs::read_dir(&place).expect("an archive").next().expect("one").expect("an entry").path();
    let (is_partial, counted) = data_keys_offline(&serve, &[&data]);
    assert!(is_partial && counted <= answered(&left), "{counted}");
    assert_eq!(data_keys_offline(&serve, &[&log_name, &data]), (false, 600));
    let empty = tempfile::tempdir().expect("a directory");
    let refused = serve.dewctl(&["usage", empty.path().to_str().expect("text")]).output().expect("it starts");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
