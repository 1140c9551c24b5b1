//! DescribeKeyUsage: when a key was last used, and how often each version was.

use std::sync::Arc;

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared},
    service::Scope,
    usage::KeyUse,
};

/// Reads how a key was used.
#[derive(Debug, Clone)]
pub struct DescribeKeyUsage {
    /// Which key.
    pub key: KeySelector,
}

/// A key and how it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedKey {
    /// The key.
    pub record: Arc<KeyRecord>,
    /// How it was used.
    pub usage: KeyUse,
}

impl Operation for DescribeKeyUsage {
    const NAME: OperationName = OperationName::DescribeKeyUsage;
    type Output = UsedKey;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<UsedKey>, Error> {
        let record = scope.key(&self.key, draft).await?;
        record.check(Self::NAME, scope.now)?;
        let usage = scope.service.usage_of(record.id).await?;
        Ok(Prepared::Answer(UsedKey { record, usage }))
    }
}
