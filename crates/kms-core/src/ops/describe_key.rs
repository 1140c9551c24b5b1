//! DescribeKey: one key's description.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared},
    service::Scope,
};

/// Reads one key's description.
#[derive(Debug, Clone)]
pub struct DescribeKey {
    /// Which key.
    pub key: KeySelector,
}

impl Operation for DescribeKey {
    const NAME: OperationName = OperationName::DescribeKey;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let mut key = KeyRecord::clone(&*scope.key(&self.key, draft).await?);
        scope.directory().show_rotation(&mut key).await?;
        Ok(Prepared::Answer(key))
    }
}
