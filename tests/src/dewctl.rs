//! `dewctl` against a running deployment, as its users run it.

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::Dev;

/// What `dewctl` did.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said beside that.
    pub stderr: String,
}

impl Ended {
    /// The JSON that it printed; it must have succeeded.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).expect("JSON on stdout")
    }

    /// The reason of the refusal, as `KEY_DISABLED`; it must have been refused.
    pub fn refusal(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.stderr.strip_prefix("dewctl: ").and_then(|said| said.split(':').next()).expect("a reason")
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Dev {
    /// Runs `dewctl` with these arguments to its end, as the deployment's users and operator.
    pub fn ctl(&self, arguments: &[&str]) -> Ended {
        let output = self.dewctl(arguments).stdin(Stdio::null()).output();
        Ended::from(output.expect("dewctl starts"))
    }
}
