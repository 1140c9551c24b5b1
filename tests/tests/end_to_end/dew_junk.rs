//! Whatever comes to DEW's REST protocol is answered as DEW answers: in its forms, with a request's id, and never as a
//! failure of the service.

use std::{collections::BTreeMap, fs, path::Path};

use dewpoint_tests::{Dev, DevOptions, Rest, RestAnswer, RestRequest};
use hyper::Method;
use proptest::{
    collection::vec, prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner,
};
use serde_json::{Map, Value, json};

/// How many requests each operation gets.
const ROUNDS: usize = 100;

/// Fields that operations read.
const FIELDS: &[&str] = &[
    "key_id",
    "key_alias",
    "key_spec",
    "key_usage",
    "key_description",
    "origin",
    "keystore_id",
    "pending_days",
    "limit",
    "marker",
    "offset",
    "key_state",
    "sequence",
    "datakey_length",
    "additional_authenticated_data",
    "encryption_context",
    "pin",
    "plain_text",
    "datakey_plain_length",
    "cipher_text",
    "datakey_cipher_length",
    "random_data_length",
    "with_plain_text",
    "destination_key_id",
    "encryption_algorithm",
    "message",
    "message_type",
    "signature",
    "signing_algorithm",
    "mac",
    "mac_algorithm",
    "public_key",
    "key_agreement_algorithm",
    "wrapping_algorithm",
    "import_token",
    "encrypted_key_material",
    "encrypted_privatekey",
    "expiration_time",
    "grantee_principal",
    "grantee_principal_type",
    "operations",
    "grant_id",
    "tag",
    "tags",
    "matches",
    "action",
    "alias",
    "aliases",
    "target_key_id",
    "rotation_interval",
    "replica_region",
    "replica_project_id",
    "primary_region",
    "keystore_alias",
    "hsm_cluster_id",
    "cluster_id",
    "keystore_type",
    "enterprise_project_id",
    "vm_id",
];

/// Every operation's method and path, as docs/dew-compat.md has them.
fn operations() -> Vec<(Method, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dew-compat.md");
    let document = fs::read_to_string(path).expect("it is in the repository");
    let table = document.split("## Every operation").nth(1).expect("the table");
    let calls = table.lines().filter_map(|line| line.split(" | ").nth(1)?.split_once(" `"));
    let calls = calls.map(|(method, path)| {
        let path = path.trim_end_matches('`').replace('…', "/v1.0/{project_id}");
        (method.parse().expect("a method"), path)
    });
    let mut calls: Vec<_> = calls.collect();
    assert_eq!(calls.len(), 75);
    // What SDKs ask of IAM, at the same place, and what nothing answers to.
    calls.push((Method::POST, "/v3/auth/tokens".to_owned()));
    calls.push((Method::GET, "/v3/projects".to_owned()));
    calls.push((Method::PATCH, "/v1.0/{project_id}/kms/{anything}".to_owned()));
    calls
}

/// Texts of which some mean something; these do.
fn texts(known: Vec<String>) -> impl Strategy<Value = String> + Clone {
    let known = select(known);
    prop_oneof![4 => known, 1 => "[ -~]{0,40}", 1 => "\\PC{0,40}", 1 => "[0-9a-f]{0,256}", 1 => "[A-Za-z0-9+/]{0,64}={0,2}"]
}

fn values(known: Vec<String>) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => texts(known).prop_map(Value::String),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let object = vec((select(vec!["key", "value", "values", "a"]), inner.clone()), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::Array),
            object
                .prop_map(|pairs| pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

/// Bodies: objects of fields that are known, any JSON, and any bytes.
fn bodies(known: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let fields = vec((select(FIELDS), values(known.clone())), 0..8);
    let object = fields.prop_map(|fields| {
        let fields: Map<_, _> = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Value::Object(fields).to_string().into_bytes()
    });
    prop_oneof![
        6 => object,
        1 => values(known).prop_map(|value| value.to_string().into_bytes()),
        1 => vec(any::<u8>(), 0..200),
        1 => (1..2000_usize).prop_map(|depth| vec![b'['; depth]),
        1 => Just(br#"{"key_id":"a","key_id":"b"}"#.to_vec()),
    ]
}

/// A part of a path, or of a query, with every byte that is not plain in escapes.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02x}")
                }
            },
        )
        .collect()
}

