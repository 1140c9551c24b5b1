//! What stands between strangers and passwords: how often one may be guessed, and how many are checked at a time.

use std::{sync::Arc, time::Duration};

use kms_core::error::{Throttled, Window};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::guesses::{Guess, Guesses};
use crate::dew::iam::Login;

/// How many passwords are checked at a time: each takes a processor and 19 MiB.
const CHECKED_AT_ONCE: usize = 2;
/// How many more may wait for that: a second or two of checks.
const WAITING: u32 = 64;

/// What stands between strangers and passwords.
pub(crate) struct Door {
    guesses: Guesses,
    /// One place for each that is checked or waits.
    places: Arc<Semaphore>,
    checks: Arc<Semaphore>,
}

/// Who may have a password checked, once it is its turn.
#[must_use]
#[derive(Debug)]
pub(super) struct Waiting {
    guess: Guess,
    place: OwnedSemaphorePermit,
}

/// The right to have a password checked now, held as long as that takes.
#[must_use]
pub(super) struct Turn {
    _place: OwnedSemaphorePermit,
    _check: OwnedSemaphorePermit,
}

impl Default for Door {
    fn default() -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        let places = semaphore(CHECKED_AT_ONCE + WAITING as usize);
        Self { guesses: Guesses::default(), places, checks: semaphore(CHECKED_AT_ONCE) }
    }
}

impl Door {
    /// Lets one wait who has a guess left, unless too many do; else it is told when to come again. `now` is monotonic.
    pub(super) fn enter(&self, login: Login<'_>, now: Duration) -> Result<Waiting, Throttled> {
        let guess = self.guesses.take(login.domain, login.user, now)?;
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.guesses.give_back(guess); // nothing was tried
            return Err(crowded());
        };
        Ok(Waiting { guess, place })
    }

    /// Waits until it is this one's turn. `None`: the door is closed, which it never is.
    pub(super) async fn turn(&self, Waiting { guess, place }: Waiting) -> Option<(Guess, Turn)> {
        let check = self.checks.clone().acquire_owned().await.ok()?;
        Some((guess, Turn { _place: place, _check: check }))
    }

    /// It was no guess: the password was right.
    pub(super) fn give_back(&self, guess: Guess) {
        self.guesses.give_back(guess);
    }
}

fn crowded() -> Throttled {
    Throttled {
        subject: "password".to_owned(),
        group: "waiting-passwords".into(),
        limit: WAITING,
        window: Window::Second,
        retry_after: Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::ProjectChoice, secret_text::SecretText};

    const NOW: Duration = Duration::from_secs(1_000);

    fn enter(door: &Door, user: &str) -> Result<Waiting, Throttled> {
        let password = &SecretText::new("a guess".to_owned());
        door.enter(Login { domain: "acme", user, password, project: ProjectChoice::First }, NOW)
    }

    #[tokio::test]
    async fn a_crowd_is_told_to_come_again_and_spends_nothing() {
        let door = Door::default();
        let mut turns = Vec::new();
        for user in 0..CHECKED_AT_ONCE {
            let waiting = enter(&door, &format!("user{user}")).expect("nobody is there");
            turns.push(door.turn(waiting).await.expect("it is open"));
        }
        let enough = (CHECKED_AT_ONCE..).map(|user| enter(&door, &format!("user{user}")));
        let mut waiting: Vec<_> = enough.filter_map(Result::ok).take(WAITING as usize).collect();
        for _ in 0..20 {
            let refused = enter(&door, "ada").expect_err("too many wait");
            assert_eq!((&*refused.group, refused.retry_after), ("waiting-passwords", Duration::from_secs(1)));
        }
        // Who leaves makes room, whether it waited or was checked; and who was refused has all its guesses.
        drop(waiting.pop());
        drop(turns.pop());
        for _ in 0..2 {
            waiting.push(enter(&door, "ada").expect("there is room"));
        }
        assert!(enter(&door, "ada").is_err());
    }

    #[test]
    fn who_has_no_guess_left_does_not_wait() {
        let door = Door::default();
        let refused = (0..100).find_map(|_| enter(&door, "ada").err()).expect("no more guesses");
        assert_eq!(&*refused.group, "wrong-passwords");
        assert_eq!(door.places.available_permits(), CHECKED_AT_ONCE + WAITING as usize);
    }
}
