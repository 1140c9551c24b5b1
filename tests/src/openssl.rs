//! The `openssl` command: the independent party that signatures, secrets and ciphertexts are proved against.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

/// A directory in which `openssl` runs, with its files.
#[derive(Debug)]
pub struct Openssl(TempDir);

impl Default for Openssl {
    fn default() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }
}

impl Openssl {
    /// Writes a file that commands name.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), bytes).expect("a file");
    }

    /// Reads a file that a command wrote.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).expect("a file")
    }

    /// Runs a command, its words separated by blanks; answers what it printed. It must succeed.
    pub fn run(&self, command: &str) -> Vec<u8> {
        let output = self.output(command);
        assert!(output.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Whether a command of verification finds the signature valid. It must find it valid or not, and not fail.
    pub fn verifies(&self, command: &str) -> bool {
        let output = self.output(command);
        let said = String::from_utf8_lossy(&output.stdout);
        let valid = output.status.success();
        let found = ["Verified OK", "Verification failure", "Verification Failure", "Signature Verif"];
        assert!(found.iter().any(|found| said.contains(found)), "openssl {command}: {output:?}");
        valid
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    fn output(&self, command: &str) -> Output {
        let mut openssl = Command::new("openssl");
        openssl.args(command.split(' ')).current_dir(self.0.path());
        openssl.output().expect("openssl is installed: scripts/setup.sh test")
    }
}
