//! Why the demo ended early: one line for a person.

use std::{
    error::Error,
    fmt::{self, Display},
};

/// What went wrong, with its causes.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when an error came.
pub(crate) trait During<Output> {
    /// The error becomes a failure that names it, its causes, and what was being done.
    fn during(self, what: impl Display) -> Result<Output, Failure>;
}

impl<Output, E: Error + 'static> During<Output> for Result<Output, E> {
    fn during(self, what: impl Display) -> Result<Output, Failure> {
        self.map_err(|error| Failure(format!("{what}: {}", causes(&error))))
    }
}

/// An error and what it came from, without those that repeat the one before.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut told = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        told.push(error.to_string());
        cause = error.source();
    }
    told.dedup();
    told.join(": ")
}
