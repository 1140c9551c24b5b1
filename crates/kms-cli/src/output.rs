//! What the commands print, and how they end.

use std::{
    error::Error as _,
    io::{self, Write as _},
    process::ExitCode,
};

use kms_client::Error;

/// Why a command did not do what it was told.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The service refused the call, or the call failed.
    Call(Error),
    /// The options, or the files that they name, cannot be used.
    Usage(String),
    /// The rotation that was waited for cannot go on without an operator.
    Blocked(String),
    /// The HSM cannot be used, or does not offer what is needed.
    Hsm(String),
    /// A backup was made, and values in it are faulty.
    Faulty(String),
    /// A backup came in otherwise than it was sent.
    Broken(String),
}

impl Failure {
    /// Says it on stderr; answers the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Call(error) => (call_text(error), 1),
            Self::Usage(problem) => (problem.clone(), 2),
            Self::Blocked(problem) => (problem.clone(), 3),
            Self::Hsm(problem) => (problem.clone(), 4),
            Self::Faulty(problem) | Self::Broken(problem) => (problem.clone(), 5),
        };
        eprintln!("dewctl: {text}");
        ExitCode::from(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidConfig(problem) => Self::Usage(problem),
            error => Self::Call(error),
        }
    }
}

fn call_text(error: &Error) -> String {
    let Some(refusal) = error.refusal() else {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        return format!("{error}{cause}");
    };
    let request = refusal.request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
    format!("{}: {}{request}", refusal.reason, refusal.message)
}

/// Prints a result on stdout. A reader that went away has seen enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Usage(format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}
