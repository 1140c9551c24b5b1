//! DisableKeyRotation: a key is not rotated by time any more.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// Ends the rotation by time. All versions stay.
#[derive(Debug, Clone)]
pub struct DisableKeyRotation {
    /// Which key.
    pub key: KeySelector,
}

impl Operation for DisableKeyRotation {
    const NAME: OperationName = OperationName::DisableKeyRotation;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            record.check_rotatable()?;
            record.rotation.take().map(drop).ok_or(Error::RotationNotEnabled)
        })
        .await
    }
}
