//! The object gateway before the service: what the clients of S3 and of OBS show of it, and what a kill leaves of it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use dewpoint_tests::{Dev, ObjectStore};
use serde_json::Value;

/// How many objects are acknowledged before a kill.
const ACKNOWLEDGED: usize = 25;
/// How often the gateway is killed.
const KILLS: usize = 4;

pub(super) fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut client = Command::new(root.join(".tools/venv/bin/python"));
    client.arg("-B").arg(root.join("tests/clients").join(script)).env("PYTHONWARNINGS", "ignore");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_and_the_sdks_of_obs_use_everything_that_the_gateway_offers() {
    let dev = Dev::start();
    let mut store = ObjectStore::start(&dev).await;
    succeeds(python("gateway.py").arg(store.description()));
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_of_obs_uses_everything_that_it_has_words_for() {
    let dev = Dev::start();
    let mut store = ObjectStore::start(&dev).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut client = Command::new("node");
    client.arg(root.join("tests/clients/node/store.cjs")).arg(store.description());
    client
        .env("NODE_PATH", root.join(".tools/node/node_modules"))
        .env("NODE_EXTRA_CA_CERTS", dev.description.ca());
    succeeds(&mut client);
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_read_any_more_can_be_replaced() {
    let dev = Dev::start();
    let mut store = ObjectStore::start(&dev).await;
    succeeds(python("gateway_policy.py").arg("begin").arg(store.description()));
    for act in ["replace", "remove"] {
        store.stop();
        let path = store.data().join("buckets/broken-policy/bucket.json");
        let mut settings: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        settings["policy"] = "{".into();
        fs::write(&path, settings.to_string()).expect("a file");
        store.start_again(&dev).await;
        succeeds(python("gateway_policy.py").arg(act).arg(store.description()));
    }
    store.stop();
}

/// Runs a client that is to end well.
pub(super) fn succeeds(client: &mut Command) {
    let ended = client.output().expect("it is there, or scripts/setup.sh test was not run");
    let (told, why) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{told}{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_that_was_acknowledged_before_a_kill_is_whole_after_it() {
    let dev = Dev::start();
    let mut store = ObjectStore::start(&dev).await;
    let directory = tempfile::tempdir().expect("a directory");
    let told: PathBuf = directory.path().join("told");
    let mut acknowledged = Vec::new();
    for _ in 0..KILLS {
        let mut client = python("gateway_crash.py");
        client.args(["load".as_ref(), store.description().as_os_str()]).stdout(Stdio::piped());
        let mut client = client.spawn().expect("it starts");
        let mut lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
        acknowledged.extend(lines.by_ref().take(ACKNOWLEDGED).map(|line| line.expect("a line")));
        store.kill();
        acknowledged.extend(lines.map(|line| line.expect("a line")));
        assert!(client.wait().expect("it ends").success());
        store.start_again(&dev).await;
    }
    assert!(acknowledged.len() >= KILLS * ACKNOWLEDGED);
    fs::write(&told, acknowledged.join("\n")).expect("a file");
    let mut client = python("gateway_crash.py");
    client
        .args(["check".as_ref(), store.description().as_os_str()])
        .stdin(File::open(&told).expect("a file"));
    assert!(client.status().expect("it starts").success());
}
