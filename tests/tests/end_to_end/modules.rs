//! The tests run on the module that was asked for, and dev mode on a token that exists leaves it alone.

use std::fs;

use dewpoint_tests::{Context, Dev, DevOptions, Module, Serve, by_alias};
use serde_json::Value;

/// What the kernel tells about the service's process: `environ`, `maps`.
fn process(dev: &Dev, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{}/{file}", dev.id())).expect("root can read it");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chosen_module_is_the_only_one_in_the_process() {
    let dev = Dev::start();
    let (chosen, other) = match Module::chosen() {
        Module::SoftHsm2 => ("libsofthsm2.so", "libkryoptic.so"),
        Module::Kryoptic => ("libkryoptic.so", "libsofthsm2.so"),
    };
    let maps = process(&dev, "maps");
    assert!(maps.contains(chosen) && !maps.contains(other), "{maps}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_mode_on_a_token_that_exists_makes_none() {
    let options = DevOptions { module: Module::Kryoptic, ..DevOptions::default() };
    let mut dev = Dev::start_with(options);
    assert!(!process(&dev, "environ").contains("SOFTHSM2_CONF"));
    assert!(!dev.directory().join("token/softhsm2.conf").exists());
    dev.user(0, "admin").await.create("k").await;
    dev.restart();
    let made = dev.user(0, "admin").await.generate(by_alias("k"), Context::new()).await;
    made.expect("the key was kept");
}

/// `dewctl hsm` with the configuration and the token of a deployment.
fn dewctl_hsm(serve: &Serve, command: &str) -> (Option<i32>, Value, String) {
    let config = serve.directory().join("dewpoint.toml");
    let mut dewctl = serve.beside("dewctl");
    dewctl.args(["--json", "hsm", command, "--config"]).arg(config);
    let ended = dewctl.output().expect("dewctl starts");
    let result = serde_json::from_slice(&ended.stdout).unwrap_or(Value::Null);
    (ended.status.code(), result, String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_tool_probes_a_token_and_makes_its_root_key_once() {
    let mut serve = Serve::prepare();
    let (code, before, said) = dewctl_hsm(&serve, "probe");
    assert_eq!(
        (code, &before["suffices"], &before["root_generations"]),
        (Some(0), &true.into(), &Value::Null),
        "{said}"
    );
    let (code, made, said) = dewctl_hsm(&serve, "init");
    assert_eq!((code, &made["root_label"]), (Some(0), &"dewpoint-root-1".into()), "{said}");
    let log_key = made["log_public_key"].as_str().expect("the key that verifies checkpoints, in hex");
    assert!(log_key.len() == 64 && log_key.bytes().all(|digit| digit.is_ascii_hexdigit()), "{made}");
    let (code, _, said) = dewctl_hsm(&serve, "init");
    assert_eq!(code, Some(4));
    assert!(said.contains("never made twice"), "{said}");
    serve.start().await;
    // The service is running meanwhile: a probe makes nothing on the token, and leaves nothing.
    let (code, after, said) = dewctl_hsm(&serve, "probe");
    assert_eq!((code, &after["root_generations"]), (Some(0), &serde_json::json!([1])), "{said}");
    let works: Vec<_> = after["features"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|feature| feature["needed"] == true)
        .map(|feature| feature["state"].clone())
        .collect();
    assert!(works.len() >= 2 && works.iter().all(|state| state == "WORKS"), "{after}");
    // A store that exists belongs to another root key.
    let (code, _, said) = dewctl_hsm(&serve, "init");
    assert_eq!(code, Some(4));
    assert!(said.contains("restore its token"), "{said}");
    assert!(serve.stop().success());
}
