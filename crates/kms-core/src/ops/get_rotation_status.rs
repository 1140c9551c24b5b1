//! GetRotationStatus: how a key is rotated, and its versions.

use std::sync::Arc;

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
    type Output = Arc<KeyRecord>;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Arc<KeyRecord>>, Error> {
        let key = scope.key(&self.key, draft).await?;
        key.check(Self::NAME)?;
        let Some(shared) = key.replication.as_ref().filter(|_| key.is_replica()) else {
            return Ok(Prepared::Answer(key));
        };
        // Its primary is rotated, and it with that.
        let primary = scope.directory().key_in_passing(shared.primary).await?;
        let rotation = primary.and_then(|primary| primary.value.rotation);
        Ok(Prepared::Answer(Arc::new(KeyRecord { rotation, ..KeyRecord::clone(&key) })))
    }
}
