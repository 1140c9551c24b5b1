//! CancelKeyDeletion: a key that waits for its deletion stays, disabled.

use crate::{
    draft::Draft,
    error::Error,
    key::{KeyRecord, KeyState},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// Pending deletion to disabled.
#[derive(Debug, Clone)]
pub struct CancelKeyDeletion {
    /// Which key.
    pub key: KeySelector,
}

impl Operation for CancelKeyDeletion {
    const NAME: OperationName = OperationName::CancelKeyDeletion;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            if record.versions.is_empty() {
                record.state = KeyState::PendingImport;
            }
            record.deletion_due = None;
            Ok(())
        })
        .await
    }
}
