//! Bucket keys of the object gateway: which calls of the service they spare, and how long one is used.

use dewpoint_tests::{Dev, ObjectStore, check_log, records};
use serde_json::Value;

use super::gateway::python;

/// How many objects the client puts, and gets.
const OBJECTS: usize = 1000;

/// Runs a client to its good end; answers what it tells.
fn run(store: &ObjectStore, script: &str, arguments: &[&str]) -> String {
    let ended = python(script).arg(store.description()).args(arguments).output().expect("it starts");
    let (told, why) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{told}{why}");
    told.into_owned()
}

/// The records of calls that the gateway made.
fn calls(dev: &Dev) -> Vec<Value> {
    let mut calls = records(dev.directory());
    calls.retain(|record| record["acting_service"] == "obs");
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_put_and_got_cost_hardly_any_call() {
    let dev = Dev::start();
    let mut store = ObjectStore::start(&dev).await;
    run(&store, "gateway_count.py", &["with", "true"]);
    store.stop(); // its last reports count, too
    let log = store.log();
    let with = calls(&dev);
    store.start_again(&dev).await;
    run(&store, "gateway_count.py", &["without", "false"]);
    store.stop();
    let without = calls(&dev).len() - with.len();
    println!(
        "calls for {OBJECTS} puts and {OBJECTS} gets: {without} without bucket keys, {} with",
        with.len()
    );
    assert!(without >= 2 * OBJECTS, "{without}");
    assert!(with.len() * 100 <= without * 3, "{} of {without}: not 97 % fewer", with.len());

    let succeeded = |operation: &str| {
        let of = |record: &&Value| record["operation"] == operation && record["verdict"] == "succeeded";
        with.iter().filter(of).cloned().collect::<Vec<_>>()
    };
    let (made, reports) = (succeeded("GenerateBucketKey"), succeeded("ReportBucketKeyUse"));
    assert!(succeeded("GenerateDataKey").is_empty() && succeeded("DecryptDataKey").is_empty());
    assert_eq!(reports.len(), made.len(), "each bucket key was reported");
    let uses: u64 = reports.iter().map(|report| report["uses"].as_u64().expect("a number")).sum();
    assert_eq!(uses, u64::try_from(OBJECTS).expect("small"), "the log tells how many objects hang on them");
    for record in &made {
        assert_eq!(record["context"]["bucket"].as_str().map(str::is_empty), Some(false), "{record}");
    }
    assert!(log.contains("bucket keys") && log.contains("\"lost_reports\":0"), "{log}");
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_disabled_or_not_granted_any_more_is_not_used_for_longer_than_its_bucket_key_is_valid()
{
    for what_happens in ["disabled", "revoked"] {
        let dev = Dev::start();
        let more = "[bucket_keys]\nvalidity_seconds = 1\ncapacity = 1\n";
        let mut store = ObjectStore::start_with(&dev, &dev.description.endpoint(), more).await;
        println!("{}", run(&store, "gateway_bound.py", &[what_happens]));
        store.stop();
    }
}
