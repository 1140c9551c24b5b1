//! Who is let in by DEW's REST protocol: signatures, access keys, projects and regions, tokens; and what the log says of it.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
};

use dewpoint_tests::{
    Account, Dev, DevOptions, Rest, RestAnswer, RestRequest, Signer, User, binary, check_log, records,
    records_of,
};
use hyper::Method;
use serde_json::{Value, json};
use time::Duration;

const NOT_AUTHENTICATED: (u16, &str) = (401, "APIGW.0301");
const OTHER_PROJECT: (u16, &str) = (403, "KMS.0321");

fn path(project: &str, operation: &str) -> String {
    format!("/v1.0/{project}/kms/{operation}")
}

fn create_key(project: &str, alias: &str) -> RestRequest {
    let body = json!({"key_alias": alias});
    RestRequest::new(Method::POST, &path(project, "create-key"), &body)
        .with("content-type", "application/json;charset=utf-8")
        .with("user-agent", "a client")
        .with("x-project-id", project)
}

fn random(project: &str) -> RestRequest {
    let body = json!({"random_data_length": "512"});
    RestRequest::new(Method::POST, &path(project, "gen-random"), &body)
}

fn log_in(account: &str, user: &str, password: &str, project: &Value) -> RestRequest {
    let user = json!({"name": user, "password": password, "domain": {"name": account}});
    let identity = json!({"methods": ["password"], "password": {"user": user}});
    let body = json!({"auth": {"identity": identity, "scope": {"project": project}}});
    RestRequest::new(Method::POST, "/v3/auth/tokens", &body).with("content-type", "application/json")
}

/// A deployment, its first account, and that account's user who may do everything.
fn deployment() -> (Dev, Rest, Account, User) {
    let dev = Dev::start();
    let (rest, account) = (Rest::of(&dev.description), dev.description.account(0));
    let admin = account.user("admin").clone();
    (dev, rest, account, admin)
}

/// Changes the file of identities, and lets it hold.
fn change_identities(dev: &Dev, change: impl FnOnce(&str) -> String) {
    let file = dev.directory().join("identity.toml");
    let whole = fs::read_to_string(&file).expect("it is there");
    let changed = change(&whole);
    assert_ne!(changed, whole);
    fs::write(&file, changed).expect("it can be written");
    let reloaded = dev.ctl(&["identities", "reload"]);
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
}

fn only_record(dev: &Dev, answer: &RestAnswer) -> Value {
    let records = records_of(dev.directory(), answer.request_id());
    let [record] = &records[..] else { panic!("one record, not {records:?}") };
    record.clone()
}

/// The value of a header.
fn header<'a>(request: &'a RestRequest, name: &str) -> &'a str {
    let found = request.headers.iter().find(|(known, _)| known == name);
    &found.expect("it has it").1
}

/// A signed request with something changed in each: method, path, query, headers, body.
fn changed_requests(account: &Account, signer: Signer<'_>, request: &RestRequest) -> Vec<RestRequest> {
    let project = &account.projects[0].0;
    let mut changed = Vec::new();
    for name in ["content-type", "host", "user-agent", "x-project-id"] {
        changed.push(request.clone().with(name, "another"));
    }
    for name in ["content-type", "user-agent", "x-sdk-date"] {
        changed.push(request.clone().without(name));
    }
    let later = create_key(project, "signed").signed(Signer { skew: Duration::minutes(1), ..signer });
    changed.push(request.clone().with("x-sdk-date", header(&later, "x-sdk-date")));
    let body = json!({"key_alias": "altered"}).to_string().into_bytes();
    changed.push(RestRequest { body, ..request.clone() });
    changed.push(RestRequest { body: Vec::new(), ..request.clone() });
    changed.push(RestRequest { path: path(&account.projects[1].0, "create-key"), ..request.clone() });
    changed.push(RestRequest { query: "limit=1".to_owned(), ..request.clone() });
    let other_method = RestRequest { method: Method::PUT, ..create_key(project, "signed") }.signed(signer);
    changed.push(RestRequest { method: Method::POST, ..other_method });
    changed.push(request.clone().with("x-sdk-content-sha256", &"0".repeat(64)));
    changed.push(request.clone().with("x-sdk-content-sha256", "UNSIGNED-PAYLOAD"));
    changed.push(request.clone().without("authorization"));
    changed
}

