//! The stand-in: a module that stands before a token's own, injects faults and adds a vendor's SM4.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Token;

const MODULE: &str = "libdewpoint_stand_in_module.so";

/// The stand-in module, which cargo builds beside every test that depends on this package.
pub fn stand_in() -> PathBuf {
    let program = std::env::current_exe().expect("a path");
    let directory = program.parent().expect("a directory");
    let [beside, below] = [directory.join(MODULE), directory.join("deps").join(MODULE)];
    if beside.exists() && directory.ends_with("deps") { beside } else { below }
}

/// Replaces the faults that every process meets that has `file` as its file of faults.
pub fn inject(file: &Path, faults: &str) {
    let new = file.with_extension("new");
    fs::write(&new, faults).expect("the directory is ours");
    fs::rename(&new, file).expect("the directory is ours");
}

impl Token {
    /// The same token, seen through the stand-in, with a file that says its faults.
    #[must_use]
    pub fn behind_stand_in(self, faults: &Path) -> Self {
        let mut environment = self.environment;
        environment.push(("STAND_IN_MODULE", self.module));
        environment.push(("STAND_IN_FAULTS", faults.to_owned()));
        Self { module: stand_in(), pin_file: self.pin_file, environment }
    }
}
