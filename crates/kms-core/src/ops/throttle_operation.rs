//! ThrottleOperation: a tester has calls refused, to see what becomes of that.

use crate::{
    draft::Draft,
    error::{Error, Field},
    operation::OperationName,
    ops::{Operation, Prepared},
    service::Scope,
};

/// The most calls that can be told to be refused.
const MOST: u32 = 1_000_000;

/// Has the next calls of an operation refused as over their limit.
///
/// The operation itself refuses nothing: it says who may, and leaves the record.
#[derive(Debug, Clone, Copy)]
pub struct ThrottleOperation {
    /// Which one.
    pub operation: OperationName,
    /// How many calls from now on, whoever makes them; 0: none any more.
    pub calls: u32,
}

impl ThrottleOperation {
    /// An operation that there is, and at most a million calls.
    pub fn parse(operation: &str, calls: u32) -> Result<Self, Error> {
        let operation = OperationName::parse(operation).ok_or_else(|| {
            Error::invalid(Field::Operation, "must be the name of an operation, as CreateKey")
        })?;
        if calls > MOST {
            return Err(Error::invalid(Field::Calls, "must be at most 1000000"));
        }
        Ok(Self { operation, calls })
    }
}

impl Operation for ThrottleOperation {
    const NAME: OperationName = OperationName::ThrottleOperation;
    type Output = Self;

    async fn prepare(&self, _: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Self>, Error> {
        Ok(Prepared::Answer(*self))
    }
}
