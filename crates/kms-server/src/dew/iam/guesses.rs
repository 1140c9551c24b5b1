//! How often passwords may be guessed, whoever guesses.
//!
//! A wrong password costs its user's name one of a few guesses, which come back with time; a right one costs nothing.
//! What is kept does not grow with the names that strangers think of: each falls on one of a fixed number of budgets,
//! by a hash that only this process can compute. Names of nobody have budgets, too, so that no answer tells them apart.

use std::{collections::hash_map::RandomState, hash::BuildHasher as _, time::Duration};

use kms_core::error::{Throttled, Window};
use parking_lot::Mutex;

/// How many wrong passwords a name has at once, and in a minute.
// DEW: IAM locks a user out for 15 minutes after 5 wrong passwords, unless its account chose otherwise. Here it only has
// to wait: whoever knows a name must not be able to lock its user out for long.
const GUESSES: u32 = 5;
/// In what time one comes back.
const INTERVAL: Duration = Duration::from_secs(60 / GUESSES as u64);
/// How many budgets there are: more than can be spent with as many passwords as can be checked meanwhile.
const BUDGETS: usize = 4096;

/// What is left of guesses.
pub(crate) struct Guesses {
    /// For each budget, when all of it will have come back.
    whole_at: Mutex<Box<[Duration]>>,
    hasher: RandomState,
}

/// A guess that was taken: it is given back if it was right.
#[must_use]
#[derive(Debug)]
pub(crate) struct Guess(usize);

impl Default for Guesses {
    fn default() -> Self {
        Self { whole_at: Mutex::new(vec![Duration::ZERO; BUDGETS].into()), hasher: RandomState::new() }
    }
}

impl Guesses {
    /// Takes one guess at the password of who has these names, or says how long to wait. `now` is monotonic.
    pub(crate) fn take(&self, domain: &str, user: &str, now: Duration) -> Result<Guess, Throttled> {
        #[allow(clippy::cast_possible_truncation, reason = "a part of the hash is one, too")]
        let place = self.hasher.hash_one((domain, user)) as usize % BUDGETS;
        let whole_at = &mut self.whole_at.lock()[place];
        let after = (*whole_at).max(now) + INTERVAL;
        match after.checked_sub(now + INTERVAL * GUESSES) {
            None | Some(Duration::ZERO) => {
                *whole_at = after;
                Ok(Guess(place))
            }
            Some(wait) => Err(Throttled {
                subject: "password".to_owned(),
                group: "wrong-passwords".into(),
                limit: GUESSES,
                window: Window::Minute,
                retry_after: wait,
            }),
        }
    }

    /// It was no guess: the password was right.
    pub(crate) fn give_back(&self, Guess(place): Guess) {
        let whole_at = &mut self.whole_at.lock()[place];
        *whole_at = whole_at.saturating_sub(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_name_has_a_few_guesses_which_come_back_one_by_one() {
        let guesses = Guesses::default();
        let take = |now| guesses.take("acme", "ada", now);
        for _ in 0..GUESSES {
            let _wrong = take(START).expect("one of the first");
        }
        let refused = take(START).expect_err("no more");
        assert_eq!((refused.limit, refused.window, refused.retry_after), (5, Window::Minute, INTERVAL));
        let later = START + INTERVAL / 4;
        assert_eq!(take(later).expect_err("not yet").retry_after, INTERVAL * 3 / 4);
        let _wrong = take(START + INTERVAL).expect("one came back");
        take(START + INTERVAL).expect_err("only one");
        for _ in 0..GUESSES {
            let _wrong = take(START + INTERVAL * 100).expect("all came back, and no more than that");
        }
        take(START + INTERVAL * 100).expect_err("spent");
    }

    #[test]
    fn who_is_right_spends_nothing_and_others_neither() {
        let guesses = Guesses::default();
        for _ in 0..10 * GUESSES {
            guesses.give_back(guesses.take("acme", "ada", START).expect("each was right"));
        }
        for _ in 0..GUESSES {
            let _wrong = guesses.take("acme", "ada", START).expect("one of the first");
        }
        guesses.take("acme", "ada", START).expect_err("no more");
        // Of ten names at least one has another budget.
        let others = (0..10).filter(|number| guesses.take("acme", &format!("ada{number}"), START).is_ok());
        assert!(others.count() > 0);
        assert_ne!(guesses.hasher.hash_one(("ab", "c")), guesses.hasher.hash_one(("a", "bc")));
    }
}
