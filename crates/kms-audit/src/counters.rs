//! What the log tells about itself: read without a lock, from any thread.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Whether the log takes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Records become durable.
    Working,
    /// The last commit failed; the log tries to reopen and verify its file.
    Failed,
    /// The file was deleted, replaced or cut by somebody else: nothing is written until it is
    /// back, or until a restart.
    Lost,
    /// Shut down.
    Closed,
}

/// Counts since the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Commits that succeeded: one write and one fdatasync each.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// Commits and reopenings that failed, and failures to keep the tree or to make a checkpoint.
    pub failures: u64,
    /// How long the last successful commit took, from write to the end of the fdatasync.
    pub last_commit: Duration,
}

/// How far the tree and its checkpoints have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// Lines whose hashes are in the tree.
    pub followed: u64,
    /// Lines that the newest checkpoint covers.
    pub signed: u64,
    /// Failures to write the tree, to sign a checkpoint or to write one.
    pub failures: u64,
}

/// The counters behind [`Statistics`] and [`Health`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    records: AtomicU64,
    failures: AtomicU64,
    last_commit_nanos: AtomicU64,
    health: AtomicU8,
}

impl Counters {
    pub(crate) fn committed(&self, records: usize, took: Duration) {
        self.commits.fetch_add(1, Relaxed);
        self.records.fetch_add(records as u64, Relaxed);
        self.last_commit_nanos.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Relaxed);
    }

    pub(crate) fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Working,
            1 => Health::Failed,
            2 => Health::Lost,
            _ => Health::Closed,
        }
    }

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            commits: self.commits.load(Relaxed),
            records: self.records.load(Relaxed),
            failures: self.failures.load(Relaxed),
            last_commit: Duration::from_nanos(self.last_commit_nanos.load(Relaxed)),
        }
    }
}
