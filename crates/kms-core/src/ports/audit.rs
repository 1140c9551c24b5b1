//! The append-only log that every answer waits for.

use crate::Record;

/// Proof that a record is on stable storage.
///
/// Only an [`AuditLog`] makes one, and only a receipt opens an answer to the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    sequence: u64,
}

impl Receipt {
    /// For adapters: says that the record with this sequence number is durable.
    pub fn durable(sequence: u64) -> Self {
        Self { sequence }
    }

    /// The record's place in the log, counted from 0.
    pub fn sequence(self) -> u64 {
        self.sequence
    }
}

/// Why a record could not be made durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is unavailable: {detail}")]
pub struct AuditError {
    /// What failed, for the operator: never shown to a caller.
    pub detail: String,
}

/// Called once, when the record is durable or known not to be.
///
/// Runs on the log's own thread: it must neither block nor panic.
pub type Acknowledge = Box<dyn FnOnce(Result<Receipt, AuditError>) + Send>;

/// The log of all key operations.
pub trait AuditLog: Send + Sync {
    /// Queues `record` and returns at once; `acknowledge` is called exactly once, after the record
    /// has been made durable together with others (group commit), or has failed to be.
    ///
    /// Records become durable in the order in which they were appended. When one fails, no later
    /// one of the same commit is acknowledged as durable.
    ///
    /// A record of [`Phase::Outcome`](crate::Phase::Outcome) that failed is kept and written before
    /// any other record once the log works again: the change that it tells of has happened.
    ///
    /// A log may count a refusal ([`Verdict::Denied`](crate::Verdict::Denied), complete) instead: only with one of its
    /// kind durable, by whose receipt it acknowledges, and one record of the [`count`](Record::count) follows.
    fn append(&self, record: Record, acknowledge: Acknowledge);
}
