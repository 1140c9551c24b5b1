//! EnableKey: a disabled key may be used again.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// Disabled to enabled.
#[derive(Debug, Clone)]
pub struct EnableKey {
    /// Which key.
    pub key: KeySelector,
}

impl Operation for EnableKey {
    const NAME: OperationName = OperationName::EnableKey;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            Ok(())
        })
        .await
    }
}
