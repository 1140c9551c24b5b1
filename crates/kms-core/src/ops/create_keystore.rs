//! CreateKeystore: an account takes a configured token, for keys of its own.

use crate::{
    directory::{absent, digest, keystore_path},
    draft::Draft,
    error::{Error, Field},
    identity::KeystoreId,
    keystore::{KeystoreRecord, KeystoreState, identity},
    operation::OperationName,
    ops::{Alias, Operation, Plan, Planned, Prepared},
    ports::Transaction,
    service::Scope,
};

/// Puts a configured token to use as a keystore; disabled at first.
#[derive(Debug, Clone)]
pub struct CreateKeystore {
    /// The name of the token in the configuration; becomes the keystore's id.
    pub keystore_id: KeystoreId,
    /// A name for people, which no other keystore of the account has.
    pub alias: Alias,
}

impl Operation for CreateKeystore {
    const NAME: OperationName = OperationName::CreateKeystore;
    type Output = KeystoreRecord;

    // DEW: a keystore needs a cluster that has none yet, and a name of its own (KMS.0318); it starts disabled.
    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<KeystoreRecord>, Error> {
        if !scope.service.keystore_tokens().any(|token| *token == self.keystore_id) {
            let problem = "must be the name of a token that this service is configured with";
            return Err(Error::invalid(Field::KeystoreId, problem));
        }
        let taken = scope.directory().keystores().await?;
        let account = &scope.caller().account;
        let is_named = |one: &KeystoreRecord| one.account == *account && one.alias == self.alias.as_str();
        if taken.iter().any(|one| one.id == self.keystore_id || is_named(one)) {
            return Err(Error::KeystoreExists);
        }
        if scope.call.dry_run {
            return Err(Error::DryRun); // the token is not asked
        }
        let patience = scope.call.patience;
        let record = KeystoreRecord {
            id: self.keystore_id.clone(),
            account: scope.caller().account.clone(),
            alias: self.alias.as_str().to_owned(),
            state: KeystoreState::Disabled,
            created: scope.now,
            token: scope.service.on_keystore_token(&self.keystore_id, patience, identity).await?,
        };
        let put = scope.directory().put(keystore_path(&record.id), &record)?;
        let state_digest = digest(&put);
        // Whoever takes any other token meanwhile may give it the same name.
        let free = scope.service.keystore_tokens().filter(|token| taken.iter().all(|one| one.id != **token));
        let conditions = free.map(|token| absent(keystore_path(token))).collect();
        let transaction = Transaction { conditions, mutations: vec![put] };
        Ok(Prepared::Change(Planned::Ready(Plan { transaction, output: record, state_digest, evict: None })))
    }
}
