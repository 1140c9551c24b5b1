//! The command, where it cannot serve: it says why, and ends.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
};

use tempfile::TempDir;

const CONFIGURATION: &str = r#"
region = "r1"
data_dir = "data"
credentials_file = "credentials.toml"
[listen]
https = "127.0.0.1:0"
certificate = "server.pem"
private_key = "server.key"
[kms]
endpoint = "https://127.0.0.1:1"
ca_certificate = "ca.pem"
client_certificate = "obs.pem"
client_key = "obs.key"
"#;

/// What it says when it is started with this configuration and these credentials.
fn refused(configuration: &str, credentials: &str) -> String {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("gateway.toml"), configuration).expect("a file");
    fs::write(directory.path().join("credentials.toml"), credentials).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_obs-gateway"));
    let ended = command.arg("--config").arg(directory.path().join("gateway.toml")).output().expect("it runs");
    assert!(!ended.status.success() && ended.stdout.is_empty());
    assert!(!directory.path().join("data").exists(), "nothing is made");
    String::from_utf8(ended.stderr).expect("UTF-8")
}

#[test]
fn a_configuration_with_an_unknown_field_is_refused() {
    let told = refused(&CONFIGURATION.replace("region", "regoin"), "");
    assert!(told.contains("regoin") && told.contains("gateway.toml"), "{told}");
}

#[test]
fn credentials_are_refused_without_a_word_of_their_secrets() {
    let credentials = "[[accounts]]\ndomain_id = \"d\"\nproject_id = [\"hidden words\"]\n";
    let told = refused(CONFIGURATION, credentials);
    assert!(told.contains("credentials.toml") && told.contains("line 3"), "{told}");
    assert!(!told.contains("hidden words"), "{told}");
}

#[test]
fn a_certificate_that_is_missing_is_named() {
    let told = refused(CONFIGURATION, "");
    assert!(told.contains("server.pem"), "{told}");
}

#[test]
fn bucket_keys_have_bounds() {
    for (field, told) in [
        ("validity_seconds = 0", "validity_seconds is 1 to 900"),
        ("validity_seconds = 901", "validity_seconds is 1 to 900"),
        ("validity_seconds = -1", "validity_seconds"),
        ("capacity = 0", "capacity is 1 to 1000000"),
        ("capacity = 1000001", "capacity is 1 to 1000000"),
        ("validity = 180", "unknown field"),
    ] {
        let refusal = refused(&format!("{CONFIGURATION}[bucket_keys]\n{field}\n"), "");
        assert!(refusal.contains(told) && refusal.contains("gateway.toml"), "{refusal}");
    }
    for field in ["", "validity_seconds = 900", "capacity = 1"] {
        let refusal = refused(&format!("{CONFIGURATION}[bucket_keys]\n{field}\n"), "");
        assert!(refusal.contains("server.pem"), "{field} is in bounds: {refusal}");
    }
}

#[test]
fn its_memory_is_never_dumped() {
    // Its configuration does not end, so it stays where it is.
    let mut command = Command::new(env!("CARGO_BIN_EXE_obs-gateway"));
    let command = command.args(["--config", "/dev/stdin"]).stdin(Stdio::piped());
    let mut gateway = command.spawn().expect("it runs");
    let limits = format!("/proc/{}/limits", gateway.id());
    let forbids = || {
        let limits = fs::read_to_string(&limits).expect("it lives");
        limits.lines().any(|line| line.split_whitespace().eq("Max core file size 0 0 bytes".split(' ')))
    };
    while !forbids() {
        assert!(gateway.try_wait().expect("it is ours").is_none(), "it ended");
        thread::yield_now();
    }
    gateway.kill().expect("it lives");
    gateway.wait().expect("it is ours");
}
