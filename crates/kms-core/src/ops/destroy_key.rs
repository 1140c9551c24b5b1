//! DestroyKey: the material of a key whose deletion is due goes, and a tombstone stays.
//!
//! The key exists for nobody any more since its time, so nothing here is seen half-done. Its grants go first, as many
//! as a transaction bears at a time; then one transaction makes the tombstone and frees the names. Until that one is
//! committed the entry stays that says the deletion is due, so a crash in between is made up for.

use std::sync::Arc;

use crate::{
    directory::{Directory, grants_prefix},
    draft::Draft,
    due::DueEntry,
    error::Error,
    operation::OperationName,
    ops::{
        OwnOperation, Planned, Prepared,
        due_key::{DueKey, due_key},
        manage::plan,
    },
    ports::Mutation,
};

/// How many grants one step deletes.
const GRANTS_PER_STEP: usize = 50;

/// One step of the destruction of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DestroyKey {
    pub(crate) entry: DueEntry,
}

/// How far a step led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destruction {
    /// Another step follows.
    GoesOn,
    /// The key is destroyed, or its deletion is not due any more.
    Ended,
}

impl OwnOperation for DestroyKey {
    const NAME: OperationName = OperationName::DestroyKey;
    type Output = Destruction;

    async fn prepare(
        &self,
        directory: &Arc<Directory>,
        draft: &mut Draft,
    ) -> Result<Prepared<Destruction>, Error> {
        let found = due_key(&self.entry, directory, draft, Destruction::Ended).await?;
        let (mut record, mut change) = match found {
            DueKey::Due(record, change) => (record, change),
            DueKey::Overtaken(prepared) => return Ok(prepared),
        };
        let grants = directory.index(&grants_prefix(record.id), None, GRANTS_PER_STEP).await?;
        let ended = if grants.is_empty() {
            record.bury(draft.time(), directory.root().await?.value.generation);
            Destruction::Ended
        } else {
            draft.cause("GRANTS_DELETED");
            change.mutations.extend(grants.into_iter().map(|(path, _)| Mutation::Delete(path)));
            Destruction::GoesOn
        };
        Ok(Prepared::Change(Planned::Ready(plan(directory, change, &record, ended)?)))
    }
}
