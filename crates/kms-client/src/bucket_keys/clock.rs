//! What time it is for bucket keys: a port, so that tests own it.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// A clock that only goes forward.
pub trait Clock: fmt::Debug + Send + Sync {
    /// How long it has been since a moment that stays the same.
    fn now(&self) -> Duration;
}

/// The machine's.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Begins now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// One that stands still until a test advances it.
#[derive(Debug, Default)]
pub struct ManualClock {
    milliseconds: AtomicU64,
}

impl ManualClock {
    /// Lets so many whole milliseconds pass.
    pub fn advance(&self, duration: Duration) {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.milliseconds.load(Ordering::SeqCst))
    }
}
