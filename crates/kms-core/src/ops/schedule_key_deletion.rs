//! ScheduleKeyDeletion: a key refuses all use and will be destroyed at its due time.

use std::{sync::Arc, time::Duration};

use crate::{
    draft::Draft,
    error::{Error, Field},
    key::PENDING_DAYS,
    operation::OperationName,
    ops::{
        KeySelector, Operation, Planned, Prepared, UsedKey,
        manage::{plan, stored_key},
        siblings::Siblings,
    },
    service::Scope,
    states,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The waiting time before a deletion: 7 to 1096 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingDays(u32);

impl PendingDays {
    /// DEW: pending_days, 7 to 1096; KMS.1401.
    pub fn parse(days: u32) -> Result<Self, Error> {
        if PENDING_DAYS.contains(&days) {
            Ok(Self(days))
        } else {
            Err(Error::invalid(Field::PendingDays, "must be 7 to 1096"))
        }
    }
}

/// To pending deletion.
#[derive(Debug, Clone)]
pub struct ScheduleKeyDeletion {
    /// Which key.
    pub key: KeySelector,
    /// How long from now.
    pub pending: PendingDays,
}

impl Operation for ScheduleKeyDeletion {
    const NAME: OperationName = OperationName::ScheduleKeyDeletion;
    /// The key, and what whoever deletes it should know: how it was used.
    type Output = UsedKey;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<UsedKey>, Error> {
        let (mut record, mut change) = stored_key(&self.key, scope, draft).await?;
        if record.is_default() {
            return Err(Error::DefaultKeyImmutable);
        }
        record.state = states::after(Self::NAME, record.state)?;
        if !record.is_replica() && !Siblings::of(scope.directory(), &record, &mut change).await?.is_empty() {
            return Err(Error::ReplicasRemain);
        }
        record.deletion_due = Some(scope.now.plus(DAY * self.pending.0));
        let usage = scope.service.usage_of(record.id).await?;
        let output = UsedKey { record: Arc::new(record.clone()), usage };
        Ok(Prepared::Change(Planned::Ready(plan(scope.directory(), change, &record, output)?)))
    }
}
