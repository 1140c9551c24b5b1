//! What each permission of the key service is to the object gateway, and what its throttling is.

use std::fs;

use dewpoint_tests::{Dev, DevOptions, ObjectStore};

use super::gateway::python;

/// The permissions that dev mode's `uploader` and `downloader` have.
const UPLOAD: [&str; 4] = ["kms:cmk:get", "kms:cmk:list", "kms:cmk:create", "kms:dek:create"];
const DOWNLOAD: [&str; 5] =
    ["kms:cmk:get", "kms:cmk:list", "kms:cmk:create", "kms:dek:create", "kms:dek:crypto"];
/// What makes data keys and bucket keys, and what opens them.
const CALLS: [&str; 4] = ["GenerateDataKey", "GenerateBucketKey", "DecryptDataKey", "DecryptBucketKey"];
/// More than clients ask for while it lasts.
const ALL: &str = "1000000";

#[tokio::test(flavor = "multi_thread")]
async fn each_permission_is_asked_for_and_named_where_it_is_missing() {
    let dev = Dev::start();
    let mut store = ObjectStore::start(&dev).await;
    succeeds(&store, &["prepare"]);
    let file = dev.directory().join("identity.toml");
    let whole = fs::read_to_string(&file).expect("it is there");
    for (act, permissions) in [("upload", &UPLOAD[..]), ("download", &DOWNLOAD[..])] {
        // With all of them at last: what succeeded is believed for a while.
        for missing in permissions.iter().copied().chain([""]) {
            let left: Vec<_> = permissions.iter().copied().filter(|one| *one != missing).collect();
            let changed = whole.replace(&line(permissions), &line(&left));
            assert_eq!(changed == whole, missing.is_empty(), "dev mode's users have {permissions:?}");
            fs::write(&file, changed).expect("written");
            assert_eq!(dev.ctl(&["identities", "reload"]).code, Some(0));
            succeeds(&store, &[act, missing]);
        }
    }
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_key_service_is_answered_with_slow_down() {
    let arguments = vec!["--traffic-control=off".into(), "--clock=manual".into()];
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let mut store = ObjectStore::start(&dev).await;
    succeeds(&store, &["prepare"]);
    for (act, calls) in [("throttled", ALL), ("free", "1")] {
        for operation in CALLS {
            assert_eq!(dev.ctl(&["dev", "throttle", operation, calls]).code, Some(0), "{operation}");
        }
        succeeds(&store, &[act]);
    }
    store.stop();
}

/// A user's line of the identities' file.
fn line(permissions: &[&str]) -> String {
    format!("permissions = {permissions:?}\n")
}

fn succeeds(store: &ObjectStore, arguments: &[&str]) {
    let mut client = python("gateway_permissions.py");
    let ended = client.arg(store.description()).args(arguments).output();
    let ended = ended.expect("it is there, or scripts/setup.sh test was not run");
    assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
}
