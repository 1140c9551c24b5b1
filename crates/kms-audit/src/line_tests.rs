//! The bytes of lines: canonical, and the same after reading and writing.

use std::{collections::BTreeMap, time::Duration};

use kms_core::{
    BucketKeyNote, MadeKey, Moved, Phase, Record, Timestamp, Verdict,
    bucket_key::BucketKeyId,
    grant::GrantId,
    identity::{
        AccessKeyId, AccountId, Caller, Credential, ProjectId, Region, ServiceName, Stranger, UserId,
    },
    key::{KeyId, KeyOrigin, KeySpec},
    operation::{Action, OperationName, Permissions},
};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    glance::Glance,
    line::{Line, ParseError, RecordLine, push_line},
};

fn line_of(sequence: u64, record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_line(&mut bytes, &RecordLine::new(sequence, record)).expect("a record can be written");
    assert_eq!(bytes.pop(), Some(b'\n'));
    bytes
}

/// RFC 8785 for what occurs in the log: members sorted by UTF-16 code units, no blanks, integers.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.encode_utf16().collect::<Vec<_>>());
            let members: Vec<String> = members
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        scalar => {
            assert!(!scalar.is_f64(), "no fractions in the log");
            scalar.to_string()
        }
    }
}

fn credentials() -> impl Strategy<Value = Credential> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(Credential::Certificate),
        "[A-Z0-9]{1,64}".prop_map(|id| Credential::AccessKey(AccessKeyId::parse(&id).expect("a name"))),
        "[a-z0-9]{1,64}".prop_map(|id| Credential::Password(UserId::parse(&id).expect("a name"))),
        any::<i64>().prop_map(|micros| Credential::Token { issued: Timestamp::from_micros(micros) }),
    ]
}

prop_compose! {
    fn callers()(
        names in prop::array::uniform4("[A-Za-z0-9._-]{1,64}"),
        service in prop::option::of("[a-z]{1,8}"),
        credential in credentials(),
        address: std::net::IpAddr,
        port: u16,
    ) -> Caller {
        let [account, user, project, region] = names;
        Caller {
            account: AccountId::parse(&account).expect("a name"),
            user: UserId::parse(&user).expect("a name"),
            project: ProjectId::parse(&project).expect("a name"),
            region: Region::parse(&region).expect("a name"),
            projects: std::sync::Arc::new([]),
            acting_service: service.map(|name| ServiceName::parse(&name).expect("a name")),
            permissions: Permissions::NONE,
            credential,
            source: (address, port).into(),
        }
    }
}

prop_compose! {
    fn records()(
        // The years that RFC 3339 can write, and beyond.
        micros in prop_oneof![0_i64..253_402_300_800_000_000, any::<i64>()],
        request: u128,
        operation in prop::sample::select(OperationName::ALL),
        phase in prop::sample::select(vec![Phase::Complete, Phase::Intent, Phase::Outcome, Phase::Recovery]),
        verdict in prop::sample::select(
            vec![Verdict::Pending, Verdict::Succeeded, Verdict::Denied, Verdict::Failed]
        ),
        caller in prop::option::of(callers()),
        key in prop::option::of((
            any::<u128>(),
            any::<u32>(),
            prop::option::of("[0-9a-f]{64}"),
            prop::option::of((any::<u32>(), any::<[u8; 8]>())),
        )),
        refusal in prop::option::of((
            prop::sample::select(vec!["KEY_DISABLED", "a \"quoted\"\nreason"]),
            prop::sample::select(Action::ALL.to_vec()),
            prop::option::of(any::<String>()),
        )),
        context in prop::collection::btree_map(any::<String>(), "[0-9a-f]{64}", 0..5),
        source in prop::option::of((any::<u128>(), any::<u32>(), prop::collection::btree_map(any::<String>(), "[0-9a-f]{64}", 0..5))),
        state_digest in prop::option::of(any::<[u8; 32]>()),
        archived_lines: Option<u64>,
        bucket_key in prop::option::of((any::<u128>(), prop::option::of(any::<i64>()), any::<Option<u64>>())),
        made in prop::option::of((prop::sample::select(KeySpec::ALL.to_vec()), any::<bool>())),
        latency in 0..u64::MAX,
        count: u64,
    ) -> Record {
        Record {
            time: Timestamp::from_micros(micros),
            request_id: Uuid::from_u128(request),
            operation,
            phase,
            verdict,
            caller,
            key_id: key.as_ref().map(|(id, ..)| KeyId::from_uuid(Uuid::from_u128(*id))),
            key_version: key.as_ref().map(|(_, version, ..)| *version),
            reason: refusal.as_ref().map(|(reason, ..)| *reason),
            moved: key.as_ref().and_then(|(.., moved)| *moved).map(|(from_version, item)| Moved { from_version, item }),
            missing_action: refusal.as_ref().map(|(_, action, _)| *action),
            grant_id: key.and_then(|(_, _, id, _)| id).map(|id| GrantId::parse(&id).expect("an id")),
            ruling: refusal.and_then(|(.., ruling)| ruling),
            context,
            stranger: None,
            source_key_id: source.as_ref().map(|(id, ..)| KeyId::from_uuid(Uuid::from_u128(*id))),
            source_key_version: source.as_ref().map(|(_, version, _)| *version),
            source_context: source.map(|(.., context)| context).unwrap_or_default(),
            state_digest,
            archived_lines,
            bucket_key: bucket_key.map(|(id, valid_until, uses)| BucketKeyNote {
                id: BucketKeyId::from_uuid(Uuid::from_u128(id)),
                valid_until: valid_until.map(Timestamp::from_micros),
                uses,
            }),
            made: made.map(|(spec, brought)| MadeKey {
                spec,
                origin: if brought { KeyOrigin::External } else { KeyOrigin::Kms },
            }),
            latency: Duration::from_micros(latency),
            count,
        }
    }
}

