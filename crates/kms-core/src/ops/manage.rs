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
