//! Every code of DEW that the service raises, seen on a real one: here what clients of SDKs do not provoke.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use dewpoint_tests::{Account, Context, Dev, DevOptions, Rest, RestAnswer, RestRequest, Signer, by_service};
use hyper::Method;
use kms_proto::v1::{
    AdvanceRequest, ReloadIdentitiesRequest, operator_service_client::OperatorServiceClient,
};
use serde_json::{Value, json};

/// What no request provokes: it comes of a broken device, store or log, or of a defect.
const NOT_PROVOKED: [&str; 3] = ["KMS.0101", "KMS.0102", "KMS.0103"];
/// How long an import token is good for, and a little more.
const TOO_LATE: Duration = Duration::from_secs(25 * 3600);

/// A deployment and who calls it, with what was answered so far.
struct Calls {
    dev: Dev,
    rest: Rest,
    account: Account,
    seen: BTreeSet<String>,
}

impl Calls {
    fn of(arguments: &[&str]) -> Self {
        Self::with(arguments, &[])
    }

    fn with(arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let text = |value: &Path| value.to_str().expect("UTF-8").to_owned();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        let dev = Dev::start_with(DevOptions { arguments, environment, ..DevOptions::default() });
        let (rest, account) = (Rest::of(&dev.description), dev.description.account(0));
        Self { dev, rest, account, seen: BTreeSet::new() }
    }

    fn request(&self, operation: &str, body: &Value) -> RestRequest {
        let project = &self.account.projects[0].0;
        RestRequest::new(Method::POST, &format!("/v1.0/{project}/kms/{operation}"), body)
    }

    fn signed(&self, request: RestRequest) -> RestRequest {
        self.signed_by("admin", request)
    }

    fn signed_by(&self, user: &str, request: RestRequest) -> RestRequest {
        request.signed(Signer::of(&self.account.user(user).access_key))
    }

    async fn call(&self, operation: &str, body: Value) -> RestAnswer {
        let answer = self.rest.send(&self.signed(self.request(operation, &body))).await;
        assert_eq!(answer.status, 200, "{operation}: {answer:?}");
        answer
    }

    /// That this request is refused with this code.
    async fn refused(&mut self, request: &RestRequest, status: u16, code: &str) {
        let answer = self.rest.send(request).await;
        assert_eq!(answer.told(), (status, code), "{answer:?}");
        assert_eq!(answer.request_id().len(), 36);
        self.seen.insert(code.to_owned());
    }

    async fn refused_call(&mut self, operation: &str, body: Value, status: u16, code: &str) {
        let request = self.signed(self.request(operation, &body));
        self.refused(&request, status, code).await;
    }

    async fn create(&self, body: Value) -> String {
        let made = self.call("create-key", body).await;
        made.body["key_info"]["key_id"].as_str().expect("an id").to_owned()
    }

    /// A grant to a user of another account.
    fn grant(&self, key: &str) -> Value {
        let grantee = self.dev.description.account(1).users[0].user_id.clone();
        json!({"key_id": key, "grantee_principal": grantee, "operations": ["describe-key"]})
    }

    /// A login's token.
    async fn token(&self) -> String {
        let admin = self.account.user("admin");
        let user =
            json!({"name": admin.name, "password": admin.password, "domain": {"name": self.account.name}});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let scope = json!({"project": {"id": self.account.projects[0].0}});
        let body = json!({"auth": {"identity": identity, "scope": scope}});
        let request = RestRequest::new(Method::POST, "/v3/auth/tokens", &body);
        let answer = self.rest.send(&request.with("content-type", "application/json")).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("x-subject-token").to_owned()
    }

    /// Moves the clock of keys.
    async fn advance(&self, by: Duration) {
        let by = prost_types::Duration::try_from(by).expect("a short time");
        let mut operator = self.dev.operator().await;
        operator.dev.advance(AdvanceRequest { by: Some(by) }).await.expect("an operator");
    }
}

