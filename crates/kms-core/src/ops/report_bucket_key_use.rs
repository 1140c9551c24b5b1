//! ReportBucketKeyUse: the holder of a bucket key tells the log how many objects hang on it.
//!
//! It needs no permission but the receipt that was given with the bucket key: mostly it comes when the key was just
//! disabled, or the grant revoked, and what the log learns then is what its readers need. It uses no key, so no state of
//! one refuses it.

use crate::{
    bucket_key::{BucketKeyId, Receipt, UseCount},
    draft::Draft,
    error::Error,
    key::KeyId,
    operation::OperationName,
    ops::{Operation, Prepared},
    record::BucketKeyNote,
    service::Scope,
};

/// Reports how a bucket key was used. The count is of all its uses, so a report may be repeated, and of several the
/// largest holds.
#[derive(Debug, Clone)]
pub struct ReportBucketKeyUse {
    /// What was given with the bucket key.
    pub receipt: Vec<u8>,
    /// How many objects hang on it.
    pub uses: UseCount,
}

/// What was reported, as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportedUse {
    /// The bucket key.
    pub id: BucketKeyId,
    /// The key that sealed it.
    pub key_id: KeyId,
    /// The version that sealed it.
    pub key_version: u32,
    /// How many objects hang on it.
    pub uses: UseCount,
}

impl Operation for ReportBucketKeyUse {
    const NAME: OperationName = OperationName::ReportBucketKeyUse;
    type Output = ReportedUse;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<ReportedUse>, Error> {
        let Receipt { id, key_id, key_version, .. } =
            Receipt::open(&self.receipt, scope.directory(), scope.caller(), scope.now)?;
        draft.key(key_id, Some(key_version));
        if scope.call.dry_run {
            return Err(Error::DryRun); // nothing is reported, so the record has no count
        }
        draft.bucket_key(BucketKeyNote { id, valid_until: None, uses: Some(self.uses.get()) });
        Ok(Prepared::Answer(ReportedUse { id, key_id, key_version, uses: self.uses }))
    }
}
