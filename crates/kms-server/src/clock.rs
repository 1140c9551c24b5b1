//! The one place where the machine's clock is read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kms_core::{
    Timestamp,
    ports::{BoxFuture, Clock},
};

/// The machine's clock.
#[derive(Debug)]
pub(crate) struct SystemClock {
    origin: Instant,
}

#[allow(clippy::disallowed_methods, reason = "the adapter behind the port through which time comes in")]
impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }
}

#[allow(clippy::disallowed_methods, reason = "the adapter behind the port through which time comes in")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