/// Requests that are no requests of any operation.
async fn malformed(calls: &mut Calls) {
    let whole = calls.request("gen-random", &Value::Null);
    for body in ["{", "[]", "\"text\"", "{\"random_data_length\": [8]}"] {
        let request = calls.signed(RestRequest { body: body.as_bytes().to_vec(), ..whole.clone() });
        calls.refused(&request, 400, "KMS.0202").await;
    }
    let empty = RestRequest { body: Vec::new(), ..calls.signed(whole.clone()) };
    // A body that is too long is refused before it comes; one that divides its parts otherwise than it says, when it does.
    for (header, part, code) in [
        ("content-length: 131073", &b""[..], "KMS.0203"),
        ("transfer-encoding: chunked", &b"no length\r\n"[..], "KMS.0214"),
    ] {
        let answer = calls.rest.send_part(&empty, header, part).await;
        assert_eq!(answer.told(), (400, code), "{answer:?}");
        calls.seen.insert(code.to_owned());
    }
    let other_method = calls.signed(RestRequest { method: Method::PUT, ..whole.clone() });
    calls.refused(&other_method, 405, "KMS.0215").await;
    let elsewhere = calls.signed(RestRequest { path: "/v3.0/nothing".to_owned(), ..whole });
    calls.refused(&elsewhere, 404, "APIGW.0101").await;
}

/// Lists in the places of objects, whose fields they would give by their order.
async fn lists(calls: &mut Calls) {
    let key = calls.create(json!({"key_alias": "lists"})).await;
    let (tags, search) = (format!("{key}/tags"), "resource_instances/action");
    for (operation, body) in [
        ("disable-key", json!([key])),
        ("schedule-key-deletion", json!([key, "7"])),
        (&*tags, json!({"tag": ["a", "b"]})),
        (&*format!("{tags}/action"), json!({"action": "create", "tags": [["a", "b"]]})),
        (&*format!("{tags}/action"), json!({"action": "delete", "tags": [["a"]]})),
        (search, json!({"action": "filter", "tags": [["a", ["b"]]]})),
        (search, json!({"action": "filter", "matches": [["resource_name", "x"]]})),
    ] {
        calls.refused_call(operation, body, 400, "KMS.0202").await;
    }
    let project = &calls.account.projects[0].0;
    let path = format!("/v2/{project}/kms/keys/{key}/replicate");
    let there =
        json!({"replica_region": "x", "replica_project_id": "x", "key_alias": "x", "tags": [["a", "b"]]});
    let request = calls.signed(RestRequest::new(Method::POST, &path, &there));
    calls.refused(&request, 400, "KMS.0202").await;
    let context = json!({"key_id": key, "encryption_context": [["a", "b"]]});
    calls.refused_call("create-datakey", context, 400, "KMS.0208").await;
    let shown = calls.call("describe-key", json!({"key_id": key})).await.body;
    assert_eq!(shown["key_info"]["key_state"], "2", "nothing was done");
}

/// The same in a login that would be right otherwise.
async fn logins_of_lists(calls: &mut Calls) {
    let admin = calls.account.user("admin");
    let (user, account) =
        (json!([admin.name, admin.password, {"name": calls.account.name}]), &calls.account.name);
    let of = |user: Value| json!({"methods": ["password"], "password": {"user": user}});
    let named = |domain: Value| json!({"name": admin.name, "password": admin.password, "domain": domain});
    let whole = named(json!({"name": account}));
    let project = &calls.account.projects[0].0;
    let bodies = [
        json!([{"identity": of(whole.clone())}]),
        json!({"auth": [of(whole.clone()), null]}),
        json!({"auth": {"identity": [["password"], {"user": whole}]}}),
        json!({"auth": {"identity": {"methods": ["password"], "password": [whole]}}}),
        json!({"auth": {"identity": of(user)}}),
        json!({"auth": {"identity": of(named(json!([account])))}}),
        json!({"auth": {"identity": of(whole.clone()), "scope": [{"id": project}]}}),
        json!({"auth": {"identity": of(whole.clone()), "scope": {"project": [project, null]}}}),
    ];
    for body in bodies {
        let request = RestRequest::new(Method::POST, "/v3/auth/tokens", &body);
        calls.refused(&request.with("content-type", "application/json"), 400, "KMS.0202").await;
    }
}

