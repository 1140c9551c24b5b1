//! The port's limits, checked before a transaction is queued.

use kms_core::ports::{
    Condition, MAX_KEY_BYTES, MAX_MUTATIONS, MAX_VALUE_BYTES, Mutation, StoreError, Transaction,
};

/// Refuses what is longer than the port allows.
pub(crate) fn check(transaction: &Transaction) -> Result<(), StoreError> {
    within("mutations", transaction.mutations.len(), MAX_MUTATIONS)?;
    for condition in &transaction.conditions {
        let (Condition::Absent(key) | Condition::Revision(key, _)) = condition;
        within("bytes of a key", key.len(), MAX_KEY_BYTES)?;
    }
    for mutation in &transaction.mutations {
        let (Mutation::Put(key, _) | Mutation::Delete(key)) = mutation;
        within("bytes of a key", key.len(), MAX_KEY_BYTES)?;
        if let Mutation::Put(_, value) = mutation {
            within("bytes of a value", value.len(), MAX_VALUE_BYTES)?;
        }
    }
    Ok(())
}

fn within(what: &str, count: usize, most: usize) -> Result<(), StoreError> {
    if count <= most {
        return Ok(());
    }
    Err(StoreError::TooLarge { detail: format!("{count} {what}, at most {most}") })
}
