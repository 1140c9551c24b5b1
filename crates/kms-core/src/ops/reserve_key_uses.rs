//! ReserveKeyUses: takes uses from the budget of a version that seals in the HSM, before they are made.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyId,
    operation::OperationName,
    ops::{
        Operation, Planned, Prepared,
        manage::{plan, stored_key},
        siblings::Siblings,
    },
    service::Scope,
};

/// Reserves the next block of uses of a key's current version. The service makes it by itself.
#[derive(Debug, Clone, Copy)]
pub struct ReserveKeyUses {
    pub(crate) key_id: KeyId,
    /// The version that was current when the need arose.
    pub(crate) version: u32,
}

/// Uses that belong to the asking service alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservedUses {
    /// How many, at least 1.
    pub(crate) block: u64,
    /// What the store counts with them.
    pub(crate) reserved: u64,
}

impl Operation for ReserveKeyUses {
    const NAME: OperationName = OperationName::ReserveKeyUses;
    /// `None`: another service spent what was left, or rotated the key.
    type Output = Option<ReservedUses>;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Self::Output>, Error> {
        let (mut record, mut change) = stored_key(&self.key_id.into(), scope, draft).await?;
        record.check(Self::NAME, scope.now)?;
        draft.key(self.key_id, Some(self.version));
        let current = record.versions.last_mut().filter(|version| version.number == self.version);
        let settings = scope.service.settings();
        let block = current.as_ref().map_or(0, |version| settings.next_block(version.reserved_uses));
        let Some(version) = current.filter(|_| block > 0) else {
            draft.overtaken();
            return Ok(Prepared::Answer(None));
        };
        version.reserved_uses += block;
        let reserved = ReservedUses { block, reserved: version.reserved_uses };
        // The budget is the version's, whichever of the keys that share it seals.
        let siblings = Siblings::of(scope.directory(), &record, &mut change).await?;
        siblings.change(scope.directory(), &mut change, |other| {
            let shared = other.versions.iter_mut().filter(|version| version.number == self.version);
            shared.for_each(|version| version.reserved_uses = reserved.reserved);
        })?;
        let plan = plan(scope.directory(), change, &record, Some(reserved))?;
        Ok(Prepared::Change(Planned::Ready(plan)))
    }
}
