//! Time comes in through this port only, so that tests can own it.

use std::time::Duration;

use super::BoxFuture;
use crate::Timestamp;

/// The source of time.
pub trait Clock: Send + Sync {
    /// Wall time. May step when the machine's clock is set.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary fixed moment of this process; never goes back. For latencies.
    fn monotonic(&self) -> Duration;

    /// Resolves when `duration` has passed. For waits that must end.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}
