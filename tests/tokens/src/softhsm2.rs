//! Tokens of SoftHSM2, made by the script that makes all of them.

use std::{path::Path, process::Command};

use crate::Token;

const INIT_TOKEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../softhsm-config/init-token.sh");

pub(crate) fn token(directory: &Path, label: &str) -> Token {
    let output = Command::new("sh").arg(INIT_TOKEN).arg(directory).arg(label).output().expect("sh starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Token {
        module: String::from_utf8(output.stdout).expect("a path").trim_end().into(),
        pin_file: directory.join("pin"),
        environment: vec![("SOFTHSM2_CONF", directory.join("softhsm2.conf"))],
    }
}
