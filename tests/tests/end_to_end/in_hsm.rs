//! Keys that seal inside the HSM: their protection is told, their budget holds, and a new version follows.

use std::{collections::BTreeMap, path::Path, time::Duration};

use dewpoint_tests::{
    ADMIN, Clients, Context, Dev, DevOptions, Identity, Serve, all_changes_ended, by_id, by_service,
    check_log, context, eventually, reason, records, valid,
};
use kms_proto::v1::{
    CipherPlace, GenerateDataKeyRequest, GenerateDataKeyResponse, Key, KeySpec, ListKeysRequest,
};
use serde_json::Value;
use tokio::task::JoinSet;

fn dev(budget: u64) -> Dev {
    let budget = budget.to_string();
    let arguments = ["--traffic-control=off", "--in-hsm", "aes_256", "--in-hsm-budget", &budget];
    Dev::start_with(DevOptions { arguments: arguments.map(str::to_owned).to_vec(), ..DevOptions::default() })
}

/// Where the key's cipher runs, its budget, and how much of that is taken.
fn protection(key: &Key) -> (CipherPlace, u64, u64) {
    let protection = key.protection.as_ref().expect("every key with material is protected somehow");
    assert_eq!(protection.root_generation, 1);
    (protection.cipher(), protection.budget, protection.reserved_uses)
}

/// Makes data keys, several at a time.
async fn generate(clients: &Clients, key_id: &str, count: usize) -> Vec<GenerateDataKeyResponse> {
    const IN_FLIGHT: usize = 16;
    let mut calls = JoinSet::new();
    for caller in 0..IN_FLIGHT {
        let (mut clients, key) = (clients.clone(), by_id(key_id));
        calls.spawn(async move {
            let mut made = Vec::new();
            for _ in (caller..count).step_by(IN_FLIGHT) {
                made.push(clients.generate(key.clone(), Context::new()).await.expect("made"));
            }
            made
        });
    }
    calls.join_all().await.concat()
}

