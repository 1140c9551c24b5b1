//! DeleteKeystore: an account lets go of a token that holds none of its keys.

use crate::{
    directory::{Directory, digest, keystore_path},
    draft::Draft,
    error::Error,
    identity::KeystoreId,
    keystore::{KeystoreRecord, KeystoreState},
    operation::OperationName,
    ops::{Operation, Plan, Planned, Prepared, forget_roots::give_way},
    ports::{Condition, Mutation, Transaction},
    service::Scope,
};

/// How many keys one read of the pass takes.
const PAGE: usize = 256;

/// Lets go of a disabled keystore that holds no keys.
///
/// That none is there is found by a pass over all keys. It suffices although the store is not still meanwhile: keys
/// are made on enabled keystores only, and that the keystore has stayed as it was, disabled, is a condition of
/// the commit.
#[derive(Debug, Clone)]
pub struct DeleteKeystore {
    /// Which one.
    pub keystore_id: KeystoreId,
}

impl Operation for DeleteKeystore {
    const NAME: OperationName = OperationName::DeleteKeystore;
    type Output = KeystoreRecord;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<KeystoreRecord>, Error> {
        let stored = scope.keystore(&self.keystore_id).await?;
        if stored.value.state != KeystoreState::Disabled {
            return Err(Error::KeystoreNotDisabled);
        }
        check_empty(scope.directory(), &self.keystore_id).await?;
        let path = keystore_path(&self.keystore_id);
        let deleted = Mutation::Delete(path.clone());
        let state_digest = digest(&deleted);
        let conditions = vec![Condition::Revision(path, stored.revision)];
        let transaction = Transaction { conditions, mutations: vec![deleted] };
        let output = stored.value;
        Ok(Prepared::Change(Planned::Ready(Plan { transaction, output, state_digest, evict: None })))
    }
}

/// A record that cannot be trusted might be a key of the keystore: then it is not let go.
async fn check_empty(directory: &Directory, keystore: &KeystoreId) -> Result<(), Error> {
    let mut after = None;
    loop {
        let keys = directory.all_keys(after.as_deref(), PAGE).await?;
        let Some((last, _)) = keys.last() else { return Ok(()) };
        after = Some(last.clone());
        for (_, record) in keys {
            let record = record?;
            if record.keystore.as_ref() == Some(keystore) && !record.is_destroyed() {
                return Err(Error::KeystoreNotEmpty);
            }
        }
        give_way().await;
    }
}
