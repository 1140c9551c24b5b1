//! AdvanceClock: a tester lets days pass in a moment.

use std::time::Duration;

use crate::{
    Timestamp,
    draft::Draft,
    error::{Error, Field},
    operation::OperationName,
    ops::{Operation, Prepared},
    service::Scope,
};

/// The most that a clock is advanced by at once: ten years.
const LONGEST: Duration = Duration::from_secs(3653 * 24 * 60 * 60);
/// 2200-01-01: no date that the service computes from an earlier one is beyond what RFC 3339 can write.
const LATEST: Timestamp = Timestamp::from_micros(7_258_118_400_000_000);

/// Moves a clock that stands still otherwise.
///
/// The operation itself moves nothing: it says who may, and leaves the record. The record is durable before the clock
/// moves, so that in the log a leap of the time is always explained by what precedes it.
#[derive(Debug, Clone, Copy)]
pub struct AdvanceClock(Duration);

impl AdvanceClock {
    /// More than nothing, at most ten years.
    pub fn parse(by: Option<Duration>) -> Result<Self, Error> {
        let valid = by.filter(|by| !by.is_zero() && *by <= LONGEST);
        valid.map(Self).ok_or_else(|| Error::invalid(Field::By, "must be more than 0, and at most 10 years"))
    }
}

impl Operation for AdvanceClock {
    const NAME: OperationName = OperationName::AdvanceClock;
    type Output = Duration;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Duration>, Error> {
        if scope.now.plus(self.0) > LATEST {
            return Err(Error::invalid(Field::By, "must not lead beyond the year 2199"));
        }
        Ok(Prepared::Answer(self.0))
    }
}
