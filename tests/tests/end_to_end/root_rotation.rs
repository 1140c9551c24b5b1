//! Rotation of the root key on a real token, under load and over kills.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use dewpoint_tests::{
    Clients, Context, Dev, Identity, by_id, check_log, eventually, reason, records, refusal,
};
use kms_proto::v1::{
    CancelKeyDeletionRequest, DescribeRootRequest, DisableKeyRequest, EnableKeyRequest,
    GenerateDataKeyResponse, KeySpec, RetireRootRequest, Root, RotateRootRequest, ScheduleKeyDeletionRequest,
};
use serde_json::Value;
use tonic::{Code, Status};

/// Enough that a rotation is still under way when a test acts on its beginning.
const KEYS: usize = 400;
const WORKERS: usize = 8;

/// Makes keys, several at a time; each with a data key.
async fn keys(dev: &Dev, count: usize) -> Vec<GenerateDataKeyResponse> {
    let mut makers = Vec::new();
    for worker in 0..WORKERS {
        let mut admin = dev.user(worker % 2, "admin").await;
        makers.push(tokio::spawn(async move {
            let mut made = Vec::new();
            for number in (worker..count).step_by(WORKERS) {
                let key = admin.create(&format!("k{number}")).await;
                made.push(admin.generate(by_id(&key.key_id), Context::new()).await.expect("an enabled key"));
            }
            made
        }));
    }
    let mut made = Vec::new();
    for maker in makers {
        made.extend(maker.await.expect("no panic"));
    }
    made
}

/// Each data key opens for one of the two accounts.
async fn assert_open(dev: &Dev, made: &[GenerateDataKeyResponse]) {
    let mut admins = [dev.user(0, "admin").await, dev.user(1, "admin").await];
    for one in made {
        let mut opened = admins[0].decrypt(&one.ciphertext_blob, None, Context::new()).await;
        if opened
            .as_ref()
            .is_err_and(|status| status.code() == Code::NotFound || reason(status) == "CANNOT_DECRYPT")
        {
            opened = admins[1].decrypt(&one.ciphertext_blob, None, Context::new()).await;
        }
        assert_eq!(opened.expect("an acknowledged data key opens").plaintext, one.plaintext);
    }
}

/// Calls without a pause until it is told to stop; what was answered.
struct Load {
    stop: Arc<AtomicBool>,
    made: Arc<Mutex<Vec<GenerateDataKeyResponse>>>,
    workers: Vec<tokio::task::JoinHandle<Option<Status>>>,
}

impl Load {
    /// Uses the keys that sealed `before`, and makes new ones.
    async fn start(dev: &Dev, before: &[GenerateDataKeyResponse], round: usize) -> Self {
        let mut load = Self { stop: Arc::default(), made: Arc::default(), workers: Vec::new() };
        for worker in 0..WORKERS {
            let admin = dev.user(worker % 2, "admin").await;
            let before = before.to_vec();
            let name = format!("load-{round}-{worker}");
            load.workers.push(tokio::spawn(work(admin, name, before, load.stop.clone(), load.made.clone())));
        }
        load
    }

    /// Ends it; answers the first error of each worker that met one.
    async fn stop(self) -> (Vec<GenerateDataKeyResponse>, Vec<Status>) {
        self.stop.store(true, Ordering::SeqCst);
        let mut errors = Vec::new();
        for worker in self.workers {
            errors.extend(worker.await.expect("no panic"));
        }
        let made = self.made.lock().expect("no panic").clone();
        (made, errors)
    }
}

async fn work(
    mut admin: Clients,
    name: String,
    before: Vec<GenerateDataKeyResponse>,
    stop: Arc<AtomicBool>,
    made: Arc<Mutex<Vec<GenerateDataKeyResponse>>>,
) -> Option<Status> {
    for (number, one) in before.iter().cycle().enumerate() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        match turn(&mut admin, one, (number % 16 == 0).then(|| format!("{name}-{number}"))).await {
            Ok(fresh) => made.lock().expect("no panic").extend(fresh),
            // Half of the keys are the other account's.
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Some(status),
        }
    }
    None
}

