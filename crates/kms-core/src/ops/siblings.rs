//! Keys that share one material: what one seals, each of them opens, so they have the same versions and are rotated
//! together.

use crate::{
    directory::{Directory, key_path, tampered},
    error::Error,
    key::KeyRecord,
    ops::manage::KeyChange,
    ports::Condition,
};

impl Directory {
    /// Gives a replica, as it is shown, the rotation of its primary: it is rotated with that, and has none of its own.
    pub(crate) async fn show_rotation(&self, key: &mut KeyRecord) -> Result<(), Error> {
        let Some(shared) = key.replication.as_ref().filter(|_| key.is_replica()) else { return Ok(()) };
        let primary = self.key_in_passing(shared.primary).await?;
        key.rotation = primary.and_then(|primary| primary.value.rotation);
        Ok(())
    }
}

/// The other keys that share a key's material, as they are while a change of that key is planned.
pub(crate) struct Siblings(Vec<KeyRecord>);

impl Siblings {
    /// Those of `record`; that none of them changes meanwhile becomes a condition of `change`.
    pub(crate) async fn of(
        directory: &Directory,
        record: &KeyRecord,
        change: &mut KeyChange,
    ) -> Result<Self, Error> {
        let members = record.replication.iter().flat_map(|shared| &shared.members);
        let mut others = Vec::new();
        for member in members.filter(|member| member.key_id != record.id) {
            let found = directory.key_in_passing(member.key_id).await?;
            let stored = found.ok_or_else(|| tampered("a key that shares its material is gone"))?;
            // Of a backup, one may have been destroyed that was alive when the others' records were written.
            if !stored.value.is_destroyed() {
                change.conditions.push(Condition::Revision(key_path(member.key_id), stored.revision));
                others.push(stored.value);
            }
        }
        Ok(Self(others))
    }

    /// Whether no other key shares the material.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &KeyRecord> {
        self.0.iter()
    }

    /// Adds to `change` that each of them is altered.
    pub(crate) fn change(
        &self,
        directory: &Directory,
        change: &mut KeyChange,
        alter: impl Fn(&mut KeyRecord),
    ) -> Result<(), Error> {
        for before in &self.0 {
            let mut after = before.clone();
            alter(&mut after);
            let put = directory.put_key(Some(before), &after)?;
            change.conditions.extend(put.conditions);
            change.mutations.extend(put.mutations);
        }
        Ok(())
    }
}
