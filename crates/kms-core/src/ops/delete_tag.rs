//! DeleteTag: one tag goes.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, TagKey, manage::manage, tag::remove_from},
    service::Scope,
    states,
};

/// Removes a tag.
#[derive(Debug, Clone)]
pub struct DeleteTag {
    /// Of which key.
    pub key: KeySelector,
    /// The tag's key.
    pub tag_key: TagKey,
}

impl Operation for DeleteTag {
    const NAME: OperationName = OperationName::DeleteTag;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            remove_from(record, std::slice::from_ref(&self.tag_key))
        })
        .await
    }
}