/// The changes of this kind that the log says to have happened.
fn changes(data_dir: &Path, operation: &str) -> Vec<Value> {
    let happened = |record: &Value| {
        record["operation"] == operation
            && record["phase"] == "outcome"
            && record["verdict"] == "succeeded"
            && record.get("state_digest").is_some()
    };
    records(data_dir).into_iter().filter(happened).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_a_thousand_holds_and_a_new_version_follows_by_itself() {
    let dev = dev(1000);
    let mut admin = dev.user(0, "admin").await;
    let key = admin.create("k").await;
    assert_eq!(protection(&key), (CipherPlace::Hsm, 1000, 0));
    let made = generate(&admin, &key.key_id, 1005).await;
    let mut by_version = BTreeMap::<u32, usize>::new();
    for one in &made {
        assert_eq!(one.ciphertext_blob[1], 2, "the scheme");
        *by_version.entry(one.key_version).or_default() += 1;
    }
    assert_eq!(by_version, BTreeMap::from([(1, 1000), (2, 5)]));
    let described = admin.describe(by_id(&key.key_id)).await.expect("it exists");
    assert_eq!((described.current_version, protection(&described)), (2, (CipherPlace::Hsm, 1000, 10)));
    for one in made.iter().step_by(50).chain(made.last()) {
        admin.check_opens(one).await;
    }
    check_log(dev.directory());
    assert_eq!(changes(dev.directory(), "ReserveKeyUses").len(), 101);
    let rotations = changes(dev.directory(), "RotateKey");
    let [rotation] = &rotations[..] else { panic!("one rotation, not {rotations:?}") };
    assert_eq!((&rotation["reason"], &rotation["key_version"]), (&"BUDGET_SPENT".into(), &2.into()));
    assert_eq!((&rotation["key_id"], rotation["user"].is_string()), (&key.key_id.into(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_algorithm_seals_where_it_is_told_to_and_every_answer_says_so() {
    let dev = dev(1000);
    let mut admin = dev.user(0, "admin").await;
    let sm4 = admin.create_of("sm4", KeySpec::Sm4).await;
    let aes = admin.create("aes").await;
    let default = admin.generate(by_service("obs"), Context::new()).await.expect("made on first use").key_id;
    for (id, expected) in [
        (&sm4.key_id, (CipherPlace::Service, 0, 0)),
        (&aes.key_id, (CipherPlace::Hsm, 1000, 0)),
        (&default, (CipherPlace::Hsm, 1000, 10)),
    ] {
        assert_eq!(protection(&admin.describe(by_id(id)).await.expect("it exists")), expected);
        let listed = admin.list(ListKeysRequest::default()).await;
        let listed = listed.iter().find(|key| key.key_id == *id).expect("it is listed");
        assert_eq!(protection(listed), expected);
        let made = admin.generate(by_id(id), Context::new()).await.expect("made");
        admin.check_opens(&made).await;
        let other = admin.decrypt(&made.ciphertext_blob, None, context(&[("bucket", "other")])).await;
        assert_eq!(reason(&other.expect_err("another context")), "CANNOT_DECRYPT");
        let mut altered = made.ciphertext_blob.to_vec();
        altered[1] ^= 3;
        let other = admin.decrypt(&altered, None, Context::new()).await;
        assert_eq!(reason(&other.expect_err("another scheme")), "CANNOT_DECRYPT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_forfeits_what_was_reserved_and_loses_no_data_key() {
    let mut dev = dev(1000);
    let mut admin = dev.user(0, "admin").await;
    let key = admin.create("k").await.key_id;
    let mut made = Vec::new();
    for block in 1..=3 {
        made.extend(generate(&admin, &key, 3).await);
        let described = admin.describe(by_id(&key)).await.expect("it exists");
        assert_eq!(protection(&described), (CipherPlace::Hsm, 1000, block * 10));
        dev.kill();
        dev.start_again();
        admin = dev.user(0, "admin").await;
    }
    for one in &made {
        admin.check_opens(one).await;
    }
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_of_an_uploader_suffice_when_a_version_is_spent() {
    let dev = dev(1);
    let key = dev.user(0, "admin").await.create("k").await.key_id;
    let mut uploader = dev.user(0, "uploader").await;
    for version in 1..=3 {
        let made = uploader.generate(by_id(&key), Context::new()).await.expect("rotates by itself");
        assert_eq!(made.key_version, version);
    }
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hang_up_leave_no_reservation_half_recorded() {
    let mut dev = dev(199); // a reservation for each use, and enough for all calls
    let mut admin = dev.user(0, "admin").await;
    let key = admin.create("k").await.key_id;
    let mut calls = JoinSet::new();
    for number in 0..190_u64 {
        let (mut clients, key) = (dev.user(0, "admin").await, by_id(&key));
        calls.spawn(async move {
            let request = GenerateDataKeyRequest { key, ..GenerateDataKeyRequest::default() };
            // Some leave before the call arrives, some in the middle, some after.
            let patience = Duration::from_micros(150 * number);
            drop(tokio::time::timeout(patience, clients.data.generate_data_key(request)).await);
        });
    }
    calls.join_all().await;
    // What the last of them asked for may still be under way; what has begun ends.
    eventually("every use that is reserved to be recorded", async || {
        all_changes_ended(dev.directory()).await;
        let described = admin.clone().describe(by_id(&key)).await.expect("it exists");
        let reserved = changes(dev.directory(), "ReserveKeyUses").len() as u64;
        (protection(&described) == (CipherPlace::Hsm, 199, reserved)).then_some(())
    })
    .await;
    dev.restart();
    check_log(dev.directory());
}

/// SM4 by a vendor's numbers, which the stand-in has, in each form that a vendor's cipher may have.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_sm4_seals_inside_the_hsm_by_configured_numbers() {
    const NUMBERS: &str = "key_type = 0x80000002\ngeneration = 0x80000107";
    let hsm = |cipher: &str| {
        format!("workers = 1\n[hsm.cipher]\nsm4 = \"hsm\"\nbudget = 1000\n[hsm.sm4]\n{NUMBERS}\n{cipher}\n")
    };
    let mut serve = Serve::prepare();
    let faults = serve.directory().join("faults");
    serve.stand_in(&faults, &hsm("cipher = 0x8000010f\nform = \"gcm\""));
    assert!(serve.run("init").status.success());
    let mut sealed = Vec::new();
    for cipher in ["cipher = 0x8000010f\nform = \"gcm\"", "cipher = 0x80000108\nform = \"ecb\""] {
        serve.configure(&hsm(cipher));
        serve.start().await;
        let files = serve.authority.client("admin", &[ADMIN], valid());
        let mut admin = serve.connect(Identity { files: Some(files), ..Identity::default() }).await;
        let key = admin.create_of(if sealed.is_empty() { "first" } else { "second" }, KeySpec::Sm4).await;
        let shown = admin.describe(by_id(&key.key_id)).await.expect("described");
        assert_eq!(protection(&shown), (CipherPlace::Hsm, 1000, 0));
        sealed.push(admin.generate(by_id(&key.key_id), Context::new()).await.expect("made"));
        for made in &sealed {
            assert_eq!(made.ciphertext_blob[1..3], [2, 2], "sealed in the HSM, by SM4");
            admin.check_opens(made).await;
        }
        assert!(serve.stop().success());
    }
    // What the token does not have stops the start, and says what to do.
    serve.configure(&hsm("cipher = 0x80000bad\nform = \"gcm\""));
    let refused = serve.run("serve");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("hsm.cipher.sm4"), "{said}");
}
