//! RewrapKey: all of one key's versions, wrapped under the newest root key.

use std::sync::Arc;

use crate::{
    directory::{Directory, PutKey, key_path},
    draft::Draft,
    error::Error,
    key::KeyId,
    operation::OperationName,
    ops::{OwnOperation, Plan, Prepared},
    ports::{Condition, Transaction},
};

/// Moves one key under the newest root key, whatever its state. Nothing else about it changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RewrapKey {
    pub(crate) key_id: KeyId,
}

impl OwnOperation for RewrapKey {
    const NAME: OperationName = OperationName::RewrapKey;
    type Output = ();

    async fn prepare(&self, directory: &Arc<Directory>, draft: &mut Draft) -> Result<Prepared<()>, Error> {
        let root = directory.root().await?;
        let stored = directory.key_in_passing(self.key_id).await?.ok_or(Error::KeyNotFound)?;
        draft.key(self.key_id, None);
        let generation = root.value.generation;
        if !stored.value.needs_older_than(generation) {
            draft.existed(); // another one moved it
            return Ok(Prepared::Answer(()));
        }
        let (directory, before, mut record) = (directory.clone(), stored.value.clone(), stored.value);
        let conditions = vec![Condition::Revision(key_path(self.key_id), stored.revision), root.unchanged()];
        Ok(Prepared::change_by(record.keystore.clone(), move |session| {
            for index in 0..record.versions.len() {
                let version = &record.versions[index];
                if version.wrapped.root_generation < generation {
                    let moved = session.rewrap_backing_key(&record.backing_key(version))?;
                    record.versions[index].wrapped = root.accept(moved)?;
                }
            }
            let PutKey { mutations, digest, .. } = directory.put_key(Some(&before), &record)?;
            let transaction = Transaction { conditions, mutations };
            // Not evicted: a handle of the old wrapping is the same key, and is replaced at the next use.
            Ok(Plan { transaction, output: (), state_digest: digest, evict: None })
        }))
    }
}
