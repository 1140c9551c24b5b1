//! Many keys: the token is searched at the start and never again, whatever keys are used and made.

use std::fs;

use dewpoint_tests::{ADMIN, Clients, Context, Identity, Serve, by_id, valid};
use kms_proto::v1::{DisableKeyRequest, EnableKeyRequest};

/// Fewer than the keys in use, so that keys are evicted all the time.
const LOADED: &str = "workers = 2\nloaded_keys = 4\n";
const KEYS: usize = 16;
const STORED: usize = 1_000;

async fn admin(serve: &Serve) -> Clients {
    let files = Some(serve.authority.client("admin", &[ADMIN], valid()));
    serve.connect(Identity { files, ..Identity::default() }).await
}

async fn round_trip(admin: &mut Clients, id: &str) {
    let made = admin.generate(by_id(id), Context::new()).await.expect("made");
    admin.check_opens(&made).await;
}

/// Uses keys in turn, so that they are cold and push each other out, one again and again, a new one, and
/// one that was evicted because it was disabled.
async fn use_all(mut admin: Clients, ids: Vec<String>, task: usize) {
    for id in &ids {
        round_trip(&mut admin, id).await;
    }
    for _ in 0..20 {
        round_trip(&mut admin, &ids[0]).await;
    }
    let key_id = admin.create(&format!("new-{task}")).await.key_id;
    round_trip(&mut admin, &key_id).await;
    admin.keys.disable_key(DisableKeyRequest { key_id: key_id.clone() }).await.expect("disabled");
    admin.keys.enable_key(EnableKeyRequest { key_id: key_id.clone() }).await.expect("enabled");
    round_trip(&mut admin, &key_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_searched_at_the_start_and_never_again() {
    let mut serve = Serve::prepare();
    assert!(serve.run("init").status.success(), "the root key is made");
    let ids = serve.seed(STORED);
    let trace = serve.directory().join("trace");
    serve.spy(&trace, LOADED);
    serve.start().await;
    let started = fs::read_to_string(&trace).expect("a trace").len();
    let admin = admin(&serve).await;
    let users = (0..4).map(|task| {
        let ids = ids.iter().skip(task).step_by(STORED / KEYS).cloned().collect();
        tokio::spawn(use_all(admin.clone(), ids, task))
    });
    for user in users.collect::<Vec<_>>() {
        user.await.expect("its calls are answered");
    }
    let text = fs::read_to_string(&trace).expect("a trace");
    let (start, load) = text.split_at(started);
    let count = |text: &str, call: &str| text.matches(&format!(": {call}\n")).count();
    assert!(count(start, "C_FindObjectsInit") > 0, "the tracer shows searches");
    assert!(count(load, "C_UnwrapKey") > 4 * KEYS, "keys were cold");
    assert!(count(load, "C_DestroyObject") > 2 * KEYS, "keys were evicted");
    assert!(count(load, "C_GenerateKey") >= 4, "keys were made");
    for call in ["C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue"] {
        assert_eq!(count(load, call), 0, "{call} under load");
    }
    assert!(serve.stop().success());
}
