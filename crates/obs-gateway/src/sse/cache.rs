//! Which permissions were found lately, so that not every object asks for all of them again.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Direction, Requester};

/// How long a permission that was found is believed. What makes and opens data keys is asked every time.
// OBS: what it keeps of a requester's access to a key, it keeps for about three minutes.
pub(super) const VALIDITY: Duration = Duration::from_mins(3);
/// How many are kept; beyond that, all are forgotten.
const MOST: usize = 10_000;

/// A requester, the key, and what it may do with it.
pub(super) type Permission = (Requester, String, Direction);

/// The permissions that were found.
#[derive(Debug, Default)]
pub(super) struct Permissions(Mutex<HashMap<Permission, Instant>>);

impl Permissions {
    pub(super) fn has(&self, permission: &Permission) -> bool {
        self.0.lock().get(permission).is_some_and(|until| Instant::now() < *until)
    }

    pub(super) fn add(&self, permission: Permission) {
        let now = Instant::now();
        let mut found = self.0.lock();
        if found.len() >= MOST {
            found.retain(|_, until| now < *until);
        }
        if found.len() >= MOST {
            found.clear();
        }
        found.insert(permission, now + VALIDITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(user: usize, direction: Direction) -> Permission {
        let requester =
            Requester { user_id: format!("u{user}"), account: "d1".to_owned(), project_id: "p1".to_owned() };
        (requester, "key".to_owned(), direction)
    }

    #[tokio::test(start_paused = true)]
    async fn a_permission_is_believed_for_three_minutes() {
        let permissions = Permissions::default();
        permissions.add(permission(1, Direction::Upload));
        assert!(permissions.has(&permission(1, Direction::Upload)));
        assert!(!permissions.has(&permission(1, Direction::Download)));
        assert!(!permissions.has(&permission(2, Direction::Upload)));
        tokio::time::advance(VALIDITY.saturating_sub(Duration::from_secs(1))).await;
        assert!(permissions.has(&permission(1, Direction::Upload)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!permissions.has(&permission(1, Direction::Upload)));
    }

    #[tokio::test]
    async fn their_count_is_bounded() {
        let permissions = Permissions::default();
        for user in 0..=MOST {
            permissions.add(permission(user, Direction::Upload));
        }
        assert!(permissions.0.lock().len() <= MOST);
        assert!(permissions.has(&permission(MOST, Direction::Upload)));
    }
}
