//! CreateTag: one tag more, or another value.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, Tags, manage::manage},
    service::Scope,
    states,
};

/// Adds a tag, or replaces the value of the one with the same key.
#[derive(Debug, Clone)]
pub struct CreateTag {
    key: KeySelector,
    tags: Tags,
}

impl CreateTag {
    /// Of this key and value.
    pub fn new(key: KeySelector, tag_key: &str, value: &str) -> Result<Self, Error> {
        Ok(Self { key, tags: Tags::parse([(tag_key, value)])? })
    }
}

impl Operation for CreateTag {
    const NAME: OperationName = OperationName::CreateTag;
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
