//! RotateKeyOnDemand: a user has a key rotated now.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        manage::stored_key,
        new_version::{MAX_VERSIONS_BY_HAND, with_next_version},
    },
    service::Scope,
};

/// Makes the next version of a key now. When it is rotated by time stays as it is.
#[derive(Debug, Clone)]
pub struct RotateKeyOnDemand {
    /// Which key.
    pub key: KeySelector,
    /// The version that is to be followed by a new one; `None`: whichever is current. Makes a retry safe: if
    /// another version is current, the key is answered as it is.
    pub from_version: Option<u32>,
}

impl Operation for RotateKeyOnDemand {
    const NAME: OperationName = OperationName::RotateKeyOnDemand;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let (record, change) = stored_key(&self.key, scope, draft).await?;
        if record.is_default() {
            return Err(Error::DefaultKeyImmutable);
        }
        record.check(Self::NAME, scope.now)?;
        record.check_rotatable()?;
        let current = record.current_version().map_or(0, |version| version.number);
        if self.from_version.is_some_and(|expected| expected != current) {
            draft.overtaken();
            return Ok(Prepared::Answer(record));
        }
        record.check_room(MAX_VERSIONS_BY_HAND)?;
        draft.key(record.id, Some(current + 1));
        let scheme = scope.service.settings().scheme(record.spec);
        with_next_version(scope.directory(), record, change, scheme, scope.now, |record| record).await
    }
}
