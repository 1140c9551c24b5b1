//! Waiting for what happens by itself.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take: far beyond what it takes, so that only what never comes fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks `look` again and again until it answers.
///
/// # Panics
/// If that takes longer than anything may take; `what` says what never came.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}
