//! What traffic control costs each call, with a million users who have called before, in an order that no cache knows.
//!
//! A check looks at a user's, an account's and the global budget. Prints a `traffic` line; fails above the bound.
#![allow(clippy::print_stdout, reason = "a bench prints its results")]
#![allow(clippy::disallowed_methods, reason = "a bench asks the machine what time it is")]

use std::{
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use kms_core::{
    Timestamp,
    ports::{BoxFuture, Clock},
};
use kms_server::measuring::Checks;
use rustix::time::{ClockId, clock_gettime};

const USERS: usize = 1_000_000;
/// So many users are identified, which is not measured, before their calls are checked.
const TOGETHER: usize = 50;
const ROUNDS: usize = 5;
/// A prime that has no factor in common with the number of users: all are visited, far from one another.
const STRIDE: usize = 611_953;
/// In µs: what it is to be, and what it was on two cores that a dozen compilers shared, with some room.
const GOAL: f64 = 1.0;
const BOUND: f64 = 1.6;

/// The machine's clock.
struct Machine(Instant);

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

fn main() -> ExitCode {
    let mut checks = Checks::new(USERS, Arc::new(Machine(Instant::now())));
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| round(&mut checks)).collect();
    times.sort_by(f64::total_cmp);
    let median = times[ROUNDS / 2];
    let began = Instant::now();
    checks.tidy();
    let tidied = began.elapsed();
    let (low, high) = (times[0], times[ROUNDS - 1]);
    println!(
        "traffic check, {USERS} users, µs {median:.3} ({low:.3}..{high:.3}) goal {GOAL} recorded {BOUND}; tidied up in {tidied:?}"
    );
    if median <= BOUND { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What one check takes, in µs of this thread's processor time, which other programs on the machine change least.
fn round(checks: &mut Checks) -> f64 {
    let mut order = (0..USERS).map(|call| call * STRIDE % USERS);
    let mut taken = 0.0;
    let mut passed = 0;
    while passed < USERS {
        checks.identify(order.by_ref().take(TOGETHER));
        let began = processor_time();
        let now = black_box(&*checks).check();
        taken += processor_time() - began;
        assert_eq!(now, TOGETHER, "all are within their limits");
        passed += now;
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let checks = USERS as f64;
    taken * 1e6 / checks
}

/// Of this thread, in seconds.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (seconds, nanoseconds) = (time.tv_sec as f64, time.tv_nsec as f64);
    seconds + nanoseconds / 1e9
}
