//! DisableKey: an enabled key refuses all use.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// Enabled to disabled.
#[derive(Debug, Clone)]
pub struct DisableKey {
    /// Which key.
    pub key: KeySelector,
}

impl Operation for DisableKey {
    const NAME: OperationName = OperationName::DisableKey;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            Ok(())
        })
        .await
    }
}