/// Tokens that let nobody in, and one for an import that has run out.
async fn late(calls: &mut Calls) {
    let random = calls.request("gen-random", &json!({"random_data_length": "8"}));
    let token = calls.token().await;
    let answer = calls.rest.send(&random.clone().with("x-auth-token", &token)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    calls.refused(&random.clone().with("x-auth-token", ""), 403, "KMS.0301").await;
    calls.refused(&random.clone().with("x-auth-token", "none"), 403, "KMS.0302").await;
    calls.refused(&random, 401, "APIGW.0301").await;

    let external = calls.create(json!({"key_alias": "late", "origin": "external"})).await;
    let asked = json!({"key_id": external, "wrapping_algorithm": "RSAES_OAEP_SHA_256"});
    let parameters = calls.call("get-parameters-for-import", asked).await.body;
    calls.advance(TOO_LATE).await;
    let import = json!({
        "key_id": external, "import_token": parameters["import_token"], "encrypted_key_material": "AAAA",
    });
    calls.refused_call("import-key-material", import, 400, "KMS.2601").await;
}

/// A login's token that has run out: a day later on the machine's own clock, by which tokens go.
async fn expired() -> BTreeSet<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let (library, sign) = (directory.path().join("later.so"), directory.path().join("later"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/later.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(built.expect("the compiler that links Rust, too").success());
    let mut calls = Calls::with(&[], &[("LD_PRELOAD", &library), ("DEWPOINT_TEST_LATER", &sign)]);
    let random = calls.request("gen-random", &json!({"random_data_length": "8"}));
    let random = random.with("x-auth-token", &calls.token().await);
    let answer = calls.rest.send(&random).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    fs::write(&sign, "").expect("a file");
    calls.refused(&random, 403, "KMS.0303").await;
    calls.seen
}

/// What nobody may do to a default key, which a service makes.
async fn default_keys(calls: &mut Calls) {
    let mut user = calls.dev.user(0, "admin").await;
    let key = user.generate(by_service("obs"), Context::new()).await.expect("made").key_id;
    calls.refused_call("disable-key", json!({"key_id": key}), 400, "KMS.0211").await;
}

/// More grants to one user than there may be, on keys that may have as many.
async fn grants(calls: &mut Calls) {
    const MOST: usize = 100;
    let keys = [calls.create(json!({"key_alias": "a"})).await, calls.create(json!({"key_alias": "b"})).await];
    for number in 0..MOST {
        calls.call("create-grant", calls.grant(&keys[number % 2])).await;
    }
    calls.refused_call("create-grant", calls.grant(&keys[0]), 400, "KMS.2405").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_that_is_raised_is_seen() {
    let mut calls = Calls::of(&["--clock=manual", "--traffic-control=off"]);
    malformed(&mut calls).await;
    lists(&mut calls).await;
    logins_of_lists(&mut calls).await;
    default_keys(&mut calls).await;
    grants(&mut calls).await;
    late(&mut calls).await;
    let mut seen = calls.seen;
    seen.extend(limits().await);
    seen.extend(expired().await);
    seen.extend(by_sdk());
    let raised = raised();
    assert_eq!(raised.difference(&seen).collect::<Vec<_>>(), NOT_PROVOKED);
}

/// Lets the user `nobody` encrypt with this key, and nothing else.
async fn allow_to_encrypt_with(calls: &Calls, key: &str) {
    let file = calls.dev.directory().join("identity.toml");
    let whole = fs::read_to_string(&file).expect("it is there");
    let statement = json!({
        "Effect": "Allow", "Action": ["kms:cmk:crypto"], "Resource": [format!("KMS:*:*:KeyId:{key}")],
    });
    let document = json!({"Version": "1.1", "Statement": [statement]});
    let users = whole.replace("permissions = []", "permissions = []\npolicies = [\"one-key\"]");
    let policy = format!("[[policies]]\nname = \"one-key\"\ndocument = '''{document}'''\n");
    fs::write(&file, format!("{users}\n{policy}")).expect("it can be written");
    let mut operator = OperatorServiceClient::new(calls.dev.operator().await.channel);
    operator.reload_identities(ReloadIdentitiesRequest {}).await.expect("a sound file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_one_key_is_told_of_others_that_it_may_not_use_them() {
    let mut calls = Calls::of(&["--traffic-control=off"]);
    let own = calls.create(json!({"key_alias": "own"})).await;
    let other = calls.create(json!({"key_alias": "other"})).await;
    let foreign = calls.dev.user(1, "admin").await.create("theirs").await.key_id;
    let encrypting = |calls: &Calls, key: &str| {
        let body = json!({"key_id": key, "plain_text": "x"});
        calls.signed_by("nobody", calls.request("encrypt-data", &body))
    };
    let refused = encrypting(&calls, &own);
    calls.refused(&refused, 403, "KMS.0307").await;
    allow_to_encrypt_with(&calls, &own).await;
    let answer = calls.rest.send(&encrypting(&calls, &own)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Whether there is such a key, and whose it is, is not told.
    let unknown = "0193a000-0000-7000-8000-000000000000";
    for key in [&*other, &*foreign, unknown] {
        let refused = encrypting(&calls, key);
        calls.refused(&refused, 403, "KMS.0306").await;
    }
    let described = calls.signed_by("nobody", calls.request("describe-key", &json!({"key_id": own})));
    calls.refused(&described, 403, "KMS.0307").await;
}

/// Numbers that are used up.
async fn limits() -> BTreeSet<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let profile = directory.path().join("profile.toml");
    let printed = Command::new(dewpoint_tests::binary()).arg("profile").output();
    let text = String::from_utf8(printed.expect("it starts").stdout).expect("UTF-8");
    let small = text
        .replace("custom_keys = 100\n", "custom_keys = 2\n")
        .replace("grants_per_key = 100\n", "grants_per_key = 2\n");
    fs::write(&profile, small).expect("a file");
    let profile = format!("--profile={}", profile.display());
    let mut calls = Calls::of(&[&profile, "--clock=manual"]);
    let key = calls.create(json!({"key_alias": "one"})).await;
    calls.create(json!({"key_alias": "two"})).await;
    calls.refused_call("create-key", json!({"key_alias": "three"}), 400, "KMS.1105").await;
    for _ in 0..2 {
        calls.call("create-grant", calls.grant(&key)).await;
    }
    calls.refused_call("create-grant", calls.grant(&key), 400, "KMS.2404").await;
    assert_eq!(calls.dev.ctl(&["dev", "throttle", "DisableKey", "1"]).code, Some(0));
    let disable = json!({"key_id": key});
    let request = calls.signed(calls.request("disable-key", &disable));
    let answer = calls.rest.send(&request).await;
    assert_eq!(answer.told(), (429, "APIGW.0308"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    calls.seen.insert("APIGW.0308".to_owned());
    calls.seen
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path))
        .expect("it is in the repository")
}

/// Every code that the service has a name for.
fn raised() -> BTreeSet<String> {
    let source = read("crates/kms-server/src/dew/codes.rs");
    let numbers = source.lines().filter_map(|line| line.split_once(" = \"")?.1.split_once("\", "));
    let numbers: BTreeSet<_> = numbers.map(|(number, _)| number.to_owned()).collect();
    assert!(numbers.contains("KMS.0205") && numbers.contains("APIGW.0101"), "{numbers:?}");
    numbers
}

/// Every code that the table of what the Python SDK proves has among those that it was refused with.
fn by_sdk() -> BTreeSet<String> {
    let document = read("docs/dew-compat.md");
    let table = document.split("## Every operation").nth(1).expect("the table");
    let codes =
        table.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split(" | ").nth(4));
    codes.flat_map(|codes| codes.split(", ")).map(|code| code.trim_matches('`').to_owned()).collect()
}
