//! Tokens for tests: a fresh one on each of the PKCS#11 modules that Dewpoint is proved on.
#![allow(clippy::missing_panics_doc, reason = "support of tests panics where a test fails")]

mod alone;
mod kryoptic;
mod softhsm2;
mod stand_in;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub use alone::{alone, assert_passed};
pub use stand_in::{inject, stand_in};

/// Chooses the module of tests that run on one at a time: `softhsm2`, the default, or `kryoptic`.
const CHOICE: &str = "DEWPOINT_TEST_MODULE";

/// A PKCS#11 module that tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// SoftHSM2, as the distribution installs it.
    SoftHsm2,
    /// Kryoptic, as `scripts/setup.sh test` builds it.
    Kryoptic,
}

/// A token: initialised, with a user PIN, and without any object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The module that has it.
    pub module: PathBuf,
    /// The file of the user's PIN.
    pub pin_file: PathBuf,
    /// The variables by which a process tells the module where the token is, and their values.
    pub environment: Vec<(&'static str, PathBuf)>,
}

impl Token {
    /// The labels of all its objects, as another program lists them.
    pub fn labels(&self) -> Vec<String> {
        let pin = fs::read_to_string(&self.pin_file).expect("a PIN");
        let mut tool = Command::new("pkcs11-tool");
        tool.arg("--module").arg(&self.module).args(["--list-objects", "--login", "--pin", "env:PIN"]);
        let listed = tool.env("PIN", pin.trim()).envs(self.environment.iter().cloned()).output();
        let listed = listed.expect("pkcs11-tool is missing: run scripts/setup.sh test");
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let labels = text.lines().filter_map(|line| line.trim().strip_prefix("label:"));
        labels.map(|label| label.trim().to_owned()).collect()
    }
}

impl Module {
    /// The module that the environment chooses.
    pub fn chosen() -> Self {
        match std::env::var(CHOICE).as_deref() {
            Err(std::env::VarError::NotPresent) | Ok("softhsm2") => Self::SoftHsm2,
            Ok("kryoptic") => Self::Kryoptic,
            other => panic!("{CHOICE} must be softhsm2 or kryoptic, and is {other:?}"),
        }
    }

    /// Makes a token with this label in `directory`, unless it is there already.
    pub fn token(self, directory: &Path, label: &str) -> Token {
        match self {
            Self::SoftHsm2 => softhsm2::token(directory, label),
            Self::Kryoptic => kryoptic::token(directory, label),
        }
    }
}