/// A path whose parameters are these texts.
fn filled(mut path: String, mut text: impl FnMut() -> String) -> String {
    while let Some((before, (_, after))) =
        path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        path = format!("{before}{}{after}", escaped(&text()));
    }
    path
}

/// The answer has DEW's form, and is no failure.
fn check(request: &RestRequest, answer: &RestAnswer) {
    let told = || format!("{request:?}: {answer:?}");
    assert!(answer.status < 500, "{}", told());
    assert_eq!(answer.request_id().len(), 36, "{}", told());
    if answer.status < 300 {
        assert_eq!(answer.code(), "", "{}", told());
    } else {
        let number = answer.code().strip_prefix("KMS.").or(answer.code().strip_prefix("APIGW."));
        assert!(number.is_some_and(|number| number.len() == 4), "{}", told());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_is_answered_as_dew_answers() {
    let arguments = ["--insecure-plain-http", "--traffic-control=off"].map(str::to_owned).to_vec();
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let (rest, account) = (Rest::of(&dev.description), dev.description.account(0));
    let project = account.projects[0].0.clone();
    let token = token(&dev, &rest).await;
    let key = key(&rest, &project, &token).await;
    let known = [
        &*key,
        &*project,
        "junk",
        "alias/junk",
        "AES_256",
        "RSA_2048",
        "32",
        "256",
        "1",
        "",
        "AAAA",
        "create",
        "filter",
    ];
    let known: Vec<_> = known.map(str::to_owned).to_vec();
    let (parts, junk) = (texts(known.clone()), bodies(known));
    let query = vec((select(vec!["limit", "marker", "offset", "key_id", "sequence"]), parts.clone()), 0..3);
    // The same requests in every run: a failure is found again.
    let mut runner = TestRunner::deterministic();
    let mut statuses = BTreeMap::new();
    for (method, path) in operations() {
        for round in 0..ROUNDS {
            // Most requests come to where they mean something.
            let path = if round % 8 == 0 {
                path.clone()
            } else {
                path.replace("{project_id}", &project).replace("{key_id}", &key)
            };
            let target = filled(path, || parts.new_tree(&mut runner).expect("a text").current());
            let query = query.new_tree(&mut runner).expect("a query").current();
            let query: Vec<_> =
                query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
            let body = junk.new_tree(&mut runner).expect("a body").current();
            let request =
                RestRequest::new(method.clone(), &target, &Value::Null).with("x-auth-token", &token);
            let request = RestRequest { query: query.join("&"), body, ..request };
            let answer = rest.send(&request).await;
            check(&request, &answer);
            *statuses.entry(answer.status).or_insert(0) += 1;
        }
    }
    // Some of it means something.
    assert!(statuses[&200] > 50 && statuses[&400] > 500, "{statuses:?}");
}

/// A key that some of the requests name.
async fn key(rest: &Rest, project: &str, token: &str) -> String {
    let body = json!({"key_alias": "junk"});
    let request = RestRequest::new(Method::POST, &format!("/v1.0/{project}/kms/create-key"), &body);
    let answer = rest.send(&request.with("x-auth-token", token)).await;
    answer.body["key_info"]["key_id"].as_str().expect("an id").to_owned()
}

/// A login's token: it needs no signature of what no client would send.
async fn token(dev: &Dev, rest: &Rest) -> String {
    let account = dev.description.account(0);
    let admin = account.user("admin");
    let user = json!({"name": admin.name, "password": admin.password, "domain": {"name": account.name}});
    let identity = json!({"methods": ["password"], "password": {"user": user}});
    let body = json!({"auth": {"identity": identity, "scope": {"project": {"id": account.projects[0].0}}}});
    let request = RestRequest::new(Method::POST, "/v3/auth/tokens", &body);
    let answer = rest.send(&request.with("content-type", "application/json")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("x-subject-token").to_owned()
}
