//! Every operation, called once by a stock client of another language that learns the contract by reflection.

use std::{path::Path, process::Command};

use dewpoint_tests::{Dev, DevOptions, Module};

#[test]
fn a_stock_client_calls_every_operation_by_reflection() {
    let arguments = ["--clock=manual", "--traffic-control=off", "--keystore=vault"].map(str::to_owned);
    let arguments = arguments.to_vec();
    // Dev mode makes keystores beside a token of its own only.
    let module = Module::SoftHsm2;
    let dev = Dev::start_with(DevOptions { module, arguments, ..DevOptions::default() });
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../.tools/venv/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/setup.sh test", python.display());
    let client = Command::new(python)
        .arg("-B")
        .arg(root.join("clients/stock.py"))
        .arg(dev.directory().join("dev.json"))
        .output();
    let client = client.expect("it starts");
    let said = String::from_utf8_lossy(&client.stderr);
    assert!(client.status.success(), "{said}");
    let told = String::from_utf8_lossy(&client.stdout);
    assert!(told.contains("operations called"), "{told}");
}
