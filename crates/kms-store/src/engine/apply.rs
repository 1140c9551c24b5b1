//! What transactions do to records, whatever the database.

use kms_core::ports::{Condition, Mutation, Revision, StoreError, Transaction};

use super::Batch;

/// Records that are being changed, with all changes so far.
pub(super) trait Records {
    /// Why a record cannot be read or changed.
    type Error;

    /// Which transaction last put this key, if it is there.
    fn revision(&self, key: &[u8]) -> Result<Option<Revision>, Self::Error>;

    /// Sets the key's value.
    fn put(&mut self, key: &[u8], value: &[u8], revision: Revision) -> Result<(), Self::Error>;

    /// Removes the key, if it is there.
    fn delete(&mut self, key: &[u8]) -> Result<(), Self::Error>;
}

/// Applies `transactions` in their order, after the revision `previous`.
pub(super) fn apply<R: Records>(
    records: &mut R,
    transactions: &[&Transaction],
    previous: Revision,
) -> Result<Batch, R::Error> {
    let (mut last, mut outcomes) = (previous, Vec::with_capacity(transactions.len()));
    for transaction in transactions {
        let outcome = apply_one(records, transaction, last + 1)?;
        last += u64::from(outcome.is_ok());
        outcomes.push(outcome);
    }
    Ok(Batch { previous, last, outcomes })
}

/// Applies one transaction as `revision`; the inner error is a conflict, which changes nothing.
fn apply_one<R: Records>(
    records: &mut R,
    transaction: &Transaction,
    revision: Revision,
) -> Result<Result<Revision, StoreError>, R::Error> {
    for (index, condition) in transaction.conditions.iter().enumerate() {
        let (key, expected) = match condition {
            Condition::Absent(key) => (key, None),
            Condition::Revision(key, revision) => (key, Some(*revision)),
        };
        if records.revision(key)? != expected {
            return Ok(Err(StoreError::Conflict { index }));
        }
    }
    for mutation in &transaction.mutations {
        match mutation {
            Mutation::Put(key, value) => records.put(key, value, revision)?,
            Mutation::Delete(key) => records.delete(key)?,
        }
    }
    Ok(Ok(revision))
}
