//! EnableKey: a disabled key may be used again.

use crate::{
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// Disabled to enabled.
#[derive(Debug, Clone, Copy)]
pub struct EnableKey {
    /// Which key.
    pub key_id: KeyId,
}

impl Operation for EnableKey {
    const NAME: OperationName = OperationName::EnableKey;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(self.key_id, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            Ok(())
        })
        .await
    }
}
