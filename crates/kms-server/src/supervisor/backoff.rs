//! How long to wait before the next worker.

use std::time::Duration;

/// A worker that has served for this long was sound when it started: the next one may start at once.
const SOUND_AFTER: Duration = Duration::from_secs(10);
/// The wait after the first failure; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// What the waits grow to.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Counts the workers in a row that ended soon.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a worker that had served for so long, or had never been ready.
    pub(super) fn after(&mut self, served: Option<Duration>) -> Duration {
        if served.is_some_and(|served| served >= SOUND_AFTER) {
            self.failures = 0;
            return Duration::ZERO;
        }
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..11).map(|_| backoff.after(None).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        for _ in 0..100 {
            assert!(backoff.after(Some(Duration::from_secs(9))) <= LONGEST_WAIT);
        }
    }

    #[test]
    fn a_worker_that_served_is_replaced_at_once_and_forgives_those_before() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after(Some(SOUND_AFTER)), Duration::ZERO);
        assert_eq!([backoff.after(None), backoff.after(None)], [FIRST_WAIT, 2 * FIRST_WAIT]);
        assert_eq!(backoff.after(Some(SOUND_AFTER)), Duration::ZERO);
        assert_eq!(backoff.after(None), FIRST_WAIT);
    }
}
