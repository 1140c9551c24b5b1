//! The machine's clock, for a pipeline without a server around it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kms_core::{
    Timestamp,
    ports::{BoxFuture, Clock},
};

/// Begins its monotonic time when it is made.
pub(crate) struct MachineClock(Instant);

#[allow(clippy::disallowed_methods, reason = "the adapter behind the port through which time comes in")]
impl MachineClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

#[allow(clippy::disallowed_methods, reason = "the adapter behind the port through which time comes in")]
impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        Timestamp::from_micros(i64::try_from(since_1970.as_micros()).expect("a clock of this age"))
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
