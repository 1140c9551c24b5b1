//! Counters: what a gateway shows of its bucket keys.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happened since the start, and what is there now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bucket keys that objects are put under.
    pub writing: KeptCounters,
    /// Bucket keys that objects are read with.
    pub reading: KeptCounters,
    /// Bucket keys whose use was reported.
    pub reports: u64,
    /// Bucket keys whose use could not be reported, for good: the service refused the report, too many waited already,
    /// or it was not taken before the end.
    pub lost_reports: u64,
}

/// The same of one kind of bucket keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptCounters {
    /// Objects whose bucket key was there.
    pub hits: u64,
    /// Objects for which the service was asked.
    pub misses: u64,
    /// Objects that waited for what another one had asked for.
    pub joins: u64,
    /// Bucket keys that made room for others.
    pub evictions: u64,
    /// Bucket keys whose validity was over, or under which as many objects had been put as may be.
    pub expiries: u64,
    /// Bucket keys that were invalidated.
    pub invalidations: u64,
    /// Calls of the service that failed.
    pub failures: u64,
    /// Bucket keys that are there now, and calls that are on their way.
    pub kept: u64,
}

/// [`KeptCounters`] that go on.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) joins: AtomicU64,
    pub(super) evictions: AtomicU64,
    pub(super) expiries: AtomicU64,
    pub(super) invalidations: AtomicU64,
    pub(super) failures: AtomicU64,
}

impl Counts {
    pub(super) fn read(&self, kept: usize) -> KeptCounters {
        KeptCounters {
            hits: get(&self.hits),
            misses: get(&self.misses),
            joins: get(&self.joins),
            evictions: get(&self.evictions),
            expiries: get(&self.expiries),
            invalidations: get(&self.invalidations),
            failures: get(&self.failures),
            kept: u64::try_from(kept).unwrap_or(u64::MAX),
        }
    }
}

pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub(super) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
