//! Access between accounts, and that what is changed about it holds from the next call on, on connections that are
//! open and under load.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use dewpoint_tests::{
    ADMIN, Clients, Context, Dev, DevOptions, Identity, Serve, by_id, check_log, eventually, reason, records,
    valid,
};
use kms_proto::v1::{
    CreateGrantRequest, DisableKeyRequest, EnableKeyRequest, GrantOperation, Grantee,
    ReloadIdentitiesRequest, ReloadIdentitiesResponse, RevokeGrantRequest,
    grant_service_client::GrantServiceClient, grantee::Principal,
    operator_service_client::OperatorServiceClient,
};
use tonic::{Code, Status};

const READER: [GrantOperation; 2] = [GrantOperation::DecryptDatakey, GrantOperation::DescribeKey];

/// A deployment without traffic limits.
fn deployment() -> Dev {
    let arguments = vec!["--traffic-control=off".to_owned()];
    Dev::start_with(DevOptions { arguments, ..DevOptions::default() })
}

async fn grant(owner: &Clients, key_id: &str, to: Principal, operations: &[GrantOperation]) -> String {
    let request = CreateGrantRequest {
        key_id: key_id.to_owned(),
        grantee: Some(Grantee { principal: Some(to) }),
        operations: operations.iter().copied().map(i32::from).collect(),
        ..CreateGrantRequest::default()
    };
    let made = GrantServiceClient::new(owner.channel.clone()).create_grant(request).await;
    made.expect("its own key").into_inner().grant.expect("a grant").grant_id
}

async fn revoke(owner: &Clients, key_id: &str, grant_id: String) {
    let request = RevokeGrantRequest { key_id: key_id.to_owned(), grant_id };
    GrantServiceClient::new(owner.channel.clone()).revoke_grant(request).await.expect("its own key");
}

async fn reload(dev: &Dev) -> Result<ReloadIdentitiesResponse, Status> {
    let operator = dev.operator().await;
    let mut client = OperatorServiceClient::new(operator.channel.clone());
    client.reload_identities(ReloadIdentitiesRequest {}).await.map(tonic::Response::into_inner)
}

fn identity_file(dev: &Dev) -> PathBuf {
    dev.directory().join("identity.toml")
}

/// What refuses a call.
fn why<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("refused");
    (status.code(), reason(&status))
}

/// The row of SSE-KMS that the key decides: B reads what A encrypted only if A granted it the key. (The bucket and the
/// object are the object store's to grant.)
#[tokio::test(flavor = "multi_thread")]
async fn another_account_opens_only_what_was_granted_to_it() {
    let dev = deployment();
    let mut owner = dev.user(0, "admin").await;
    let key_id = owner.create("shared").await.key_id;
    let sealed = owner.generate(by_id(&key_id), Context::new()).await.expect("its own").ciphertext_blob;
    let other = dev.description.account(1);
    let not_found = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    for (name, without) in [("downloader", &not_found), ("uploader", &denied), ("nobody", &denied)] {
        let mut user = dev.user(1, name).await;
        assert_eq!(why(user.decrypt(&sealed, None, Context::new()).await), *without, "{name}");
        let id = other.users.iter().find(|user| user.name == name).expect("a user").user_id.clone();
        let granted = grant(&owner, &key_id, Principal::UserId(id), &READER).await;
        user.decrypt(&sealed, None, Context::new()).await.expect("granted");
        assert_eq!(user.describe(by_id(&key_id)).await.expect("granted").key_id, key_id);
        assert_eq!(why(user.generate(by_id(&key_id), Context::new()).await), denied, "{name}");
        revoke(&owner, &key_id, granted).await;
        assert_eq!(why(user.decrypt(&sealed, None, Context::new()).await), *without, "{name}");
    }
    let account = grant(&owner, &key_id, Principal::DomainId(other.domain_id), &READER).await;
    for name in ["admin", "uploader", "nobody"] {
        let mut user = dev.user(1, name).await;
        user.decrypt(&sealed, None, Context::new()).await.expect("granted to all of the account");
    }
    revoke(&owner, &key_id, account).await;
    check_log(dev.directory());
}

/// Callers in flight on open connections; each says whether it was let through.
struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    /// Calls that were begun after the change was acknowledged and let through nevertheless.
    late: Arc<AtomicU64>,
    acknowledged: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 4;

