//! EnableKeyRotation: a key is rotated by time from now on.

use std::time::Duration;

use crate::{
    Timestamp,
    draft::Draft,
    error::{Error, Field},
    key::{KeyRecord, ROTATION_DAYS, RotationPolicy},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long from one rotation to the next: 30 to 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationInterval(u32);

impl RotationInterval {
    /// What DEW takes where nothing is said. DEW: §3, `rotation_interval`.
    pub const DEFAULT: Self = Self(365);

    /// DEW: `rotation_interval`, 30 to 365; KMS.3001.
    pub fn parse(days: u32) -> Result<Self, Error> {
        if ROTATION_DAYS.contains(&days) {
            Ok(Self(days))
        } else {
            Err(Error::invalid(Field::IntervalDays, "must be 30 to 365"))
        }
    }

    /// Rotated so often, beginning one interval after `now`.
    pub(crate) fn beginning(self, now: Timestamp) -> RotationPolicy {
        RotationPolicy { interval_days: self.0, next: now.plus(DAY * self.0) }
    }
}

impl RotationPolicy {
    /// Whatever was missed before `now` is made up for by the rotation of `now`: the next one is an interval
    /// away.
    pub(crate) fn move_on(&mut self, now: Timestamp) {
        self.next = now.plus(DAY * self.interval_days);
    }
}

/// Begins to rotate a key by time.
#[derive(Debug, Clone)]
pub struct EnableKeyRotation {
    /// Which key.
    pub key: KeySelector,
    /// How often.
    pub interval: RotationInterval,
}

impl Operation for EnableKeyRotation {
    const NAME: OperationName = OperationName::EnableKeyRotation;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            record.check_rotatable()?;
            if record.rotation.is_some() {
                return Err(Error::RotationAlreadyEnabled);
            }
            record.rotation = Some(self.interval.beginning(scope.now));
            Ok(())
        })
        .await
    }
}