proptest! {
    #[test]
    fn a_line_is_its_own_canonical_form(record in records(), sequence: u64) {
        let line = line_of(sequence, &record);
        let value: Value = serde_json::from_slice(&line).expect("JSON");
        prop_assert_eq!(canonical(&value).into_bytes(), line);
    }

    #[test]
    fn reading_a_line_gives_back_what_was_written(record in records(), sequence: u64) {
        let line = line_of(sequence, &record);
        let Ok(Line::Record(read)) = Line::parse(&line) else { panic!("not read: {line:?}") };
        prop_assert_eq!(*read, RecordLine::new(sequence, &record));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(record in records(), at: prop::sample::Index, byte: u8) {
        let mut line = line_of(1, &record);
        let at = at.index(line.len());
        line[at] = byte;
        let _ = Line::parse(&line);
        let _ = Line::parse(&line[..at]);
    }
}

/// That a glance at a line accepts no more than [`Line::parse`] does, and says the same; answers whether it accepts it.
fn check_glance(line: &[u8]) -> bool {
    let Some(glance) = Glance::of(line) else { return false };
    let text = String::from_utf8_lossy(line);
    match Line::parse(line) {
        Ok(Line::Record(record)) => assert_eq!(glance, Glance::from(&*record), "{text}"),
        other => panic!("{text} is accepted at a glance: {other:?}"),
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_glance_at_a_line_says_what_a_look_at_it_does(record in records(), sequence: u64) {
        let line = line_of(sequence, &record);
        let is_plain = line.iter().all(|byte| (b' '..=b'~').contains(byte) && *byte != b'\\');
        let is_dated = !line.windows(2).any(|pair| pair == b"\"@");
        prop_assert_eq!(check_glance(&line), is_plain && is_dated);
    }

    #[test]
    fn a_glance_accepts_no_line_that_a_look_refuses(
        record in prop_oneof![records(), Just(sample())],
        sequence in 0..1000_u64,
        // Where, how much is left out, and what is put there.
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..3_usize, prop_oneof!["[0-9a-fA-F]{0,2}", "[\"\\\\{}:,.@ +TZxn\u{e9}-]{0,2}"]),
            1..3,
        ),
    ) {
        let mut line = line_of(sequence, &record);
        for (at, out, put) in changes {
            let at = at.index(line.len());
            let end = (at + out).min(line.len());
            line.splice(at..end, put.bytes());
            if line.is_empty() { break; }
        }
        check_glance(&line);
    }
}

fn sample() -> Record {
    Record {
        caller: Some(Caller {
            account: AccountId::parse("acme").expect("a name"),
            user: UserId::parse("admin").expect("a name"),
            project: ProjectId::parse("p1").expect("a name"),
            region: Region::parse("cn-north-4").expect("a name"),
            projects: std::sync::Arc::new([]),
            acting_service: Some(ServiceName::parse("obs").expect("a name")),
            permissions: Permissions::NONE,
            credential: Credential::Certificate([0xab; 32]),
            source: ([192, 0, 2, 1], 4711).into(),
        }),
        context: BTreeMap::from([("bucket".to_owned(), "00ff".to_owned())]),
        key_id: Some(KeyId::from_uuid(Uuid::from_u128(1))),
        key_version: Some(3),
        ..kms_core::testing::audit::sample_record(2, Phase::Complete)
    }
}

#[test]
fn the_format_is_as_documented() {
    let expected = concat!(
        r#"{"account":"acme","acting_service":"obs","action":"kms:cmk:enable","#,
        r#""certificate":"abababababababababababababababababababababababababababababababab","#,
        r#""context":{"bucket":"00ff"},"count":1,"key_id":"00000000-0000-0000-0000-000000000001","#,
        r#""key_version":3,"latency_us":250,"operation":"EnableKey","phase":"complete","project":"p1","#,
        r#""region":"cn-north-4","request_id":"00000000-0000-0000-0000-000000000002","seq":7,"#,
        r#""source":"192.0.2.1:4711","time":"2026-11-24T13:24:05.000000Z","trace_name":"enableKey","#,
        r#""user":"admin","v":1,"verdict":"succeeded"}"#,
    );
    assert_eq!(String::from_utf8(line_of(7, &sample())).expect("UTF-8"), expected);
}

