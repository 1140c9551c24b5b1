//! RotateKey: a new version of a key encrypts from now on; the old ones stay for what they sealed.

use crate::{
    draft::Draft,
    error::Error,
    key::{BackingKind, KeyId},
    operation::OperationName,
    ops::{
        Operation, Prepared,
        manage::{plan, stored_key},
    },
    service::Scope,
};

/// Why a key is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationCause {
    /// The budget of its current version is spent: it may not seal in the HSM any more.
    BudgetSpent,
}

impl RotationCause {
    /// The stable name, in records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::BudgetSpent => "BUDGET_SPENT",
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
        let root = scope.directory().root().await?;
        let (mut record, mut change) = stored_key(&self.key_id.into(), scope, draft).await?;
        record.check(Self::NAME)?;
        if record.current_version().is_none_or(|version| version.number != self.version) {
            draft.overtaken();
            return Ok(Prepared::Answer(()));
        }
        draft.key(self.key_id, Some(self.version + 1));
        draft.cause(self.cause.code());
        change.conditions.push(root.unchanged());
        let scheme = scope.service.settings().scheme(record.spec);
        let (directory, now) = (scope.directory().clone(), scope.now);
        Ok(Prepared::change_by(record.keystore.clone(), move |session| {
            let wrapped = root.accept(session.generate_backing_key(BackingKind::of(record.spec, scheme))?)?;
            record.add_version(now, scheme, wrapped);
            plan(&directory, change, &record, ())
        }))
    }
}
