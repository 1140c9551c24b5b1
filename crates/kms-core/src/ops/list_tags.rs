//! ListTags: the tags of one key.

use std::collections::BTreeMap;

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared},
    service::Scope,
};

/// Reads the tags of a key.
#[derive(Debug, Clone)]
pub struct ListTags {
    /// Which key.
    pub key: KeySelector,
}

impl Operation for ListTags {
    const NAME: OperationName = OperationName::ListTags;
    type Output = BTreeMap<String, String>;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Self::Output>, Error> {
        Ok(Prepared::Answer(scope.key(&self.key, draft).await?.tags.clone()))
    }
}