impl Load {
    async fn begin(dev: &Dev, account: usize, name: &str, sealed: &[u8]) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            calls: Arc::default(),
            refused: Arc::default(),
            late: Arc::default(),
            acknowledged: Arc::default(),
            tasks: Vec::new(),
        };
        for _ in 0..CONNECTIONS {
            let connection = dev.user(account, name).await;
            for _ in 0..IN_FLIGHT {
                let (mut user, sealed) = (connection.clone(), sealed.to_vec());
                let (stop, calls) = (load.stop.clone(), load.calls.clone());
                let (refused, late) = (load.refused.clone(), load.late.clone());
                let acknowledged = load.acknowledged.clone();
                load.tasks.push(tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        let after = acknowledged.load(Ordering::SeqCst);
                        match user.decrypt(&sealed, None, Context::new()).await {
                            Ok(_) if after => drop(late.fetch_add(1, Ordering::SeqCst)),
                            Ok(_) => drop(calls.fetch_add(1, Ordering::SeqCst)),
                            Err(_) => drop(refused.fetch_add(1, Ordering::SeqCst)),
                        }
                    }
                }));
            }
        }
        load
    }

    /// Waits until this many calls more were let through.
    async fn served(&self, more: u64) {
        let until = self.calls.load(Ordering::SeqCst) + more;
        eventually("calls are served", async || (self.calls.load(Ordering::SeqCst) >= until).then_some(()))
            .await;
    }

    /// The change is acknowledged: ends when every caller has been refused several times since.
    async fn ends_refused(self) {
        self.acknowledged.store(true, Ordering::SeqCst);
        let until = self.refused.load(Ordering::SeqCst) + 10 * (CONNECTIONS * IN_FLIGHT) as u64;
        eventually("calls are refused", async || {
            (self.refused.load(Ordering::SeqCst) >= until).then_some(())
        })
        .await;
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("it does not panic");
        }
        assert_eq!(self.late.load(Ordering::SeqCst), 0, "calls were let through after the change");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_grant_state_or_permission_holds_from_the_next_call_on() {
    let dev = deployment();
    let mut owner = dev.user(0, "admin").await;
    let key_id = owner.create("shared").await.key_id;
    let sealed = owner.generate(by_id(&key_id), Context::new()).await.expect("its own").ciphertext_blob;
    let other = dev.description.account(1).domain_id;

    let granted = grant(&owner, &key_id, Principal::DomainId(other.clone()), &READER).await;
    let load = Load::begin(&dev, 1, "nobody", &sealed).await;
    load.served(100).await;
    revoke(&owner, &key_id, granted).await;
    load.ends_refused().await;

    grant(&owner, &key_id, Principal::DomainId(other), &READER).await;
    let load = Load::begin(&dev, 1, "downloader", &sealed).await;
    load.served(100).await;
    owner.keys.disable_key(DisableKeyRequest { key_id: key_id.clone() }).await.expect("its own");
    load.ends_refused().await;
    owner.keys.enable_key(EnableKeyRequest { key_id }).await.expect("its own");

    let load = Load::begin(&dev, 0, "downloader", &sealed).await;
    load.served(100).await;
    let file = identity_file(&dev);
    let whole = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, whole.replace("\"kms:dek:crypto\"", "\"kms:cmk:get\"")).expect("it can be written");
    let users = reload(&dev).await.expect("a sound file").users;
    assert_eq!(users, 8);
    load.ends_refused().await;
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_says_where() {
    let dev = deployment();
    let mut nobody = dev.user(0, "nobody").await;
    let mut admin = dev.user(0, "admin").await;
    let key_id = admin.create("key").await.key_id;
    let file = identity_file(&dev);
    let whole = fs::read_to_string(&file).expect("it is there");
    let lines = whole.lines().count();
    for (broken, said) in [
        (format!("{whole}\n[[accounts\n"), format!("line {}", lines + 2)),
        (format!("{whole}\nsurprise = 1\n"), "surprise".to_owned()),
        (whole.replace("permissions = []", "permissions = [\"kms:cmk:fly\"]"), "kms:cmk:fly".to_owned()),
        (String::new(), "nobody".to_owned()),
    ] {
        fs::write(&file, broken).expect("it can be written");
        match reload(&dev).await {
            Err(status) => {
                assert_eq!(reason(&status), "IDENTITIES_INVALID");
                assert!(status.message().contains(&said), "{said}: {}", status.message());
            }
            Ok(_) => panic!("{said}: taken"),
        }
        assert_eq!(why(nobody.describe(by_id(&key_id)).await).0, Code::PermissionDenied);
        admin.describe(by_id(&key_id)).await.expect("all is as it was");
    }
    // What was nobody's is somebody's, on the connection that was open before.
    fs::write(&file, whole.replace("permissions = []", "permissions = [\"kms:cmk:get\"]")).expect("written");
    reload(&dev).await.expect("a sound file");
    nobody.describe(by_id(&key_id)).await.expect("it may by now");
    // Only operators may.
    let mut user = OperatorServiceClient::new(admin.channel.clone());
    let refused = user.reload_identities(ReloadIdentitiesRequest {}).await;
    assert_eq!(why(refused).0, Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_has_the_identity_file_read_anew_on_connections_that_are_open() {
    let mut serve = Serve::start_new().await;
    let process = serve.id();
    let files = Some(serve.authority.client("admin", &[ADMIN], valid()));
    let mut admin = serve.connect(Identity { files, ..Identity::default() }).await;
    let key_id = admin.create("key").await.key_id;
    let file = serve.directory().join("identity.toml");
    let whole = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, format!("{whole}\nsurprise = 1\n")).expect("it can be written");
    serve.hang_up("the identity file cannot be used", 1).await;
    admin.describe(by_id(&key_id)).await.expect("all is as it was");
    let (taken, denied) = ("the identity file was read anew", whole.replace("kms:*:*", "kms:cmk:list"));
    fs::write(&file, denied).expect("it can be written");
    serve.hang_up(taken, 1).await;
    assert_eq!(why(admin.describe(by_id(&key_id)).await).0, Code::PermissionDenied);
    fs::write(&file, whole).expect("it can be written");
    serve.hang_up(taken, 2).await;
    admin.describe(by_id(&key_id)).await.expect("it may again");
    assert_eq!(serve.id(), process);
    assert!(serve.stop().success());
    let data = serve.directory().join("data");
    let mut reloads = records(&data);
    reloads.retain(|record| record["operation"] == "ReloadIdentities");
    let [refused, other, first] = &reloads[..] else { panic!("three records, not {reloads:?}") };
    assert_eq!(refused["reason"], "IDENTITIES_INVALID");
    assert!(reloads.iter().all(|record| record["user"].is_null() && record["source"].is_null()));
    assert!(other["state_digest"].is_string() && other["state_digest"] != first["state_digest"]);
    check_log(&data);
}

#[test]
fn an_operator_sees_who_may_do_what_and_why_and_a_dry_run_does_nothing() {
    let dev = deployment();
    let key = dev.ctl(&["--json", "key", "create", "shared"]).json();
    let key_id = key["key_id"].as_str().expect("an id");
    let reader = dev.description.account(1).users[0].user_id.clone();
    let to = ["--to-user", &reader, "--operations", "decrypt-datakey"];
    let granted = dev.ctl(&[&["--json", "grant", "create", key_id][..], &to].concat()).json();
    let explained = dev.ctl(&["--json", "explain", key_id]).json();
    let rows = explained.as_array().expect("rows");
    let of = |user: &str| rows.iter().find(|row| row["user_id"] == *user).cloned().unwrap_or_default();
    let by_grant = of(&reader);
    let grant_id = granted["grant_id"].as_str().expect("an id");
    assert_eq!(by_grant["by"], format!("grant {grant_id}"));
    assert_eq!(by_grant["operations"], serde_json::json!(["DecryptBucketKey", "DecryptDataKey"]));
    let admin = dev.description.account(0).users[0].user_id.clone();
    let admins = |by: &str| rows.iter().find(|row| row["user_id"] == *admin && row["by"] == *by).cloned();
    assert!(admins("statement 1 of permissions").is_some(), "{rows:?}");
    // Who made the grant may give it up.
    let own = admins(&format!("grant {grant_id}")).expect("a row");
    assert_eq!(own["operations"], serde_json::json!(["RetireGrant"]));
    let nobody = dev.description.account(0).users.iter().find(|user| user.name == "nobody").cloned();
    let nobody = nobody.expect("a user").user_id;
    assert_eq!(of(&nobody), serde_json::Value::Null);
    let alone = dev.ctl(&["--json", "explain", key_id, "--for-user", &nobody]).json();
    assert_eq!(alone[0]["decision"], "NOTHING");

    let tried = dev.ctl(&["--dry-run", "key", "disable", "shared"]);
    assert_eq!((tried.code, tried.stdout.trim()), (Some(0), "would be allowed; nothing was done"));
    assert_eq!(dev.ctl(&["--json", "key", "describe", "shared"]).json()["state"], "ENABLED");
    assert_eq!(dev.ctl(&["--dry-run", "key", "enable", "shared"]).refusal(), "KEY_NOT_DISABLED");
    let reloaded = dev.ctl(&["--json", "identities", "reload"]).json();
    assert_eq!(reloaded["users"], 8);
}
