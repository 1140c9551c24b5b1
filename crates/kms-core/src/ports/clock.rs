//! Time comes in through this port only, so that tests can own it.
//!
//! Two times, which a test may let go apart. [`now`](Clock::now) is the time of the domain: what a key's dates are
//! compared with, and what a record says. [`monotonic`](Clock::monotonic) and [`sleep`](Clock::sleep) are about the
//! machine: how long a call took, how long an HSM is waited for, when to look again.
//!
//! Nobody sleeps until a date, for dates are days ahead and a clock is set meanwhile: who waits for one looks at
//! [`now`](Clock::now) again and again.

use std::time::Duration;

use super::BoxFuture;
use crate::Timestamp;

/// The source of time.
pub trait Clock: Send + Sync {
    /// Wall time. May step when the machine's clock is set, or when a tester advances it.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary fixed moment of this process; never goes back. For latencies.
    fn monotonic(&self) -> Duration;

    /// Resolves when `duration` has passed on [`monotonic`](Self::monotonic). For waits that must end.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}
