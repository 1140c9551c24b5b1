//! What the operations that manage one custom key share: find it, check it, change it, commit it.

use crate::{
    directory::{Directory, digest, key_path},
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord, KeyState},
    ops::{Plan, Planned, Prepared},
    ports::{Condition, Mutation, Transaction},
    service::Scope,
};

/// Finds the custom key `id`, lets `change` alter its record, and plans the commit. `change` adds
/// what else is to be committed with it to the transaction.
pub(crate) async fn manage(
    id: KeyId,
    scope: &Scope<'_>,
    draft: &mut Draft,
    change: impl FnOnce(&mut KeyRecord, &mut Transaction) -> Result<(), Error> + Send,
) -> Result<Prepared<KeyRecord>, Error> {
    let (mut record, mut transaction) = stored_key(id, scope, draft).await?;
    if record.is_default() {
        return Err(Error::DefaultKeyImmutable);
    }
    change(&mut record, &mut transaction)?;
    let plan = plan(scope.directory(), transaction, &record, record.clone())?;
    Ok(Prepared::Change(Planned::Ready(plan)))
}

/// Any key that exists for the caller, and a transaction that commits only if it is still the same.
pub(crate) async fn stored_key(
    id: KeyId,
    scope: &Scope<'_>,
    draft: &mut Draft,
) -> Result<(KeyRecord, Transaction), Error> {
    let stored =
        scope.directory().key(id).await?.filter(|stored| stored.value.exists_for(scope.caller(), scope.now));
    let stored = stored.ok_or(Error::KeyNotFound)?;
    draft.key(id, None);
    let conditions = vec![Condition::Revision(key_path(id), stored.revision)];
    Ok((KeyRecord::clone(&stored.value), Transaction { conditions, mutations: Vec::new() }))
}

/// The commit of a changed record.
pub(crate) fn plan<T>(
    directory: &Directory,
    mut transaction: Transaction,
    record: &KeyRecord,
    output: T,
) -> Result<Plan<T>, Error> {
    let put: Mutation = directory.put(key_path(record.id), record)?;
    let state_digest = digest(&put);
    transaction.mutations.push(put);
    // A key that may not be used any more must not stay loaded.
    let evict = (record.state != KeyState::Enabled).then_some(record.material);
    Ok(Plan { transaction, output, state_digest, evict })
}

/// The step of the life cycle that an operation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Enable,
    Disable,
    ScheduleDeletion,
    CancelDeletion,
    /// A new alias or description: the state stays.
    Describe,
}

/// The state that a step leads to, or why it is illegal.
// DEW: §4, key state machine.
pub(crate) fn next_state(state: KeyState, step: Step) -> Result<KeyState, Error> {
    use KeyState::{Disabled, Enabled, PendingDeletion, PendingImport};
    let legal = match (step, state) {
        (Step::Enable, Disabled) => Enabled,
        (Step::Disable, Enabled) | (Step::CancelDeletion, PendingDeletion) => Disabled,
        (Step::ScheduleDeletion, Enabled | Disabled | PendingImport) => PendingDeletion,
        (Step::Describe, Enabled | Disabled | PendingImport) => state,
        (Step::Enable, _) => return Err(Error::KeyNotDisabled),
        (Step::Disable, _) => return Err(Error::KeyNotEnabled),
        (Step::ScheduleDeletion, _) => return Err(Error::KeyAlreadyPendingDeletion),
        (Step::CancelDeletion, _) => return Err(Error::KeyNotPendingDeletion),
        (Step::Describe, _) => return Err(Error::KeyPendingDeletion),
    };
    Ok(legal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use KeyState::{Disabled, Enabled, PendingDeletion, PendingImport};

    #[test]
    fn every_step_from_every_state() {
        let table = [
            (
                Step::Enable,
                [Err("KEY_NOT_DISABLED"), Ok(Enabled), Err("KEY_NOT_DISABLED"), Err("KEY_NOT_DISABLED")],
            ),
            (
                Step::Disable,
                [Ok(Disabled), Err("KEY_NOT_ENABLED"), Err("KEY_NOT_ENABLED"), Err("KEY_NOT_ENABLED")],
            ),
            (
                Step::ScheduleDeletion,
                [
                    Ok(PendingDeletion),
                    Ok(PendingDeletion),
                    Err("KEY_ALREADY_PENDING_DELETION"),
                    Ok(PendingDeletion),
                ],
            ),
            (
                Step::CancelDeletion,
                [
                    Err("KEY_NOT_PENDING_DELETION"),
                    Err("KEY_NOT_PENDING_DELETION"),
                    Ok(Disabled),
                    Err("KEY_NOT_PENDING_DELETION"),
                ],
            ),
            (Step::Describe, [Ok(Enabled), Ok(Disabled), Err("KEY_PENDING_DELETION"), Ok(PendingImport)]),
        ];
        for (step, expected) in table {
            for (state, expected) in
                [Enabled, Disabled, PendingDeletion, PendingImport].into_iter().zip(expected)
            {
                let actual = next_state(state, step).map_err(|error| error.code());
                assert_eq!(actual, expected, "{step:?} from {state:?}");
            }
        }
    }
}
