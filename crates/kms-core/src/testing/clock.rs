//! A clock that stands still until a test moves it.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use crate::{
    Timestamp,
    ports::{BoxFuture, Clock},
};

/// A clock that shows what it was told.
#[derive(Debug)]
pub struct FakeClock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    monotonic: Duration,
    sleepers: Vec<Waker>,
}

impl FakeClock {
    /// Stands at `now`; its monotonic time begins at zero.
    pub fn at(now: Timestamp) -> Self {
        let state = State { now, monotonic: Duration::ZERO, sleepers: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets `duration` pass; who sleeps until then wakes.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.state();
        state.now = state.now.plus(duration);
        state.monotonic += duration;
        state.sleepers.drain(..).for_each(Waker::wake);
    }

    /// Sets the wall time, as an administrator does: no time passes by that.
    pub fn set(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// How many wait for time to pass.
    pub fn sleepers(&self) -> usize {
        self.state().sleepers.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    fn monotonic(&self) -> Duration {
        self.state().monotonic
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let state = Arc::clone(&self.state);
        let until = lock(&state).monotonic + duration;
        Box::pin(poll_fn(move |context| {
            let mut state = lock(&state);
            if state.monotonic >= until {
                return Poll::Ready(());
            }
            state.sleepers.push(context.waker().clone());
            Poll::Pending
        }))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
