//! BatchDeleteTags: several tags go.

use crate::{
    draft::Draft,
    error::{Error, Field},
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, TagKey, manage::manage, tag::remove_from},
    service::Scope,
    states,
};

/// Removes tags by their keys: all, or none.
#[derive(Debug, Clone)]
pub struct BatchDeleteTags {
    key: KeySelector,
    tag_keys: Vec<TagKey>,
}

impl BatchDeleteTags {
    /// Takes at least one key.
    pub fn new(key: KeySelector, tag_keys: Vec<TagKey>) -> Result<Self, Error> {
        if tag_keys.is_empty() {
            return Err(Error::invalid(Field::Tags, "must be at least one"));
        }
        Ok(Self { key, tag_keys })
    }
}

impl Operation for BatchDeleteTags {
    const NAME: OperationName = OperationName::BatchDeleteTags;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            remove_from(record, &self.tag_keys)
        })
        .await
    }
}
