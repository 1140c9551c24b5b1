//! What the operations share that the service makes because something is due: the record decides whether it still is.

use std::sync::Arc;

use crate::{
    directory::{Directory, absent, digest, key_path},
    draft::Draft,
    due::DueEntry,
    error::Error,
    key::KeyRecord,
    ops::{
        Plan, Planned, Prepared,
        manage::{KeyChange, plan},
    },
    ports::{Mutation, Transaction},
};

/// What is to be done about an entry.
pub(crate) enum DueKey<T> {
    /// It is due: this record, and the change of it.
    Due(Box<KeyRecord>, KeyChange),
    /// It is not, or not any more; this remains to be done about it.
    Overtaken(Prepared<T>),
}

/// Finds the key that `entry` is about. If nothing is due, the operation gives `done`.
pub(crate) async fn due_key<T>(
    entry: &DueEntry,
    directory: &Directory,
    draft: &mut Draft,
    done: T,
) -> Result<DueKey<T>, Error> {
    let stored = directory.key_in_passing(entry.key_id()).await?;
    draft.key(entry.key_id(), None);
    let Some(stored) = stored else {
        draft.overtaken();
        return Ok(DueKey::Overtaken(Prepared::Change(Planned::Ready(forget(entry, done)))));
    };
    let (revision, record) = (stored.revision, stored.value);
    let mut change = KeyChange::of(revision, Arc::new(record.clone()));
    let listed = record.due().contains(entry);
    if listed && entry.at() <= draft.time() {
        return Ok(DueKey::Due(Box::new(record), change));
    }
    draft.overtaken();
    if listed {
        return Ok(DueKey::Overtaken(Prepared::Answer(done))); // the clock was set back
    }
    // Another change took it back, and the entry with it; or the entry was never true.
    change.mutations.push(Mutation::Delete(entry.path()));
    let plan = plan(directory, change, &record, done)?;
    Ok(DueKey::Overtaken(Prepared::Change(Planned::Ready(plan))))
}

/// Takes an entry away whose key is not there, as when a restore left the key out.
fn forget<T>(entry: &DueEntry, done: T) -> Plan<T> {
    let delete = Mutation::Delete(entry.path());
    let state_digest = digest(&delete);
    let conditions = vec![absent(key_path(entry.key_id()))];
    let transaction = Transaction { conditions, mutations: vec![delete] };
    Plan { transaction, output: done, state_digest, evict: None }
}
