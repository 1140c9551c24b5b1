//! The tests run on the module that was asked for, and dev mode on a token that exists leaves it alone.

use std::fs;

use dewpoint_tests::{Context, Dev, DevOptions, Module, by_alias};

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
