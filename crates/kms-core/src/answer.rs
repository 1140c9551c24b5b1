//! Answers that cannot be reached before their record is durable.

use crate::{
    error::Error,
    ports::{AuditError, Receipt},
};

/// A result that the log has not acknowledged yet. Only a receipt opens it.
pub(crate) struct Held<T>(Result<T, Error>);

impl<T> Held<T> {
    pub(crate) fn new(result: Result<T, Error>) -> Self {
        Self(result)
    }

    /// The failure of an operation whose class in the table does not fit what it prepared.
    pub(crate) fn misplaced() -> Self {
        Self(Err(Error::Internal { detail: "an operation prepared what its class does not allow" }))
    }

    /// Whether it is an error; all that may be known of it before its record is durable.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.0.as_ref().err()
    }

    /// Opens the result, now that its record is durable.
    pub(crate) fn release(self, receipt: Receipt) -> Result<Recorded<T>, Refused> {
        match self.0 {
            Ok(value) => Ok(Recorded { value, receipt }),
            Err(error) => Err(Refused { error }),
        }
    }
}

/// An answer whose record is on stable storage: the only form in which a transport gets one.
#[derive(Debug)]
pub struct Recorded<T> {
    value: T,
    receipt: Receipt,
}

impl<T> Recorded<T> {
    /// The answer.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Where the record of the answer stands in the log.
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }
}

/// A refusal or failure: recorded, or the failure to record it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Refused {
    error: Error,
}

impl Refused {
    /// The record could not be made durable, and so there is no answer but this.
    pub(crate) fn unrecorded(error: AuditError) -> Self {
        Self { error: Error::AuditUnavailable(error) }
    }

    /// The change is committed, but its outcome could not be recorded.
    pub(crate) fn outcome_unrecorded(error: &AuditError) -> Self {
        Self { error: Error::OutcomeUnknown { detail: error.to_string() } }
    }

    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl Refused {
    /// A defect of this service kept the record from being written.
    pub(crate) fn internal(detail: &'static str) -> Self {
        Self { error: Error::Internal { detail } }
    }

    /// Nobody knows yet whether the change was committed; its intent is recorded and stays open.
    pub(crate) fn unresolved(error: Error) -> Self {
        Self { error }
    }

    /// For shells: the task that drove the operation died.
    pub fn task_died() -> Self {
        Self::internal("the task of an operation died")
    }
}
