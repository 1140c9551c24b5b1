//! Reading the audit log: by pages over several segments, as a stream, by `dewctl`; who sees what, and that it is recorded.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    sync::mpsc::channel,
    time::Duration,
};

use dewpoint_tests::{
    Clients, Context, Dev, by_id, check_log, context, malformed_field, reason, records, refusal,
};
use kms_audit::{FileLog, LogConfig};
use kms_core::{
    Phase, Record, Timestamp, Verdict,
    identity::{AccountId, Caller, Credential, Permissions, ProjectId, Region, UserId},
    operation::OperationName,
    ports::AuditLog as _,
};
use kms_proto::v1::{
    self, AuditRecord, CreateGrantRequest, GrantOperation, Grantee, QueryRecordsRequest, RecordFilter,
    RecordOrder, ReloadIdentitiesRequest, StreamRecordsRequest, audit_service_client::AuditServiceClient,
    grant_service_client::GrantServiceClient, grantee::Principal,
};
use serde_json::Value;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

/// How long something may take that comes at once.
const SOON: Duration = Duration::from_secs(20);

fn all() -> RecordFilter {
    RecordFilter::default()
}

fn of_operation(name: &str) -> RecordFilter {
    RecordFilter { operation: name.to_owned(), ..all() }
}

async fn page(reader: &Clients, request: QueryRecordsRequest) -> Result<v1::QueryRecordsResponse, Status> {
    let answer = AuditServiceClient::new(reader.channel.clone()).query_records(request).await;
    answer.map(tonic::Response::into_inner)
}

/// All records that fit, by pages.
async fn find(
    reader: &Clients,
    filter: RecordFilter,
    order: RecordOrder,
    page_size: u32,
) -> Vec<AuditRecord> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let filter = Some(filter.clone());
        let request = QueryRecordsRequest { filter, order: order.into(), page_size, page_token };
        let answer = page(reader, request).await.expect("may read");
        assert!(answer.records.len() <= usize::try_from(page_size).expect("small"));
        found.extend(answer.records);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

async fn newest(reader: &Clients, filter: RecordFilter) -> Vec<AuditRecord> {
    find(reader, filter, RecordOrder::NewestFirst, 1000).await
}

async fn stream(
    reader: &Clients,
    request: StreamRecordsRequest,
) -> Result<Streaming<v1::StreamRecordsResponse>, Status> {
    let begun = AuditServiceClient::new(reader.channel.clone()).stream_records(request).await;
    begun.map(tonic::Response::into_inner)
}

fn follow(filter: RecordFilter) -> StreamRecordsRequest {
    StreamRecordsRequest { filter: Some(filter), from_seq: None, follow: true }
}

/// The next message of a stream that has records.
async fn next(stream: &mut Streaming<v1::StreamRecordsResponse>) -> Result<Vec<AuditRecord>, Status> {
    loop {
        let message = timeout(SOON, stream.message()).await.expect("it comes soon")?;
        let message = message.expect("the stream goes on");
        if !message.records.is_empty() {
            return Ok(message.records);
        }
    }
}

fn operations(records: &[AuditRecord]) -> Vec<&str> {
    records.iter().map(|record| record.operation.as_str()).collect()
}

/// The log as it lies in the directory, line by line.
fn lines(directory: &Path) -> Vec<(u64, Vec<u8>)> {
    let entries =
        kms_audit::read(&directory.join("audit")).expect("a log").map(|entry| entry.expect("a line"));
    let records = entries.filter(|entry| matches!(entry.line, kms_audit::Line::Record(_)));
    records.map(|entry| (entry.line.sequence(), entry.bytes)).collect()
}

