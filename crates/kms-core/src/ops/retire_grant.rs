//! RetireGrant: who made a grant, who is named for it, or who holds it gives it up.

use crate::{
    directory::{Stored, digest},
    draft::Draft,
    error::Error,
    grant::{Grant, GrantId},
    operation::{Action, OperationName},
    ops::{
        KeySelector, Operation, Plan, Planned, Prepared,
        granting::{GrantChange, absence, grant, grant_path, remove_grants},
    },
    ports::{Mutation, Transaction},
    service::Scope,
};

/// Gives a grant up. The key need not exist for the caller: it may be another account's.
#[derive(Debug, Clone)]
pub struct RetireGrant {
    /// The key.
    pub key: KeySelector,
    /// Which of its grants.
    pub grant_id: GrantId,
}

impl Operation for RetireGrant {
    const NAME: OperationName = OperationName::RetireGrant;
    type Output = ();

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<()>, Error> {
        // Whoever the grant names may give it up, also where nothing else allows it; but not against a denial.
        let (key, alias) = (scope.found(&self.key).await?.value, self.key.as_alias());
        let found = grant(scope.directory(), key.id, self.grant_id).await?;
        if let Some(stored) = &found
            && stored.value.is_retirable_by(scope.caller())
        {
            scope.refuse_if_denied(Self::NAME, &key, alias, draft)?;
            draft.admitted_by(self.grant_id);
            draft.key(key.id, None);
            key.check(Self::NAME, scope.now)?;
            return removal(scope, stored.clone()).await;
        }
        // Of a key that does not exist for the caller it learns nothing.
        if !key.visible_to(scope.caller()) {
            return Err(Error::KeyNotFound);
        }
        scope.admit(&key, alias, draft).await?;
        draft.key(key.id, None);
        if key.is_default() {
            return Err(Error::DefaultKeyImmutable);
        }
        key.check(Self::NAME, scope.now)?;
        match found {
            Some(_) => Err(Error::denied_on_key(Action::GrantRetire)),
            None => Err(absence(scope, self.grant_id).await?),
        }
    }
}

/// The change that removes one grant.
pub(crate) async fn removal(scope: &Scope<'_>, stored: Stored<Grant>) -> Result<Prepared<()>, Error> {
    let (key, id) = (stored.value.key_id, stored.value.id);
    let change = remove_grants(scope.directory(), key, &[stored]).await?;
    let GrantChange { conditions, mutations } = change;
    let transaction = Transaction { conditions, mutations };
    let state_digest = digest(&Mutation::Delete(grant_path(key, id)));
    Ok(Prepared::Change(Planned::Ready(Plan { transaction, output: (), state_digest, evict: None })))
}
