//! BatchCreateTags: several tags more, or other values.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, Tags, manage::manage},
    service::Scope,
    states,
};

/// Adds tags, or replaces the values of those with the same keys: all, or none.
#[derive(Debug, Clone)]
pub struct BatchCreateTags {
    key: KeySelector,
    tags: Tags,
}

impl BatchCreateTags {
    /// Takes at least one tag.
    pub fn new(key: KeySelector, tags: Tags) -> Result<Self, Error> {
        Ok(Self { key, tags: tags.not_empty()? })
    }
}

impl Operation for BatchCreateTags {
    const NAME: OperationName = OperationName::BatchCreateTags;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let limit = scope.quotas().tags_per_key;
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            self.tags.add_to(record, limit)
        })
        .await
    }
}