/// Uses a key, opens what it sealed before, and makes a new key if a name for it is given.
async fn turn(
    admin: &mut Clients,
    before: &GenerateDataKeyResponse,
    alias: Option<String>,
) -> Result<Vec<GenerateDataKeyResponse>, Status> {
    let mut fresh = vec![admin.generate(by_id(&before.key_id), Context::new()).await?];
    let opened = admin.decrypt(&before.ciphertext_blob, None, Context::new()).await?;
    assert_eq!(opened.plaintext, before.plaintext);
    if let Some(alias) = alias {
        let key = admin.try_create(&alias, KeySpec::Sm4).await?;
        fresh.push(admin.generate(by_id(&key.key_id), Context::new()).await?);
    }
    Ok(fresh)
}

async fn dewctl(dev: &Dev, arguments: &[&str]) -> Value {
    let mut command = dev.dewctl(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("dewctl starts");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object on stdout")
}

async fn root(dev: &Dev) -> Root {
    let answer = dev.operator().await.roots.describe_root(DescribeRootRequest {}).await;
    answer.expect("an operator").into_inner().root.expect("the root keys")
}

/// The token has these root keys, the authentication key and the key of the log, and nothing else.
fn assert_token_holds(dev: &Dev, generations: &[u32]) {
    let mut labels = dev.token().labels();
    labels.sort();
    labels.dedup(); // a key pair is two objects
    let roots: Vec<_> = labels.iter().filter(|label| label.starts_with("dewpoint-root-")).collect();
    let mut expected: Vec<_> =
        generations.iter().map(|generation| format!("dewpoint-root-{generation}")).collect();
    expected.sort();
    let numbered = |label: &&&String| label.rsplit('-').next().is_some_and(|end| end.parse::<u32>().is_ok());
    assert_eq!(roots.iter().filter(numbered).map(|label| (**label).clone()).collect::<Vec<_>>(), expected);
    assert_eq!(labels.len(), expected.len() + 2, "{labels:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_load_fails_no_call_and_leaves_one_root_key() {
    let mut dev = Dev::start();
    let before = keys(&dev, 60).await;
    let mut admin = dev.user(0, "admin").await;
    let [disabled, pending] = [admin.create("disabled").await.key_id, admin.create("pending").await.key_id];
    let mut parked = Vec::new();
    for key in [&disabled, &pending] {
        parked.push(admin.generate(by_id(key), Context::new()).await.expect("an enabled key"));
    }
    let disable = DisableKeyRequest { key_id: disabled.clone() };
    admin.keys.disable_key(disable).await.expect("enabled before");
    let schedule = ScheduleKeyDeletionRequest { key_id: pending.clone(), pending_days: 7 };
    admin.keys.schedule_key_deletion(schedule).await.expect("enabled before");
    let load = Load::start(&dev, &before, 0).await;
    let ended = dewctl(&dev, &["root", "rotate", "--wait", "--json"]).await;
    assert_eq!((&ended["rotation"], &ended["token_generations"]), (&Value::Null, &serde_json::json!([2])));
    let (during, errors) = load.stop().await;
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!during.is_empty());
    dev.restart();
    assert!(!dev.log().contains("none of Dewpoint's"), "{}", dev.log());
    assert_open(&dev, &before).await;
    assert_open(&dev, &during).await;
    let mut admin = dev.user(0, "admin").await;
    let cancel = CancelKeyDeletionRequest { key_id: pending.clone() };
    admin.keys.cancel_key_deletion(cancel).await.expect("pending still");
    for key_id in [disabled, pending] {
        admin.keys.enable_key(EnableKeyRequest { key_id }).await.expect("disabled still");
    }
    assert_open(&dev, &parked).await;
    assert!(dev.stop().success());
    assert_token_holds(&dev, &[2]);
    check_log(dev.directory());
    let count = |name: &str| {
        let of = |record: &&Value| record["operation"] == name && record["phase"] == "outcome";
        records(dev.directory()).iter().filter(of).count()
    };
    assert!(count("RewrapKey") >= before.len() + parked.len());
    assert_eq!((count("RotateRoot"), count("ForgetRoots"), count("DestroyRoots")), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_on_by_itself_after_every_kill() {
    let mut dev = Dev::start();
    let before = keys(&dev, KEYS).await;
    let mut during = Vec::new();
    let mut operator = dev.operator().await;
    operator.roots.rotate_root(RotateRootRequest { keep_old_root: false }).await.expect("begun");
    for round in 0..4 {
        let load = Load::start(&dev, &before, round).await;
        // In the first round at once; later when some keys were moved since the start.
        let under_way = eventually("keys are moved", async || {
            let rotation = root(&dev).await.rotation;
            match rotation {
                None => Some(false),
                Some(rotation) => (round == 0 || rotation.keys_moved > 0).then_some(true),
            }
        })
        .await;
        dev.kill();
        during.extend(load.stop().await.0);
        dev.start_again();
        assert!(round > 0 || under_way, "it was over before the first kill");
    }
    eventually("the rotation is over", async || root(&dev).await.rotation.is_none().then_some(())).await;
    assert_eq!(root(&dev).await.oldest_generation, 2);
    assert_open(&dev, &before).await;
    assert_open(&dev, &during).await;
    dev.restart();
    assert!(!dev.log().contains("none of Dewpoint's"), "{}", dev.log());
    assert!(dev.stop().success());
    assert_token_holds(&dev, &[2]);
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_root_key_stays_over_a_restart_until_it_is_retired() {
    let mut dev = Dev::start();
    let before = keys(&dev, 10).await;
    let kept = dewctl(&dev, &["root", "rotate", "--keep-old-root", "--wait", "--json"]).await;
    assert_eq!(kept["rotation"]["stage"], "KEEPING_OLD_ROOT");
    assert_eq!(kept["token_generations"], serde_json::json!([1, 2]));
    dev.restart();
    let again = dewctl(&dev, &["root", "rotate", "--json"]).await;
    assert_eq!(again["token_generations"], serde_json::json!([1, 2]), "no other one is started");
    assert_open(&dev, &before).await;
    let ended = dewctl(&dev, &["root", "retire", "--wait", "--json"]).await;
    assert_eq!((&ended["rotation"], &ended["token_generations"]), (&Value::Null, &serde_json::json!([2])));
    assert_open(&dev, &before).await;
    assert!(dev.stop().success());
    assert_token_holds(&dev, &[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_users_cannot_do_what_the_others_may() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let missing = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    assert_eq!(refusal(admin.roots.rotate_root(RotateRootRequest::default()).await), missing);
    assert_eq!(refusal(admin.roots.retire_root(RetireRootRequest {}).await), missing);
    assert_eq!(refusal(admin.roots.describe_root(DescribeRootRequest {}).await), missing);
    let user = dev.description.account(0).user("admin").user_id.clone();
    let metadata = vec![("x-acting-for", user)];
    let obs = Identity { files: Some(dev.description.service("obs")), metadata: metadata.clone() };
    let mut obs = dev.connect(obs).await;
    assert_eq!(refusal(obs.roots.rotate_root(RotateRootRequest::default()).await), missing);
    let mut operator = dev.operator().await;
    assert_eq!(refusal(operator.try_create("k", KeySpec::Aes256).await), missing);
    let key = admin.create("k").await.key_id;
    assert_eq!(refusal(operator.generate(by_id(&key), Context::new()).await), missing);
    assert_eq!(refusal(operator.describe(by_id(&key)).await), missing);
    let acting = Identity { files: Some(dev.description.operator()), metadata };
    let mut acting = dev.connect(acting).await;
    let refused = refusal(acting.roots.describe_root(DescribeRootRequest {}).await);
    assert_eq!(refused, (Code::Unauthenticated, "ACTING_FOR_NOT_ALLOWED".to_owned()));
    assert_eq!(root(&dev).await.generation, 1, "nothing was rotated");
    let operators = records(dev.directory()).into_iter().filter(|record| record["account"] == "operator");
    assert!(operators.clone().all(|record| record["user"] == "dev"));
    assert_eq!(operators.filter(|record| record["verdict"] == "denied").count(), 3);
    assert!(dev.stop().success());
}
