//! CancelKeyDeletion: a key that waits for its deletion stays, disabled.

use crate::{
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{
        Operation, Prepared,
        manage::{Step, manage, next_state},
    },
    service::Scope,
};

/// Pending deletion to disabled.
#[derive(Debug, Clone, Copy)]
pub struct CancelKeyDeletion {
    /// Which key.
    pub key_id: KeyId,
}

impl Operation for CancelKeyDeletion {
    const NAME: OperationName = OperationName::CancelKeyDeletion;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(self.key_id, scope, draft, |record, _| {
            record.state = next_state(record.state, Step::CancelDeletion)?;
            record.deletion_due = None;
            Ok(())
        })
        .await
    }
}
