//! ExpireKeyMaterial: imported material goes when its time has come.

use std::sync::Arc;

use crate::{
    directory::Directory,
    draft::Draft,
    due::DueEntry,
    error::Error,
    operation::OperationName,
    ops::{
        OwnOperation, Planned, Prepared,
        due_key::{DueKey, due_key},
        manage::plan,
    },
    states,
};

/// Deletes imported material that has expired; the key waits for the same material from then on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpireKeyMaterial {
    pub(crate) entry: DueEntry,
}

impl OwnOperation for ExpireKeyMaterial {
    const NAME: OperationName = OperationName::ExpireKeyMaterial;
    type Output = ();

    async fn prepare(&self, directory: &Arc<Directory>, draft: &mut Draft) -> Result<Prepared<()>, Error> {
        match due_key(&self.entry, directory, draft, ()).await? {
            DueKey::Overtaken(prepared) => Ok(prepared),
            DueKey::Due(mut record, change) => {
                record.state = states::after(Self::NAME, record.state)?;
                record.drop_material();
                Ok(Prepared::Change(Planned::Ready(plan(directory, change, &record, ())?)))
            }
        }
    }
}