#[test]
fn each_credential_has_its_own_member() {
    let key = Credential::AccessKey(AccessKeyId::parse("AK1").expect("a name"));
    let token = Credential::Token { issued: Timestamp::from_micros(1) };
    let password = Credential::Password(UserId::parse("u1").expect("a name"));
    for (credential, member) in [
        (password, r#","password_of":"u1","phase":"#),
        (key.clone(), r#"{"access_key_id":"AK1","account":"acme","#),
        (token, r#","token_issued":"1970-01-01T00:00:00.000001Z","trace_name":"#),
    ] {
        let mut record = sample();
        record.caller.as_mut().expect("one").credential = credential;
        let line = String::from_utf8(line_of(7, &record)).expect("UTF-8");
        assert!(line.contains(member) && !line.contains("certificate"), "{line}");
    }
    let claimed = Stranger { source: ([192, 0, 2, 1], 4711).into(), credential: Some(key) };
    let record = Record { caller: None, stranger: Some(claimed), ..sample() };
    let line = String::from_utf8(line_of(7, &record)).expect("UTF-8");
    assert!(line.starts_with(r#"{"access_key_id":"AK1","action":"#), "{line}");
}

#[test]
fn other_bytes_for_the_same_content_are_refused() {
    let line = String::from_utf8(line_of(7, &sample())).expect("UTF-8");
    for (from, to) in [
        (r#""count":1"#, r#""count": 1"#),
        ("acme", "\\u0061cme"),
        ("abab", "ABAB"),
        (r#""count":1,"#, ""),
        (r#""count":1,"#, r#""count":1,"extra":1,"#),
        ("13:24:05.000000Z", "13:24:05.00000Z"),
        (r#""phase":"complete""#, r#""phase":"finished""#),
    ] {
        let changed = line.replacen(from, to, 1);
        assert_ne!(changed, line);
        Line::parse(changed.as_bytes()).expect_err(&changed);
    }
    let newer = line.replace(r#""v":1"#, r#""new_field":true,"v":2"#);
    assert!(matches!(Line::parse(newer.as_bytes()), Err(ParseError::Version(2))));
}

#[test]
fn a_glance_knows_what_is_canonical() {
    let line = String::from_utf8(line_of(7, &sample())).expect("UTF-8");
    for (from, to) in [
        (r#""seq":7"#, r#""seq":07"#),
        (r#""seq":7"#, r#""seq":+7"#),
        (r#""seq":7"#, r#""seq":18446744073709551616"#),
        (r#""seq":7"#, r#""seq":7.0"#),
        (r#""key_version":3"#, r#""key_version":4294967296"#),
        (r#""key_version":3,"#, r#""key_version":null,"#),
        (r#""context":{"bucket":"00ff"},"#, r#""context":{},"#),
        (r#"{"bucket":"00ff"}"#, r#"{"bucket":"00ff","a":"00ff"}"#),
        (r#"{"bucket":"00ff"}"#, r#"{"bucket":"00ff","bucket":"00ff"}"#),
        (r#"{"bucket":"00ff"}"#, r#"{"bucket":"00ff",}"#),
        ("192.0.2.1:4711", "192.0.2.1:04711"),
        ("192.0.2.1:4711", "192.0.02.1:4711"),
        ("192.0.2.1:4711", "192.0.2.256:4711"),
        ("192.0.2.1:4711", "192.0.2.1:65536"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("192.0.2.1:4711", "[::0:1]:4711"),
        ("192.0.2.1:4711", "[::C000:201]:4711"),
        ("2026-11-24T13:24:05", "2026-02-29T13:24:05"),
        ("2026-11-24T13:24:05", "2026-13-24T13:24:05"),
        ("2026-11-24T13:24:05", "2026-11-24T24:24:05"),
        ("2026-11-24T13:24:05", "2026-11-24T23:59:60"),
        ("2026-11-24T13:24:05", "2026-11-24t13:24:05"),
        ("2026-11-24T13:24:05", "1969-11-24T13:24:05"),
        ("05.000000Z", "05.000000z"),
        ("000000000001\"", "00000000000A\""),
        ("EnableKey", "EnabledKey"),
        (r#""verdict":"succeeded"}"#, r#""verdict":"succeeded"} "#),
        (r#""verdict":"succeeded"}"#, r#""verdict":"succeeded""#),
        (r#"{"account""#, r#"{,"account""#),
        (r#""account":"acme","#, r#""account":"acme","account":"acme","#),
    ] {
        let changed = line.replacen(from, to, 1);
        assert_ne!(changed, line);
        Line::parse(changed.as_bytes()).expect_err(&changed);
        assert!(!check_glance(changed.as_bytes()), "{changed}");
    }
    for (from, to) in [
        ("192.0.2.1:4711", "[::1]:0"),
        ("192.0.2.1:4711", "[fe80::1%3]:65535"),
        ("2026-11-24T13:24:05", "2024-02-29T23:59:59"),
        ("2026-11-24T13:24:05", "9999-12-31T23:59:59"),
        ("2026-11-24T13:24:05", "1970-01-01T00:00:00"),
    ] {
        assert!(check_glance(line.replacen(from, to, 1).as_bytes()), "{to}");
    }
}
