//! RetireGrant: who made a grant, who is named for it, or who holds it gives it up.

use crate::{
    directory::{Stored, digest},
    draft::Draft,
    error::Error,
    grant::{Grant, GrantId},
    key::KeyId,
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
        let (key_id, own) = self.find(scope, draft).await?;
        match grant(scope.directory(), key_id, self.grant_id).await? {
            Some(stored) if stored.value.is_retirable_by(scope.caller()) => {
                draft.key(key_id, None);
                removal(scope, stored).await
            }
            // Of a key that does not exist for the caller it learns nothing.
            _ if !own => Err(Error::KeyNotFound),
            Some(_) => Err(Error::PermissionDenied { missing: Action::GrantRetire }),
            None => Err(absence(scope, self.grant_id).await?),
        }
    }
}

impl RetireGrant {
    /// The key, and whether it exists for the caller. Only an id names other accounts' keys.
    async fn find(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<(KeyId, bool), Error> {
        match (scope.key(&self.key, draft).await, &self.key) {
            (Ok(key), _) if key.is_default() => Err(Error::DefaultKeyImmutable),
            (Ok(key), _) => key.check(Self::NAME).map(|()| (key.id, true)),
            (Err(Error::KeyNotFound), KeySelector::Id(id)) => {
                let key = scope.directory().key(*id).await?;
                let exists = key.is_some_and(|key| key.value.exists_at(scope.now));
                exists.then_some((*id, false)).ok_or(Error::KeyNotFound)
            }
            (Err(error), _) => Err(error),
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
