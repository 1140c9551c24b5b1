//! RotateKey by the service itself: the rotation of a key is due.

use std::sync::Arc;

use crate::{
    directory::Directory,
    draft::Draft,
    due::DueEntry,
    error::Error,
    operation::OperationName,
    ops::{
        OwnOperation, Prepared, RotationCause,
        due_key::{DueKey, due_key},
        new_version::with_next_version,
    },
    settings::Settings,
};

/// Rotates a key if that is due: once, however many intervals have passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RotateDueKey {
    pub(crate) entry: DueEntry,
    pub(crate) settings: Settings,
}

impl OwnOperation for RotateDueKey {
    const NAME: OperationName = OperationName::RotateKey;
    type Output = ();

    async fn prepare(&self, directory: &Arc<Directory>, draft: &mut Draft) -> Result<Prepared<()>, Error> {
        let (mut record, change) = match due_key(&self.entry, directory, draft, ()).await? {
            DueKey::Overtaken(prepared) => return Ok(prepared),
            DueKey::Due(record, change) => (record, change),
        };
        let now = draft.time();
        if let Some(policy) = &mut record.rotation {
            policy.move_on(now);
        }
        draft.key(record.id, record.current_version().map(|version| version.number + 1));
        draft.cause(RotationCause::Scheduled.code());
        let scheme = self.settings.scheme(record.spec);
        with_next_version(directory, *record, change, scheme, now, drop).await
    }
}