/// The same with something changed in its signature; `other` is the access key of another user.
fn changed_signatures(request: &RestRequest, own: &str, other: &str) -> Vec<RestRequest> {
    let authorization = header(request, "authorization");
    let first = authorization.split("Signature=").last().expect("a signature").split_at(1).0;
    let (first, exchanged) =
        (format!("Signature={first}"), if first == "0" { "Signature=1" } else { "Signature=0" });
    let changes = [
        ("user-agent;", ""),
        ("content-type;", ""),
        ("host;", ""),
        (";x-sdk-date", ""),
        ("content-type;host", "host;content-type"),
        ("SDK-HMAC-SHA256", "SDK-HMAC-SM3"),
        ("Signature=", "Signature=00"),
        (", SignedHeaders", ", Signed"),
        (&first, exchanged),
        (own, other),
    ];
    let changed = changes.map(|(from, to)| {
        let changed = authorization.replacen(from, to, 1);
        assert_ne!(changed, authorization);
        request.clone().with("authorization", &changed)
    });
    changed.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_signed_request_may_be_changed() {
    let (mut dev, rest, account, admin) = deployment();
    let signer = Signer::of(&admin.access_key);
    let request = create_key(&account.projects[0].0, "signed").signed(signer);
    let other_user = account.user("uploader").access_key.0.clone();
    let mut changed = changed_requests(&account, signer, &request);
    changed.extend(changed_signatures(&request, &admin.access_key.0, &other_user));
    let count = changed.len() as u64;
    for changed in changed {
        let answer = rest.send(&changed).await;
        assert_eq!(answer.told(), NOT_AUTHENTICATED, "{changed:?}");
        assert_eq!(answer.body["request_id"], answer.request_id(), "{changed:?}");
        assert!(!answer.body.to_string().contains(&admin.access_key.1));
    }
    // A header that is not signed may be changed.
    assert_eq!(rest.send(&request.with("accept", "anything")).await.status, 200);
    assert!(dev.stop().success());
    let (mut refused, mut made) = (BTreeMap::<_, u64>::new(), 0);
    for record in records(dev.directory()) {
        match (record["operation"].as_str(), record["verdict"].as_str()) {
            (Some("CreateKey"), Some("denied")) => {
                assert!(record["user"].is_null() && record["source"].is_string(), "{record}");
                let claimed = record["access_key_id"].as_str().map(str::to_owned);
                *refused.entry(claimed).or_default() += record["count"].as_u64().expect("a number");
            }
            (Some("CreateKey"), Some("succeeded")) => made += 1,
            _ => {}
        }
    }
    assert_eq!(made, 1, "only by what was signed");
    assert_eq!(refused.values().sum::<u64>(), count);
    assert_eq!(refused[&Some(other_user)], 1);
    // What had no header that could be read claimed nothing.
    assert!(refused[&Some(admin.access_key.0)] > refused[&None]);
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_taken_for_a_quarter_of_an_hour_and_again() {
    let (dev, rest, account, admin) = deployment();
    let project = &account.projects[0].0;
    let at = |minutes| Signer { skew: Duration::minutes(minutes), ..Signer::of(&admin.access_key) };
    for minutes in [0, -14, 14] {
        let request = random(project).signed(at(minutes));
        for _ in 0..2 {
            assert_eq!(rest.send(&request).await.status, 200, "{minutes}, and again");
        }
    }
    for minutes in [-16, 16, -60 * 24, 60 * 24 * 365] {
        let answer = rest.send(&random(project).signed(at(minutes))).await;
        assert_eq!(answer.told(), NOT_AUTHENTICATED, "{minutes}");
        let text = answer.body["error_msg"].as_str().expect("a text");
        assert!(text.contains("signature expired"), "{text}");
        let record = only_record(&dev, &answer);
        assert_eq!((&record["reason"], &record["verdict"]), (&json!("SIGNATURE_SKEWED"), &json!("denied")));
        assert_eq!(record["access_key_id"], admin.access_key.0);
    }
}

/// Further access keys of a user.
const KEYS: &str = r#"
[[accounts.users.access_keys]]
access_key_id = "TEMPORARY"
secret_access_key = "a-secret-that-is-temporary"
security_token = "a-security-token-of-some-length"
expires_at = "2999-01-01T00:00:00Z"

[[accounts.users.access_keys]]
access_key_id = "EXPIRED"
secret_access_key = "a-secret-that-was-temporary"
security_token = "a-security-token-that-has-expired"
expires_at = "2020-01-01T00:00:00Z"

[[accounts.users.access_keys]]
access_key_id = "INACTIVE"
secret_access_key = "a-secret-that-is-switched-off"
status = "inactive"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn access_keys_are_taken_while_they_may_be_used() {
    let (dev, rest, account, admin) = deployment();
    let project = &account.projects[0].0;
    let first = format!("access_key_id = \"{}\"", admin.access_key.0);
    change_identities(&dev, |whole| {
        let (before, after) = whole.split_once(&first).expect("the user's own");
        let (own, after) = after.split_once("\n\n").expect("another user");
        format!("{before}{first}{own}\n{KEYS}\n{after}")
    });
    let send = async |id: &str, secret: &str, security_token: Option<&str>| {
        let skew = Duration::ZERO;
        let signer = Signer { access_key_id: id, secret, security_token, skew };
        rest.send(&random(project).signed(signer)).await
    };
    let (temporary, token) = ("a-secret-that-is-temporary", Some("a-security-token-of-some-length"));
    let served = send("TEMPORARY", temporary, token).await;
    assert_eq!(served.status, 200);
    let record = only_record(&dev, &served);
    assert_eq!((&record["access_key_id"], &record["user"]), (&json!("TEMPORARY"), &json!(admin.user_id)));
    let (own, secret) = (&*admin.access_key.0, &*admin.access_key.1);
    let expired = Some("a-security-token-that-has-expired");
    for (answer, id, reason) in [
        (send("TEMPORARY", temporary, None).await, "TEMPORARY", "SECURITY_TOKEN_MISMATCH"),
        (send("TEMPORARY", temporary, expired).await, "TEMPORARY", "SECURITY_TOKEN_MISMATCH"),
        (send(own, secret, token).await, own, "SECURITY_TOKEN_MISMATCH"),
        (send("EXPIRED", "a-secret-that-was-temporary", expired).await, "EXPIRED", "ACCESS_KEY_EXPIRED"),
        (send("INACTIVE", "a-secret-that-is-switched-off", None).await, "INACTIVE", "ACCESS_KEY_INACTIVE"),
        (send(own, temporary, None).await, own, "SIGNATURE_MISMATCH"),
    ] {
        assert_eq!(answer.told(), NOT_AUTHENTICATED, "{id}");
        let record = only_record(&dev, &answer);
        assert_eq!((&record["reason"], &record["access_key_id"]), (&json!(reason), &json!(id)));
        let told = answer.body["error_msg"].as_str().expect("a text");
        let is_unknown = told.contains("err:ak not exist");
        assert_eq!(is_unknown, reason.starts_with("ACCESS_KEY"), "whatever became of it: {told}");
    }
    // An id that is nobody's may be anything: no record keeps it.
    for claimed in ["UNKNOWN", secret] {
        let answer = send(claimed, secret, None).await;
        assert_eq!(answer.told(), NOT_AUTHENTICATED);
        let record = only_record(&dev, &answer);
        assert_eq!(
            (&record["reason"], &record["access_key_id"]),
            (&json!("ACCESS_KEY_UNKNOWN"), &Value::Null)
        );
    }
    // Out of the temporary key's request its token cannot be taken unseen.
    let signer =
        Signer { access_key_id: "TEMPORARY", secret: temporary, security_token: token, skew: Duration::ZERO };
    let without = random(project).signed(signer).without("x-security-token");
    assert_eq!(rest.send(&without).await.told(), NOT_AUTHENTICATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_the_callers_and_of_the_endpoints_region() {
    let (dev, rest, account, admin) = deployment();
    let signer = Signer::of(&admin.access_key);
    let foreign = &dev.description.account(1).projects[0].0;
    let [(north, north_region), (east, east_region)] = &account.projects[..] else { panic!("two projects") };
    let host = |region: &str| format!("kms.{region}.example.com");
    for (request, reason) in [
        (random(foreign), "UNKNOWN_PROJECT"),
        (random("nowhere"), "UNKNOWN_PROJECT"),
        (random(north).with("x-project-id", east), "UNKNOWN_PROJECT"),
        (random(north).with("x-project-id", foreign), "UNKNOWN_PROJECT"),
        (random(north).with("host", &host(east_region)), "UNKNOWN_PROJECT"),
        (random(east).with("host", &format!("{}:7444", host(north_region))), "UNKNOWN_PROJECT"),
        (random(north).with("host", &host(east_region).to_uppercase()), "UNKNOWN_PROJECT"),
    ] {
        let answer = rest.send(&request.clone().signed(signer)).await;
        assert_eq!(answer.told(), OTHER_PROJECT, "{request:?}");
        let record = only_record(&dev, &answer);
        assert_eq!((&record["reason"], &record["verdict"]), (&json!(reason), &json!("denied")));
        assert_eq!(record["access_key_id"], admin.access_key.0, "it was proven");
    }
    let versions = || RestRequest::new(Method::GET, "/", &Value::Null);
    for (request, region) in [
        (random(north).with("host", &host(north_region)), north_region),
        (random(east).with("host", &host(east_region)), east_region),
        (random(east).with("host", "kms.example.com"), east_region),
        (random(east).with("host", "kms.corp.example.com"), east_region),
        (random(east).with("host", &host(east_region).to_uppercase()), east_region),
        // Where no project is named, the endpoint's region chooses one.
        (versions(), north_region),
        (versions().with("host", &host(north_region)), north_region),
        (versions().with("host", &host(east_region)), east_region),
        (versions().with("x-project-id", east), east_region),
        // IAM is of no region.
        (
            RestRequest::new(Method::GET, "/v3/projects", &Value::Null).with("host", &host(east_region)),
            north_region,
        ),
    ] {
        let answer = rest.send(&request.signed(signer)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(only_record(&dev, &answer)["region"], **region);
    }
    let unsigned = versions().signed(signer).with("x-project-id", east);
    assert_eq!(rest.send(&unsigned).await.told(), NOT_AUTHENTICATED, "it was not signed for that project");
    // What is made in one region is not known in another.
    let made = rest.send(&create_key(north, "here").signed(signer)).await;
    let key_id = made.body["key_info"]["key_id"].as_str().expect("a key").to_owned();
    let describe =
        |project| RestRequest::new(Method::POST, &path(project, "describe-key"), &json!({"key_id": key_id}));
    assert_eq!(rest.send(&describe(north).signed(signer)).await.status, 200);
    assert_eq!(rest.send(&describe(east).signed(signer)).await.told(), (404, "KMS.0207"));
    // Nor one's own to another account.
    let other = dev.description.account(1).user("admin").access_key.clone();
    assert_eq!(rest.send(&describe(foreign).signed(Signer::of(&other))).await.told(), (404, "KMS.0207"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_known_reads_the_projects_of_its_account() {
    let (dev, rest, account, _) = deployment();
    let nobody = account.user("nobody").access_key.clone();
    let list = async |target: &str| {
        rest.send(&RestRequest::new(Method::GET, target, &Value::Null).signed(Signer::of(&nobody))).await
    };
    let ids = |answer: &RestAnswer| {
        let projects = answer.body["projects"].as_array().expect("a list").clone();
        projects.iter().map(|one| one["id"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    let all = list("/v3/projects").await;
    assert_eq!((all.status, ids(&all)), (200, account.projects.iter().map(|(id, _)| id.clone()).collect()));
    let (id, region) = &account.projects[1];
    let named = list(&format!("/v3/projects?name={region}")).await;
    assert_eq!(ids(&named), [id.as_str()]);
    assert_eq!(named.body["projects"][0]["links"]["self"], format!("https://127.0.0.1/v3/projects/{id}"));
    assert!(ids(&list("/v3/projects?name=eu-west-0").await).is_empty());
    let record = only_record(&dev, &all);
    assert_eq!((&record["operation"], &record["verdict"]), (&json!("ListProjects"), &json!("succeeded")));
    let unsigned = rest.send(&RestRequest::new(Method::GET, "/v3/projects", &Value::Null)).await;
    assert_eq!(unsigned.told(), NOT_AUTHENTICATED);
    let error = &unsigned.body["error"];
    assert_eq!((&error["code"], &error["title"]), (&json!(401), &json!("Unauthorized")));
    assert_eq!(error["message"], unsigned.body["error_msg"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_gets_a_token_for_one_project_which_ends_with_the_password() {
    let (mut dev, rest, account, admin) = deployment();
    let [(north, _), (east, east_region)] = &account.projects[..] else { panic!("two projects") };
    let scope = json!({"name": east_region});
    let issued = rest.send(&log_in(&account.name, "admin", &admin.password, &scope)).await;
    assert_eq!(issued.status, 201, "{issued:?}");
    let token = issued.header("x-subject-token").to_owned();
    assert_eq!(issued.body["token"]["project"]["id"], **east);
    assert_eq!(issued.body["token"]["user"]["id"], admin.user_id);
    let record = only_record(&dev, &issued);
    assert_eq!((&record["operation"], &record["verdict"]), (&json!("IssueToken"), &json!("succeeded")));
    assert_eq!((&record["user"], &record["project"]), (&json!(admin.user_id), &json!(east)));
    assert!(record["token_issued"].is_string() && record["source"].is_string(), "{record}");

    let with =
        async |token: &str, project: &str| rest.send(&random(project).with("x-auth-token", token)).await;
    let served = with(&token, east).await;
    assert_eq!(served.status, 200);
    let used = only_record(&dev, &served);
    assert_eq!((&used["user"], &used["token_issued"]), (&record["user"], &record["token_issued"]));
    let elsewhere = with(&token, north).await;
    assert_eq!(elsewhere.told(), OTHER_PROJECT);
    assert_eq!(only_record(&dev, &elsewhere)["token_issued"], record["token_issued"]);
    let changed = if token.ends_with('A') { "B" } else { "A" };
    let changed = format!("{}{changed}", &token[..token.len() - 1]);
    assert_eq!(with(&changed, east).await.told(), (403, "KMS.0302"));
    assert_eq!(with("no token", east).await.told(), (403, "KMS.0302"));
    assert_eq!(with("", east).await.told(), (403, "KMS.0301"));
    // A signature that is wrong is not helped by a token that is right.
    let wrong = Signer { secret: "another", ..Signer::of(&admin.access_key) };
    let both = random(east).with("x-auth-token", &token).signed(wrong);
    assert_eq!(rest.send(&both).await.told(), NOT_AUTHENTICATED);

    // The password becomes another one.
    let new = "correct horse battery staple";
    let hash = hash_password(&format!("{new}\n"));
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    change_identities(&dev, |whole| {
        let (before, after) = whole.split_once("password_hash = \"").expect("the first user's");
        let (_, after) = after.split_once('"').expect("its end");
        format!("{before}password_hash = \"{hash}\"{after}")
    });
    let ended = with(&token, east).await;
    assert_eq!(ended.told(), (403, "KMS.0302"), "from the next call on");
    assert_eq!(only_record(&dev, &ended)["reason"], "TOKEN_UNKNOWN");
    let old = rest.send(&log_in(&account.name, "admin", &admin.password, &scope)).await;
    assert_eq!(old.told(), NOT_AUTHENTICATED);
    let issued = rest.send(&log_in(&account.name, "admin", new, &Value::Null)).await;
    assert_eq!(issued.status, 201);
    let token = issued.header("x-subject-token").to_owned();
    assert_eq!(with(&token, north).await.status, 200, "the account's first project");

    // No token outlives its process.
    dev.restart();
    let rest = Rest::of(&dev.description);
    let answer = rest.send(&random(north).with("x-auth-token", &token)).await;
    assert_eq!(answer.told(), (403, "KMS.0302"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_token_learns_nothing_and_is_slowed_down() {
    let (dev, rest, account, admin) = deployment();
    let foreign = json!({"id": dev.description.account(1).projects[0].0});
    let wrong = rest.send(&log_in(&account.name, "admin", "guessed", &Value::Null)).await;
    let nobody = rest.send(&log_in(&account.name, "no one", "guessed", &Value::Null)).await;
    for answer in [&wrong, &nobody] {
        assert_eq!(answer.told(), NOT_AUTHENTICATED);
        assert_eq!(answer.body["error"]["title"], "Unauthorized");
        assert_eq!(only_record(&dev, answer)["reason"], "PASSWORD_WRONG");
    }
    assert_eq!(wrong.body, nobody.body, "whether there is such a user is not told");
    assert_eq!(only_record(&dev, &wrong)["password_of"], admin.user_id);
    assert!(only_record(&dev, &nobody)["password_of"].is_null());
    let elsewhere = rest.send(&log_in(&account.name, "admin", &admin.password, &foreign)).await;
    assert_eq!(elsewhere.told(), OTHER_PROJECT);

    let mut by_token = log_in(&account.name, "admin", &admin.password, &Value::Null);
    by_token.body =
        String::from_utf8(by_token.body).expect("text").replace("[\"password\"]", "[\"token\"]").into();
    let junk = RestRequest::new(Method::POST, "/v3/auth/tokens", &json!({"auth": 1}));
    for malformed in [by_token, junk, RestRequest::new(Method::POST, "/v3/auth/tokens", &Value::Null)] {
        let answer = rest.send(&malformed).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!(400)));
        assert_eq!(only_record(&dev, &answer)["reason"], "CREDENTIAL_MALFORMED");
    }

    let uploader = account.user("uploader");
    let guess = log_in(&account.name, "uploader", "guessed", &Value::Null);
    let mut guesses = 0;
    let slowed = loop {
        let answer = rest.send(&guess).await;
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.told(), NOT_AUTHENTICATED);
        guesses += 1;
        assert!(guesses < 100, "nobody stops it");
    };
    assert!(guesses >= 5);
    assert_eq!(slowed.code(), "APIGW.0308");
    assert!(slowed.header("retry-after").parse::<u32>().expect("seconds") > 0);
    let record = only_record(&dev, &slowed);
    assert_eq!((&record["reason"], &record["password_of"]), (&json!("THROTTLED"), &json!(uploader.user_id)));
    // The others are not slowed down, and nobody who signs.
    assert_eq!(rest.send(&log_in(&account.name, "admin", &admin.password, &Value::Null)).await.status, 201);
    let list = RestRequest::new(Method::GET, "/v3/projects", &Value::Null);
    assert_eq!(rest.send(&list.signed(Signer::of(&uploader.access_key))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_flag_makes_it_plain_http() {
    let dev = Dev::start();
    let endpoint = dev.description.dew_endpoint();
    let mut stream = TcpStream::connect(endpoint.strip_prefix("https://").expect("TLS")).expect("it listens");
    stream.write_all(b"GET /v3/projects HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it can be written");
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer)); // it may be reset
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    drop(dev);

    let arguments = vec!["--insecure-plain-http".to_owned()];
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    assert!(dev.description.dew_endpoint().starts_with("http://"));
    let account = dev.description.account(0);
    let request = random(&account.projects[0].0).signed(Signer::of(&account.user("admin").access_key));
    assert_eq!(Rest::of(&dev.description).send(&request).await.status, 200);
}

/// What `dewpoint hash-password` prints for this input.
fn hash_password(input: &str) -> String {
    let piped =
        Command::new(binary()).arg("hash-password").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut command = piped.expect("it starts");
    command.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let ended = command.wait_with_output().expect("it ends");
    assert!(ended.status.success());
    String::from_utf8(ended.stdout).expect("text").trim_end().to_owned()
}
