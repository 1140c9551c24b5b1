//! Tokens of Kryoptic, each in a database of its own.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
};

use crate::Token;

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/kryoptic/libkryoptic.so");
const CONFIGURATION: &str = "KRYOPTIC_CONF";

pub(crate) fn token(directory: &Path, label: &str) -> Token {
    let module = fs::canonicalize(MODULE).expect("Kryoptic is missing: run scripts/setup.sh test");
    let configuration = directory.join("kryoptic.toml");
    let exists = configuration.exists();
    let environment = vec![(CONFIGURATION, configuration)];
    let token = Token { module, pin_file: directory.join("pin"), environment };
    if !exists {
        make(&token, directory, label);
    }
    token
}

fn make(token: &Token, directory: &Path, label: &str) {
    fs::create_dir_all(directory).expect("a directory");
    let so_pin = new_pin(&directory.join("so-pin"));
    let pin = new_pin(&token.pin_file);
    let database = directory.join("token.sqlite");
    let slot = format!("[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", database.display());
    fs::write(&token.environment[0].1, slot).expect("the directory is ours");
    let tool = |arguments: &[&str]| {
        let mut tool = Command::new("pkcs11-tool");
        tool.arg("--module").arg(&token.module).args(arguments);
        tool.envs(token.environment.iter().cloned()).env("SO_PIN", &so_pin).env("PIN", &pin);
        let output = tool.output().expect("pkcs11-tool is missing: run scripts/setup.sh test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    tool(&["--init-token", "--slot-index", "0", "--label", label, "--so-pin", "env:SO_PIN"]);
    tool(&["--init-pin", "--login", "--login-type", "so", "--so-pin", "env:SO_PIN", "--new-pin", "env:PIN"]);
}

/// A random PIN, written to a file of which only its owner learns it.
fn new_pin(path: &Path) -> String {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).expect("random bytes");
    let pin = hex::encode(bytes);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("a new file");
    file.write_all(pin.as_bytes()).expect("the file is ours");
    pin
}
