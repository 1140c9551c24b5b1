//! RotateKey by the service itself: the rotation of a key is due.

use std::sync::Arc;

use crate::{
    directory::Directory,
    draft::Draft,
    due::DueEntry,
    error::Error,
    operation::OperationName,
    ops::{
        OwnOperation, Planned, Prepared, RotationCause,
        due_key::{DueKey, due_key},
        manage::plan,
        new_version::{MAX_VERSIONS, with_next_version},
    },
    settings::Settings,
};

/// What the record says when a rotation is due of a key that has all versions it may have: none was made, and the next
/// one is due an interval later.
const VERSIONS_USED_UP: &str = "VERSIONS_USED_UP";

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
        if record.check_room(MAX_VERSIONS).is_err() {
            // It will never have room: to be refused at every look would fill the log, so this is said once an interval.
            draft.cause(VERSIONS_USED_UP);
            return Ok(Prepared::Change(Planned::Ready(plan(directory, change, &record, ())?)));
        }
        draft.key(record.id, record.current_version().map(|version| version.number + 1));
        draft.cause(RotationCause::Scheduled.code());
        let scheme = self.settings.scheme(record.spec);
        with_next_version(directory, *record, change, scheme, now, drop).await
    }
}
