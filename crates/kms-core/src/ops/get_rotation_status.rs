//! GetRotationStatus: how a key is rotated, and its versions.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared},
    service::Scope,
};

/// Reads how a key is rotated.
#[derive(Debug, Clone)]
pub struct GetRotationStatus {
    /// Which key.
    pub key: KeySelector,
}

impl Operation for GetRotationStatus {
    const NAME: OperationName = OperationName::GetRotationStatus;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let key = scope.key(&self.key, draft).await?;
        key.check(Self::NAME, scope.now)?;
        let mut key = KeyRecord::clone(&key);
        scope.directory().show_rotation(&mut key).await?;
        Ok(Prepared::Answer(key))
    }
}
