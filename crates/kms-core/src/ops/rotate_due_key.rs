//! RotateKey by the service itself: the rotation of a key is due.

use std::sync::Arc;

use crate::{
    directory::{Directory, key_path},
    draft::Draft,
    error::Error,
    key::{KeyId, KeyState},
    operation::OperationName,
    ops::{OwnOperation, Prepared, RotationCause, new_version::with_next_version},
    ports::{Condition, Transaction},
    settings::Settings,
};

/// Rotates a key if that is due: once, however many intervals have passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RotateDueKey {
    pub(crate) key_id: KeyId,
    pub(crate) settings: Settings,
}

impl OwnOperation for RotateDueKey {
    const NAME: OperationName = OperationName::RotateKey;
    type Output = ();

    async fn prepare(&self, directory: &Arc<Directory>, draft: &mut Draft) -> Result<Prepared<()>, Error> {
        let now = draft.time();
        let stored = directory.key_in_passing(self.key_id).await?.ok_or(Error::KeyNotFound)?;
        draft.key(self.key_id, None);
        let mut record = stored.value;
        let policy = record.rotation.as_mut().filter(|policy| policy.next <= now);
        // DEW: §4, a disabled key and one that waits for its deletion are not rotated.
        let Some(policy) = policy.filter(|_| record.state == KeyState::Enabled) else {
            draft.overtaken(); // another one rotated it, or its user has changed its mind
            return Ok(Prepared::Answer(()));
        };
        policy.move_on(now);
        draft.key(self.key_id, record.current_version().map(|version| version.number + 1));
        draft.cause(RotationCause::Scheduled.code());
        let conditions = vec![Condition::Revision(key_path(self.key_id), stored.revision)];
        let transaction = Transaction { conditions, mutations: Vec::new() };
        let scheme = self.settings.scheme(record.spec);
        with_next_version(directory, record, transaction, scheme, now, drop).await
    }
}
