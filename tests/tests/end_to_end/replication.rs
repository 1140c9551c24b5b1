//! Keys of several regions by `dewctl`, over gRPC, across a killed process.

use dewpoint_tests::{Dev, Ended};
use serde_json::Value;

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().expect("text")
}

/// The account's project of another region than its first one, and that region.
fn elsewhere(dev: &Dev) -> (String, String) {
    dev.description.account(0).projects[1].clone()
}

fn generate(dev: &Dev, arguments: &[&str]) -> Value {
    dev.ctl(&[&["--json", "data-key", "generate"][..], arguments].concat()).json()
}

fn open(dev: &Dev, sealed: &Value, arguments: &[&str]) -> Ended {
    let open = ["--json", "data-key", "decrypt", "--base64", text(sealed, "ciphertext")];
    dev.ctl(&[&open[..], arguments].concat())
}

#[test]
fn a_replica_opens_what_its_primary_sealed_and_the_other_way_round_also_after_a_kill() {
    let mut dev = Dev::start();
    let (project, region) = elsewhere(&dev);
    let there = ["--project", &project];
    let primary = dev.ctl(&["--json", "key", "create", "orders", "--spec", "SM4"]).json();
    let id = text(&primary, "key_id");
    let first = generate(&dev, &["orders"]);

    let create = ["--json", "replica", "create", "orders", "--region", &region, "--alias", "orders-there"];
    let replica = dev.ctl(&create).json();
    assert_eq!((text(&replica, "region"), text(&replica, "primary_key_id")), (region.as_str(), id));
    assert_eq!(replica["replicas"].as_array().map(Vec::len), Some(2));
    assert_eq!(dev.ctl(&create).refusal(), "REPLICA_EXISTS");
    assert_eq!(dev.ctl(&["--json", "key", "schedule-deletion", id]).refusal(), "REPLICAS_REMAIN");

    let second = generate(&dev, &[&["orders-there"][..], &there].concat());
    dev.ctl(&["--json", "rotation", "now", "orders"]).json();
    let third = generate(&dev, &[&["orders-there"][..], &there].concat());
    assert_eq!(third["key_version"], 2);
    let refused = dev.ctl(&[&["--json", "rotation", "now", "orders-there"][..], &there].concat());
    assert_eq!(refused.refusal(), "REPLICA_READ_ONLY");

    dev.kill();
    dev.start_again();
    for sealed in [&first, &second, &third] {
        let here = open(&dev, sealed, &[]).json();
        let opened_there = open(&dev, sealed, &there).json();
        assert_eq!(text(&here, "key_id"), id);
        assert_eq!(text(&opened_there, "key_id"), text(&replica, "key_id"));
        for opened in [&here, &opened_there] {
            assert_eq!(opened["plaintext"], sealed["plaintext"]);
        }
    }
    dev.ctl(&["--json", "replica", "promote", "orders", "--region", &region]).json();
    let rotated = dev.ctl(&[&["--json", "rotation", "now", "orders-there"][..], &there].concat()).json();
    assert_eq!(rotated["current_version"], 3);
    let regions = dev.ctl(&["--json", "replica", "regions"]).json();
    assert!(regions["regions"].as_array().expect("a list").contains(&Value::from(region)), "{regions}");
}
