//! A clock that stands still until a test moves it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Timestamp, ports::Clock};

/// A clock that shows what it was told.
#[derive(Debug)]
pub struct FakeClock {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    monotonic: Duration,
}

impl FakeClock {
    /// Stands at `now`; its monotonic time begins at zero.
    pub fn at(now: Timestamp) -> Self {
        Self { state: Mutex::new(State { now, monotonic: Duration::ZERO }) }
    }

    /// Lets `duration` pass.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.state();
        state.now = state.now.plus(duration);
        state.monotonic += duration;
    }

    /// Sets the wall time, as an administrator does: no time passes by that.
    pub fn set(&self, now: Timestamp) {
        self.state().now = now;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    fn monotonic(&self) -> Duration {
        self.state().monotonic
    }
}
