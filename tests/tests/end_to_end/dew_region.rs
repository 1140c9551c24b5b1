//! DEW's official SDK finds its projects by IAM, on the same endpoint.

use std::{path::Path, process::Command};

use dewpoint_tests::Dev;

#[test]
fn the_official_sdk_needs_no_project_id() {
    let dev = Dev::start();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../.tools/venv/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/setup.sh test", python.display());
    let client = Command::new(python)
        .arg("-B")
        .arg(root.join("clients/dew_region.py"))
        .arg(dev.directory().join("dev.json"))
        .env("PYTHONWARNINGS", "ignore")
        .output();
    let client = client.expect("it starts");
    let said = String::from_utf8_lossy(&client.stderr);
    assert!(client.status.success(), "{said}");
    let told = String::from_utf8_lossy(&client.stdout);
    assert!(told.contains("projects found for 2 accounts"), "{told}");
}
