//! For which users anything may be kept of which keys, so that a refusal that nothing hangs on costs no search.

use std::collections::{HashMap, HashSet};

use kms_client::bucket_keys::MOST_VALIDITY;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Requester;

/// A user and the project.
type User = (String, String);
/// The keys of users.
type Keys = HashMap<User, HashSet<String>>;

/// What was noted in the longest time for which anything is kept, and for up to as long again.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Since when `recent` counts.
    since: Option<Instant>,
    recent: Keys,
    before: Keys,
}

impl Held {
    /// Notes that something may be kept of this key from now on. To be called before it is asked for.
    pub(super) fn note(&self, requester: &Requester, key: &str) {
        let now = Instant::now();
        let mut noted = self.0.lock();
        if now >= *noted.since.get_or_insert(now) + MOST_VALIDITY {
            noted.before = std::mem::take(&mut noted.recent);
            noted.since = Some(now);
        }
        noted.recent.entry(user(requester)).or_default().insert(key.to_owned());
    }

    /// Whether anything may be kept of this key for this user, which ends.
    pub(super) fn take(&self, requester: &Requester, key: &str) -> bool {
        let (user, mut noted) = (user(requester), self.0.lock());
        let Noted { recent, before, .. } = &mut *noted;
        let taken = |keys: &mut Keys| keys.get_mut(&user).is_some_and(|keys| keys.remove(key));
        taken(recent) | taken(before)
    }

    /// Whether anything may be kept for this user, which ends.
    pub(super) fn take_all(&self, requester: &Requester) -> bool {
        let (user, mut noted) = (user(requester), self.0.lock());
        let Noted { recent, before, .. } = &mut *noted;
        let taken = |keys: &mut Keys| keys.remove(&user).is_some_and(|keys| !keys.is_empty());
        taken(recent) | taken(before)
    }
}

fn user(requester: &Requester) -> User {
    (requester.user_id.clone(), requester.project_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requester(user_id: &str, permissions: &str) -> Requester {
        Requester {
            user_id: user_id.to_owned(),
            account: "d1".to_owned(),
            project_id: "p1".to_owned(),
            permissions: permissions.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_noted_is_taken_once_by_its_user_whatever_its_permissions() {
        let (held, user, temporary) = (Held::default(), requester("u", "a"), requester("u", "b"));
        for key in ["k", "l"] {
            held.note(&user, key);
        }
        assert!(!held.take(&requester("v", "a"), "k") && !held.take(&user, "m"));
        assert!(held.take(&temporary, "k") && !held.take(&user, "k"));
        assert!(held.take_all(&temporary) && !held.take_all(&user) && !held.take(&user, "l"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_note_lasts_as_long_as_anything_is_kept_and_not_for_ever() {
        let (held, user) = (Held::default(), requester("u", "a"));
        held.note(&user, "k");
        tokio::time::advance(MOST_VALIDITY).await;
        held.note(&user, "l");
        tokio::time::advance(MOST_VALIDITY / 2).await;
        held.note(&user, "m");
        assert!(held.take(&user, "k") && held.take(&user, "m"));
        held.note(&user, "k");
        tokio::time::advance(MOST_VALIDITY * 2).await;
        for key in ["n", "o"] {
            held.note(&user, key);
            tokio::time::advance(MOST_VALIDITY).await;
        }
        assert!(!held.take(&user, "k") && held.take(&user, "n"));
    }
}