/// Writes records of a user of the account into the log of a service that is stopped, in small segments.
fn fill(directory: &Path, account: &str, count: u128) {
    let (log, _) =
        FileLog::open(&directory.join("audit"), LogConfig { segment_bytes: 30_000 }, None).expect("a log");
    let name = |text: &str| AccountId::parse(text).expect("a name");
    let caller = Caller {
        account: name(account),
        user: UserId::parse("filler").expect("a name"),
        project: ProjectId::parse("p").expect("a name"),
        region: Region::parse("r").expect("a name"),
        projects: [].into(),
        acting_service: None,
        permissions: Permissions::NONE,
        credential: Credential::Certificate([7; 32]),
        source: ([127, 0, 0, 1], 4711).into(),
    };
    let (sender, receipts) = channel();
    for number in 0..count {
        let record = Record {
            time: Timestamp::from_micros(1_700_000_000_000_000),
            request_id: Uuid::from_u128(number),
            operation: OperationName::GenerateRandom,
            phase: Phase::Complete,
            verdict: Verdict::Succeeded,
            caller: Some(caller.clone()),
            stranger: None,
            key_id: None,
            key_version: None,
            moved: None,
            bucket_key: None,
            reason: None,
            missing_action: None,
            grant_id: None,
            ruling: None,
            context: BTreeMap::new(),
            source_key_id: None,
            source_key_version: None,
            source_context: BTreeMap::new(),
            state_digest: None,
            archived_lines: None,
            made: None,
            latency: Duration::ZERO,
            count: 1,
        };
        let sender = sender.clone();
        log.append(record, Box::new(move |receipt| sender.send(receipt).expect("a listener")));
        // One by one: a segment ends between two commits only.
        receipts.recv().expect("an answer").expect("durable");
    }
    log.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_either_order_hold_the_whole_log_over_its_segments() {
    let mut dev = Dev::start();
    let account = dev.description.account(0).domain_id;
    dev.user(0, "admin").await.create("key").await;
    dev.stop();
    fill(dev.directory(), &account, 400);
    let segments = fs::read_dir(dev.directory().join("audit")).expect("a directory").count();
    assert!(segments > 3, "{segments} segments are too few");
    dev.start_again();
    let operator = dev.operator().await;
    let written = lines(dev.directory());
    let read = |records: &[AuditRecord]| -> Vec<(u64, Vec<u8>)> {
        records.iter().map(|record| (record.seq, record.line.to_vec())).collect()
    };
    let last = written.last().expect("a record").0;
    for page_size in [37, 1000] {
        // The pages' own records come behind, and an upward search meets them.
        let mut found = read(&find(&operator, all(), RecordOrder::OldestFirst, page_size).await);
        found.retain(|(seq, _)| *seq <= last);
        assert_eq!(found, written, "upwards by {page_size}");
        let mut found = read(&find(&operator, all(), RecordOrder::NewestFirst, page_size).await);
        found.reverse();
        found.retain(|(seq, _)| *seq <= last);
        assert_eq!(found, written, "downwards by {page_size}");
    }
    let of_filler = RecordFilter { user: "filler".to_owned(), ..of_operation("GenerateRandom") };
    let found = newest(&operator, of_filler).await;
    assert_eq!(found.len(), 400);
    assert_eq!((found[0].account.as_str(), found[0].source.as_str()), (account.as_str(), "127.0.0.1:4711"));

    // A stream from the middle of an older segment, up to the end that the log has.
    let request = StreamRecordsRequest { filter: Some(all()), from_seq: Some(last / 2), follow: false };
    let mut stream = stream(&operator, request).await.expect("may read");
    let mut streamed = Vec::new();
    while let Some(message) = timeout(SOON, stream.message()).await.expect("soon").expect("whole") {
        streamed.extend(read(&message.records));
    }
    streamed.retain(|(seq, _)| *seq <= last);
    let expected: Vec<_> = written.iter().filter(|(seq, _)| *seq >= last / 2).cloned().collect();
    assert_eq!(streamed, expected);
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_sees_its_own_records_and_those_of_its_keys() {
    let dev = Dev::start();
    let (mut owner, mut other, operator) =
        (dev.user(0, "admin").await, dev.user(1, "admin").await, dev.operator().await);
    let key = owner.create("shared").await.key_id;
    let own = other.create("own").await.key_id;
    let sealed = owner.generate(by_id(&key), Context::new()).await.expect("its own").ciphertext_blob;
    let grantee = Principal::DomainId(dev.description.account(1).domain_id);
    let granted = CreateGrantRequest {
        key_id: key.clone(),
        grantee: Some(Grantee { principal: Some(grantee) }),
        operations: vec![GrantOperation::DecryptDatakey.into()],
        ..CreateGrantRequest::default()
    };
    GrantServiceClient::new(owner.channel.clone()).create_grant(granted).await.expect("its own");
    other.decrypt(&sealed, None, Context::new()).await.expect("granted");

    let [first, second] = [0, 1].map(|account| dev.description.account(account).domain_id);
    for (reader, account) in [(&owner, &first), (&other, &second)] {
        let seen = newest(reader, all()).await;
        assert!(!seen.is_empty() && seen.iter().all(|record| record.account == *account), "{seen:?}");
    }
    let seen = newest(&operator, all()).await;
    for account in [&first, &second] {
        assert!(seen.iter().any(|record| record.account == *account), "{account}");
    }
    // The owner of the key sees who used it; who used it sees itself; nobody learns of another's key.
    let of_key = |key: &str| RecordFilter { key_id: key.to_owned(), ..all() };
    let decryptions = RecordFilter { operation: "DecryptDataKey".to_owned(), ..of_key(&key) };
    let seen = newest(&owner, decryptions.clone()).await;
    let [decryption] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((&decryption.account, decryption.grant_id.is_empty()), (&second, false));
    assert_eq!(newest(&other, decryptions).await.len(), 1);
    assert_eq!(operations(&newest(&other, of_key(&key)).await), ["DecryptDataKey"]);
    assert_eq!(newest(&owner, of_key(&own)).await, []);

    // The permission is one of its own.
    let uploader = dev.user(0, "uploader").await;
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    assert_eq!(refusal(page(&uploader, QueryRecordsRequest::default()).await), denied);
    assert_eq!(refusal(stream(&uploader, follow(all())).await), denied);
    // Reading and its refusal are recorded.
    let readings = newest(&operator, of_operation("QueryRecords")).await;
    let of_owner = readings
        .iter()
        .filter(|record| record.account == first && record.verdict() == v1::Verdict::Succeeded);
    assert_eq!(of_owner.count(), 3);
    assert!(readings.iter().any(|record| record.key_id == key), "the key that was looked for is named");
    let refused = readings.iter().find(|record| record.verdict() == v1::Verdict::Denied).expect("recorded");
    assert_eq!(refused.missing_action, "dewpoint:audit:read");
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_a_context_value_finds_it() {
    let dev = Dev::start();
    let (mut user, operator) = (dev.user(0, "admin").await, dev.operator().await);
    let key = user.create("key").await.key_id;
    let pairs = context(&[("patient", "4711"), ("ward", "b")]);
    let made = user.generate(by_id(&key), pairs.clone()).await.expect("its own");
    user.generate(by_id(&key), context(&[("patient", "4712")])).await.expect("its own");
    user.decrypt(&made.ciphertext_blob, None, pairs).await.expect("its own");
    let holding = |pairs: &[(&str, &str)]| RecordFilter { encryption_context: context(pairs), ..all() };
    for reader in [&user, &operator] {
        let found = newest(reader, holding(&[("patient", "4711")])).await;
        assert_eq!(operations(&found), ["DecryptDataKey", "GenerateDataKey"]);
        let hash = &found[0].context["patient"];
        assert!(hash.len() == 32 && !hash.contains("4711"), "{hash}");
        for wrong in [&[("patient", "471")][..], &[("ward", "4711")], &[("patient", "4711"), ("ward", "c")]] {
            assert_eq!(newest(reader, holding(wrong)).await, [], "{wrong:?}");
        }
    }
    assert_eq!(newest(&dev.user(1, "admin").await, holding(&[("patient", "4711")])).await, []);
    let log = lines(dev.directory()).into_iter().flat_map(|(_, line)| line).collect::<Vec<_>>();
    assert!(!log.windows(6).any(|bytes| bytes == b"\"4711\""), "the value stands nowhere in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gets_what_is_done_after_its_start_until_the_service_stops() {
    let mut dev = Dev::start();
    let (mut owner, operator) = (dev.user(0, "admin").await, dev.operator().await);
    let key = owner.create("key").await.key_id;
    let mut theirs = stream(&owner, follow(of_operation("GenerateDataKey"))).await.expect("may read");
    let mut all_of_it = stream(&operator, follow(all())).await.expect("may read");
    dev.user(1, "admin").await.create("other").await;
    for _ in 0..3 {
        owner.generate(by_id(&key), Context::new()).await.expect("its own");
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(next(&mut theirs).await.expect("goes on"));
    }
    assert!(seen.len() == 3 && seen.iter().all(|record| record.key_id == key), "{seen:?}");
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(next(&mut all_of_it).await.expect("goes on"));
    }
    let expected = ["CreateKey", "CreateKey", "GenerateDataKey", "GenerateDataKey", "GenerateDataKey"];
    assert_eq!(operations(&seen), expected, "nothing from before the stream, not even its own record");
    let recorded = records(dev.directory());
    assert_eq!(recorded.iter().filter(|record| record["operation"] == "StreamRecords").count(), 2);

    // An open stream does not hold the end up, and knows it for one.
    let stopped = tokio::task::spawn_blocking(move || (dev.stop(), dev));
    let (status, dev) = timeout(SOON, stopped).await.expect("in time").expect("no panic");
    assert!(status.success(), "{status}");
    while let Some(message) = timeout(SOON, all_of_it.message()).await.expect("soon").expect("no error") {
        assert!(message.records.iter().all(|record| record.seq >= seen[4].seq));
    }
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_readers_permission_goes() {
    let dev = Dev::start();
    let (mut owner, mut operator) = (dev.user(0, "admin").await, dev.operator().await);
    let key = owner.create("key").await.key_id;
    let mut theirs = stream(&owner, follow(all())).await.expect("may read");
    let mut other = stream(&operator, follow(of_operation("GenerateDataKey"))).await.expect("may read");
    let file = dev.directory().join("identity.toml");
    let whole = fs::read_to_string(&file).expect("it is there");
    let less = whole.replace("\"kms:*:*\"", "\"kms:dek:create\"");
    assert_ne!(less, whole, "the administrator has all permissions");
    fs::write(&file, less).expect("written");
    operator.roots.reload_identities(ReloadIdentitiesRequest {}).await.expect("a sound file");
    owner.generate(by_id(&key), Context::new()).await.expect("its own");
    // What came before the change may be shown still.
    let status = loop {
        match next(&mut theirs).await {
            Ok(records) => assert!(!operations(&records).contains(&"GenerateDataKey"), "{records:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), &*reason(&status)), (Code::PermissionDenied, "PERMISSION_DENIED"));
    assert_eq!(next(&mut other).await.expect("an operator still may").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_filters_are_named() {
    let dev = Dev::start();
    let operator = dev.operator().await;
    let before_1970 = Some(prost_types::Timestamp { seconds: -1, nanos: 0 });
    let given = |text: &str| text.to_owned();
    let filters = [
        ("from", RecordFilter { from: before_1970, ..all() }),
        ("until", RecordFilter { until: before_1970, ..all() }),
        ("key_id", RecordFilter { key_id: given("no id"), ..all() }),
        ("account", RecordFilter { account: given("no account"), ..all() }),
        ("user", RecordFilter { user: given("no user"), ..all() }),
        ("operation", of_operation("DecryptEverything")),
        ("verdict", RecordFilter { verdict: 77, ..all() }),
        ("reason", RecordFilter { reason: given("because"), ..all() }),
        ("request_id", RecordFilter { request_id: given("7"), ..all() }),
        (
            "additional_authenticated_data",
            RecordFilter {
                encryption_context: HashMap::from([(given("a"), given("b"))]),
                additional_authenticated_data: "data".into(),
                ..all()
            },
        ),
    ];
    for (field, filter) in filters {
        let request = QueryRecordsRequest { filter: Some(filter.clone()), ..QueryRecordsRequest::default() };
        assert_eq!(malformed_field(page(&operator, request).await), field);
        assert_eq!(malformed_field(stream(&operator, follow(filter)).await), field);
    }
    let default = QueryRecordsRequest::default();
    for (field, request) in [
        ("order", QueryRecordsRequest { order: 9, ..default.clone() }),
        ("page_size", QueryRecordsRequest { page_size: 1001, ..default.clone() }),
        ("page_token", QueryRecordsRequest { page_token: given("-1"), ..default.clone() }),
    ] {
        assert_eq!(malformed_field(page(&operator, request).await), field);
    }
    let beyond = QueryRecordsRequest { page_token: u64::MAX.to_string(), order: 2, ..default };
    let answer = page(&operator, beyond).await.expect("a place that the log has not reached");
    assert_eq!((answer.records, answer.next_page_token), (Vec::new(), String::new()));
}

#[test]
fn dewctl_finds_follows_and_exports() {
    let dev = Dev::start();
    let key = dev.ctl(&["--json", "key", "create", "key"]).json();
    let key_id = key["key_id"].as_str().expect("an id");
    dev.ctl(&["--json", "key", "disable", key_id]).json();
    assert_eq!(dev.ctl(&["key", "disable", key_id]).refusal(), "KEY_NOT_ENABLED");
    let found = dev.ctl(&["--json", "audit", "query", "--key-id", key_id, "--verdict", "failed"]).json();
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found[0]["reason"], "KEY_NOT_ENABLED");
    let table = dev.ctl(&["audit", "query", "--operation", "DisableKey", "--limit", "2", "--oldest-first"]);
    assert_eq!(table.stdout.lines().count(), 3, "{table:?}");
    let tail = dev.ctl(&["audit", "tail", "-n", "1"]);
    assert!(tail.stdout.contains("QueryRecords") && tail.stdout.lines().count() == 1, "{tail:?}");

    let exported = |format: &str| {
        let ended =
            dev.ctl(&["audit", "export", "--operator", "--format", format, "--operation", "DisableKey"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("records exported"), "{ended:?}");
        ended.stdout
    };
    let written: Vec<_> = lines(dev.directory()).into_iter().map(|(_, line)| line).collect();
    let jsonl = exported("jsonl");
    assert_eq!(jsonl.lines().count(), 3, "an intent, its outcome, and a refusal");
    assert!(jsonl.lines().all(|line| written.contains(&line.as_bytes().to_vec())), "byte by byte");
    let parsed = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let traces = parsed(&exported("cloudtrace"));
    let names: Vec<_> = traces.iter().map(|trace| (&trace["trace_name"], &trace["trace_rating"])).collect();
    assert_eq!(names, [(&"disableKey".into(), &"normal".into()), (&"disableKey".into(), &"warning".into())]);
    let events = parsed(&exported("ocsf"));
    assert!(events.len() == 2 && events.iter().all(|event| event["class_uid"] == 6003), "{events:?}");
    assert!(jsonl.contains(events[0]["raw_data"].as_str().expect("a line")));

    let mut following = dev.dewctl(&["--json", "audit", "tail", "-n", "0", "-f", "--operation", "EnableKey"]);
    let mut following = following.stdout(Stdio::piped()).spawn().expect("dewctl starts");
    let mut printed = BufReader::new(following.stdout.take().expect("a pipe")).lines();
    // Its reading is recorded before it is answered: then it follows.
    let follows = |record: &Value| record["operation"] == "StreamRecords" && record["account"] != "operator";
    while !records(dev.directory()).iter().any(follows) {
        std::thread::sleep(Duration::from_millis(20));
    }
    dev.ctl(&["--json", "key", "enable", key_id]).json();
    let phases = [printed.next(), printed.next()].map(|line| {
        let line: Value = serde_json::from_str(&line.expect("a line").expect("text")).expect("JSON");
        assert_eq!(line["key_id"], key_id);
        line["phase"].as_str().expect("a phase").to_owned()
    });
    assert_eq!(phases, ["intent", "outcome"]);
    following.kill().expect("it runs");
    following.wait().expect("it ends");
}
