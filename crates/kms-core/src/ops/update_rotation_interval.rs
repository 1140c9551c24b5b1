//! UpdateRotationInterval: how often a key is rotated by time.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, RotationInterval, manage::manage},
    service::Scope,
    states,
};

/// Changes how often a key is rotated; the next rotation is one new interval from now.
#[derive(Debug, Clone)]
pub struct UpdateRotationInterval {
    /// Which key.
    pub key: KeySelector,
    /// How often.
    pub interval: RotationInterval,
}

impl Operation for UpdateRotationInterval {
    const NAME: OperationName = OperationName::UpdateRotationInterval;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            record.check_rotatable()?;
            let policy = record.rotation.as_mut().ok_or(Error::RotationNotEnabled)?;
            *policy = self.interval.beginning(scope.now);
            Ok(())
        })
        .await
    }
}
