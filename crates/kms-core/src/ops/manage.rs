//! What the operations that manage one custom key share: find it, check it, change it, commit it.

use std::sync::Arc;

use crate::{
    directory::{Directory, PutKey, key_path},
    draft::Draft,
    error::Error,
    key::{KeyRecord, KeyState},
    ops::{KeySelector, Plan, Planned, Prepared},
    ports::{Condition, Mutation, Revision, Transaction},
    service::Scope,
};

/// Finds the custom key that `key` names, lets `change` alter its record, and plans the commit. `change` adds
/// what else is to be committed with it.
pub(crate) async fn manage(
    key: &KeySelector,
    scope: &Scope<'_>,
    draft: &mut Draft,
    change: impl FnOnce(&mut KeyRecord, &mut KeyChange) -> Result<(), Error> + Send,
) -> Result<Prepared<KeyRecord>, Error> {
    let (mut record, mut key_change) = custom_key(key, scope, draft).await?;
    change(&mut record, &mut key_change)?;
    let plan = plan(scope.directory(), key_change, &record, record.clone())?;
    Ok(Prepared::Change(Planned::Ready(plan)))
}

/// The custom key that `key` names, and the change of it.
pub(crate) async fn custom_key(
    key: &KeySelector,
    scope: &Scope<'_>,
    draft: &mut Draft,
) -> Result<(KeyRecord, KeyChange), Error> {
    let (record, change) = stored_key(key, scope, draft).await?;
    if record.is_default() {
        return Err(Error::DefaultKeyImmutable);
    }
    Ok((record, change))
}

/// Any key that exists for the caller, and the change of it. The names of a key are part of its record, so a change
/// under the record's revision finds the name that led to it still there.
pub(crate) async fn stored_key(
    key: &KeySelector,
    scope: &Scope<'_>,
    draft: &mut Draft,
) -> Result<(KeyRecord, KeyChange), Error> {
    let stored = scope.stored(key, draft).await?;
    Ok((KeyRecord::clone(&stored.value), KeyChange::of(stored.revision, stored.value)))
}

/// The change of a stored record: committed only if the record is still the same.
pub(crate) struct KeyChange {
    before: Arc<KeyRecord>,
    /// What else must hold.
    pub(crate) conditions: Vec<Condition>,
    /// What else is done.
    pub(crate) mutations: Vec<Mutation>,
}

impl KeyChange {
    /// Of the record that was read at this revision.
    pub(crate) fn of(revision: Revision, before: Arc<KeyRecord>) -> Self {
        let conditions = vec![Condition::Revision(key_path(before.id), revision)];
        Self { before, conditions, mutations: Vec::new() }
    }

    /// The record as it was read.
    pub(crate) fn before(&self) -> &KeyRecord {
        &self.before
    }
}

/// The commit of a changed record.
pub(crate) fn plan<T>(
    directory: &Directory,
    change: KeyChange,
    record: &KeyRecord,
    output: T,
) -> Result<Plan<T>, Error> {
    let PutKey { mut conditions, mut mutations, digest } = directory.put_key(Some(&change.before), record)?;
    conditions.extend(change.conditions);
    mutations.extend(change.mutations);
    let transaction = Transaction { conditions, mutations };
    // A key that may not be used any more must not stay loaded.
    let evict = (record.state != KeyState::Enabled).then_some(record.material);
    Ok(Plan { transaction, output, state_digest: digest, evict })
}
