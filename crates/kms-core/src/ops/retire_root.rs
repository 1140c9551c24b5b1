//! RetireRoot: old root keys that a rotation was told to keep may go.

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Planned, Prepared},
    root::{RootRecord, Rotation},
    service::Scope,
};

/// Lets go of the old root keys. The service destroys them by itself, once no key needs them.
#[derive(Debug, Clone, Copy)]
pub struct RetireRoot;

impl Operation for RetireRoot {
    const NAME: OperationName = OperationName::RetireRoot;
    type Output = RootRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<RootRecord>, Error> {
        let stored = scope.directory().root().await?;
        match stored.value.rotation.clone() {
            Some(rotation) if rotation.keep_old_root => {
                let rotation = Some(Rotation { keep_old_root: false, ..rotation });
                let root = RootRecord { rotation, ..stored.value };
                Ok(Prepared::Change(Planned::Ready(stored.replace(scope.directory(), root)?)))
            }
            _ => {
                draft.existed(); // nothing is kept
                Ok(Prepared::Answer(stored.value))
            }
        }
    }
}
