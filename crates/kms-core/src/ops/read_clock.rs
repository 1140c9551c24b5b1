//! ReadClock: the time that the service goes by.

use crate::{
    Timestamp,
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    service::Scope,
};

/// Reads the clock.
#[derive(Debug, Clone, Copy)]
pub struct ReadClock;

impl Operation for ReadClock {
    const NAME: OperationName = OperationName::ReadClock;
    type Output = Timestamp;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Timestamp>, Error> {
        Ok(Prepared::Answer(scope.now))
    }
}
