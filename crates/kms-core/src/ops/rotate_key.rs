//! RotateKey: a new version of a key encrypts from now on; the old ones stay for what they sealed.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyId,
    operation::OperationName,
    ops::{Operation, Prepared, manage::stored_key, new_version::with_next_version},
    service::Scope,
};

/// Why the service rotates a key by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationCause {
    /// The budget of its current version is spent: it may not seal in the HSM any more.
    BudgetSpent,
    /// It is rotated by time, and the time has come.
    Scheduled,
}

impl RotationCause {
    /// The stable name, in records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::BudgetSpent => "BUDGET_SPENT",
            Self::Scheduled => "SCHEDULED",
        }
    }
}

/// Makes the next version of a key, unless another one did.
#[derive(Debug, Clone, Copy)]
pub struct RotateKey {
    pub(crate) key_id: KeyId,
    /// The version that is to be followed by a new one.
    pub(crate) version: u32,
    pub(crate) cause: RotationCause,
}

impl Operation for RotateKey {
    const NAME: OperationName = OperationName::RotateKey;
    type Output = ();

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<()>, Error> {
        let (record, change) = stored_key(&self.key_id.into(), scope, draft).await?;
        record.check(Self::NAME, scope.now)?;
        // DEW: KMS.0338
        if record.keystore.is_some() {
            return Err(Error::KeystoreUnsupported);
        }
        if record.current_version().is_none_or(|version| version.number != self.version) {
            draft.overtaken();
            return Ok(Prepared::Answer(()));
        }
        draft.key(self.key_id, Some(self.version + 1));
        draft.cause(self.cause.code());
        let scheme = scope.service.settings().scheme(record.spec);
        with_next_version(scope.directory(), record, change, scheme, scope.now, drop).await
    }
}
