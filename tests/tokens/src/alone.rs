//! Tests in processes of their own.
//!
//! A module reads from the environment where its token is, when it is initialised, and a process can
//! initialise a module once at a time. So a test runs itself again, alone, with the variables set.

use std::process::{Command, Output};

/// The command that runs one test of this program again, alone; `test` begins with [`module_path`].
pub fn alone(test: &str) -> Command {
    let (_, test) = test.split_once("::").expect("a path inside this program");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command
}

/// Asserts that the one test ran, and passed.
pub fn assert_passed(output: Output) {
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
}
