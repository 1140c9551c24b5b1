//! RotateRoot: the next generation of the root key; all keys will move under it.

use std::cmp::Ordering;

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    ports::HsmError,
    root::{RootRecord, Rotation, generations},
    service::Scope,
};

/// Makes the next generation of the root key and begins a rotation, unless one is under way.
#[derive(Debug, Clone, Copy)]
pub struct RotateRoot {
    /// Keep the old root keys when all keys are moved, until an operator retires them.
    pub keep_old_root: bool,
}

impl Operation for RotateRoot {
    const NAME: OperationName = OperationName::RotateRoot;
    type Output = RootRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<RootRecord>, Error> {
        let stored = scope.directory().root().await?;
        if stored.value.rotation.is_some() {
            draft.existed();
            return Ok(Prepared::Answer(stored.value));
        }
        let rotation = Some(Rotation {
            started: scope.now,
            started_by: scope.caller().user.clone(),
            keep_old_root: self.keep_old_root,
        });
        let directory = scope.directory().clone();
        Ok(Prepared::change_by(None, move |session| {
            let root = stored.value.clone();
            let newest = generations(session)?.last().copied().unwrap_or_default(); // never empty
            let generation = match newest.cmp(&root.generation) {
                Ordering::Equal => session.create_root_key()?,
                // An earlier attempt made it, and was cut off before it was committed.
                Ordering::Greater => newest,
                Ordering::Less => return Err(HsmError::RootMissing { generation: root.generation }.into()),
            };
            stored.replace(&directory, RootRecord { generation, rotation, ..root })
        }))
    }
}
