//! DestroyKey: the material of a key whose deletion is due goes, and a tombstone stays.
//!
//! The key exists for nobody any more since its time, so nothing here is seen half-done. The keys that share its
//! material go on without it; its grants go, then its campaigns and the lists of what they moved, as many as a
//! transaction bears at a time; then one transaction makes the tombstone and frees the names. Until that one is
//! committed the entry stays that says the deletion is due, so a crash in between is made up for.
//!
//! How often its versions were used stays beside the tombstone: one small value, for whoever asks later what went.

use std::sync::Arc;

use crate::{
    directory::{Directory, Stored, absent, all_moved_prefix, campaign_prefix, grants_prefix, usage_path},
    draft::Draft,
    due::DueEntry,
    error::Error,
    grant::Grant,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{
        OwnOperation, Planned, Prepared,
        due_key::{DueKey, due_key},
        granting::{GrantChange, remove_grants},
        manage::{KeyChange, plan},
        siblings::Siblings,
    },
    ports::{Condition, Mutation, StoreKey, Versioned},
};

/// How many grants one step deletes: each has up to six entries, and a transaction bears a hundred.
const GRANTS_PER_STEP: usize = 12;
/// How many entries of campaigns one step deletes: a list takes 60 kB, and is read before it goes.
const ENTRIES_PER_STEP: usize = 32;

/// One step of the destruction of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DestroyKey {
    pub(crate) entry: DueEntry,
}

/// How far a step led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destruction {
    /// Another step follows.
    GoesOn,
    /// The key is destroyed, or its deletion is not due any more.
    Ended,
}

impl OwnOperation for DestroyKey {
    const NAME: OperationName = OperationName::DestroyKey;
    type Output = Destruction;

    async fn prepare(
        &self,
        directory: &Arc<Directory>,
        draft: &mut Draft,
    ) -> Result<Prepared<Destruction>, Error> {
        let found = due_key(&self.entry, directory, draft, Destruction::Ended).await?;
        let (mut record, mut change) = match found {
            DueKey::Due(record, change) => (record, change),
            DueKey::Overtaken(prepared) => return Ok(prepared),
        };
        let grants = directory.index(&grants_prefix(record.id), None, GRANTS_PER_STEP).await?;
        let siblings = Siblings::of(directory, &record, &mut change).await?;
        // Before the lists are looked for: whoever adds to them meanwhile puts the counts anew.
        let counts = unchanged_counts(directory, record.id).await?;
        let ended = if !siblings.is_empty() {
            draft.cause("REPLICAS_LEFT");
            leave(directory, &mut record, &siblings, &mut change)?;
            Destruction::GoesOn
        } else if !grants.is_empty() {
            draft.cause("GRANTS_DELETED");
            let GrantChange { conditions, mutations } = removal(directory, record.id, grants).await?;
            change.conditions.extend(conditions);
            change.mutations.extend(mutations);
            Destruction::GoesOn
        } else if let entries @ [_, ..] = &campaign_entries(directory, record.id).await?[..] {
            draft.cause("CAMPAIGNS_DELETED");
            change.mutations.extend(entries.iter().cloned().map(Mutation::Delete));
            Destruction::GoesOn
        } else {
            change.conditions.push(counts);
            let newest_root = directory.root().await?.value.generation;
            record.bury(draft.time(), newest_root, directory.moved_until().await?);
            Destruction::Ended
        };
        Ok(Prepared::Change(Planned::Ready(plan(directory, change, &record, ended)?)))
    }
}

/// The keys that share the material go on without this one. If it was their primary, one of them is from now on:
/// that happens only to a key whose destruction a restored store makes up for.
fn leave(
    directory: &Directory,
    record: &mut KeyRecord,
    siblings: &Siblings,
    change: &mut KeyChange,
) -> Result<(), Error> {
    let Some(shared) = &mut record.replication else { return Ok(()) };
    let leaving = record.id;
    if shared.primary == leaving {
        shared.primary = siblings.iter().next().map_or(leaving, |next| next.id);
    }
    let primary = shared.primary;
    shared.members.clear();
    siblings.change(directory, change, |other| {
        if let Some(shared) = &mut other.replication {
            shared.primary = primary;
            shared.members.retain(|member| member.key_id != leaving);
        }
    })
}

/// That the counts of the key's uses are still those of this moment. They are not opened: whether they are authentic
/// does not matter to the key's end.
async fn unchanged_counts(directory: &Directory, key: KeyId) -> Result<Condition, Error> {
    let path = usage_path(key);
    let found = directory.index(&path, None, 1).await?.pop();
    Ok(found.map_or_else(|| absent(path), |(path, stored)| Condition::Revision(path, stored.revision)))
}

/// Campaigns of the key and lists of what they moved: no more than one step deletes.
async fn campaign_entries(directory: &Directory, key: KeyId) -> Result<Vec<StoreKey>, Error> {
    for prefix in [all_moved_prefix(key), campaign_prefix(key)] {
        let found = directory.index(&prefix, None, ENTRIES_PER_STEP).await?;
        if !found.is_empty() {
            return Ok(found.into_iter().map(|(path, _)| path).collect());
        }
    }
    Ok(Vec::new())
}

/// The change that removes these grants of a key. One that is not authentic goes by itself: it leads to nothing, and
/// must not keep the key from its end.
async fn removal(
    directory: &Directory,
    key: KeyId,
    grants: Vec<(StoreKey, Versioned)>,
) -> Result<GrantChange, Error> {
    let (mut authentic, mut others) = (Vec::new(), Vec::new());
    for (path, Versioned { revision, value }) in grants {
        match directory.open::<Grant>(&path, &value) {
            Ok(value) => authentic.push(Stored { revision, value }),
            Err(_) => others.push(Mutation::Delete(path)),
        }
    }
    let mut change = remove_grants(directory, key, &authentic).await?;
    change.mutations.extend(others);
    Ok(change)
}
