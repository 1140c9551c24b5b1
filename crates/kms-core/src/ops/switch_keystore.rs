//! EnableKeystore and DisableKeystore: whether keys can be made and used on a token.

use crate::{
    directory::{digest, keystore_path},
    draft::Draft,
    error::Error,
    identity::KeystoreId,
    keystore::{KeystoreRecord, KeystoreState},
    operation::OperationName,
    ops::{Operation, Plan, Planned, Prepared},
    ports::{Condition, Transaction},
    service::Scope,
};

/// Lets keys be made and used on a keystore.
#[derive(Debug, Clone)]
pub struct EnableKeystore {
    /// Which one.
    pub keystore_id: KeystoreId,
}

/// Refuses that from now on.
#[derive(Debug, Clone)]
pub struct DisableKeystore {
    /// Which one.
    pub keystore_id: KeystoreId,
}

impl Operation for EnableKeystore {
    const NAME: OperationName = OperationName::EnableKeystore;
    type Output = KeystoreRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeystoreRecord>, Error> {
        switch(&self.keystore_id, KeystoreState::Enabled, scope, draft).await
    }
}

impl Operation for DisableKeystore {
    const NAME: OperationName = OperationName::DisableKeystore;
    type Output = KeystoreRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeystoreRecord>, Error> {
        switch(&self.keystore_id, KeystoreState::Disabled, scope, draft).await
    }
}

/// One that is in this state already stays so; that is no error, so a retry is safe.
async fn switch(
    id: &KeystoreId,
    state: KeystoreState,
    scope: &Scope<'_>,
    draft: &mut Draft,
) -> Result<Prepared<KeystoreRecord>, Error> {
    let stored = scope.keystore(id).await?;
    if stored.value.state == state {
        draft.existed();
        return Ok(Prepared::Answer(stored.value));
    }
    if scope.call.dry_run {
        return Err(Error::DryRun); // the token is not asked
    }
    if state == KeystoreState::Enabled {
        let record = stored.value.clone();
        let check = move |session: &mut dyn crate::ports::HsmSession| record.check_token(session);
        scope.service.on_keystore_token(id, scope.call.patience, check).await?;
    }
    let record = KeystoreRecord { state, ..stored.value };
    let put = scope.directory().put(keystore_path(id), &record)?;
    let state_digest = digest(&put);
    let conditions = vec![Condition::Revision(keystore_path(id), stored.revision)];
    let transaction = Transaction { conditions, mutations: vec![put] };
    Ok(Prepared::Change(Planned::Ready(Plan { transaction, output: record, state_digest, evict: None })))
}
