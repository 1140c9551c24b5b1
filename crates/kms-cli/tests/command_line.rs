//! What `dewctl` says to those who call it: results on stdout, the rest on stderr, exit codes.

use std::{
    fs,
    process::{Command, Output},
};

/// Runs `dewctl` with none of its variables in the environment.
fn dewctl(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dewctl"));
    for name in ["DEV_JSON", "ENDPOINT", "CA", "CERT", "KEY"] {
        command.env_remove(format!("DEWCTL_{name}"));
    }
    command.args(arguments).output().expect("it starts")
}

fn assert_fails(arguments: &[&str], code: i32, says: &str) {
    let output = dewctl(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed a result");
    assert!(stderr.contains(says), "{arguments:?} said {stderr:?}, not {says:?}");
}

#[test]
fn help_names_the_commands_and_what_a_rotation_does_to_backups() {
    let help = |arguments: &[&str]| {
        let output = dewctl(arguments);
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for part in ["root", "--dev-json", "--endpoint", "DEWCTL_CA", "--json", "Exit codes"] {
        assert!(help(&["--help"]).contains(part), "{part}");
    }
    let rotate = help(&["root", "rotate", "--help"]);
    for part in ["--keep-old-root", "--wait", "backups of the key store from before the rotation"] {
        assert!(rotate.contains(part), "{part}: {rotate}");
    }
    assert!(help(&["root", "retire", "--help"]).contains("can be restored no more"));
}

#[test]
fn without_a_service_it_says_what_to_give() {
    assert_fails(&["root", "status"], 2, "give --dev-json, or all of --endpoint");
    assert_fails(&["root", "status", "--endpoint", "https://127.0.0.1:1"], 2, "give --dev-json");
    assert_fails(&["root", "turn"], 2, "unrecognized subcommand");
    assert_fails(&["root", "status", "--dev-json", "a", "--endpoint", "b"], 2, "cannot be used with");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("dev.json");
    let name = path.to_str().expect("text");
    assert_fails(&["root", "status", "--dev-json", name], 2, "dev.json");
    for (content, says) in [
        ("{", "EOF"),
        ("{}", "has no /grpc/endpoint"),
        (
            r#"{"grpc": {"endpoint": "https://127.0.0.1:1"}, "ca_cert": "/nowhere"}"#,
            "/operators/0/client_cert",
        ),
        (
            r#"{"grpc": {"endpoint": "https://127.0.0.1:1"}, "ca_cert": "/nowhere/ca",
                "operators": [{"client_cert": "/nowhere/cert", "client_key": "/nowhere/key"}]}"#,
            "cannot read /nowhere/key",
        ),
    ] {
        fs::write(&path, content).expect("a file");
        assert_fails(&["root", "status", "--dev-json", name], 2, says);
    }
}
