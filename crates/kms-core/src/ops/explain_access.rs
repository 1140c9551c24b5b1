//! ExplainAccess: who may do what with a key, and by what.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    access::{AccessRequest, Asker, Operations, Ruling, decide},
    draft::Draft,
    error::{Error, Field},
    grant::Grant,
    identity::{AccountId, Permissions, UserId},
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{Operation, Prepared},
    service::Scope,
    states,
};

/// Someone who may call.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user's account.
    pub account: AccountId,
    /// The user.
    pub user: UserId,
    /// What the user may do.
    pub permissions: Permissions,
}

/// Everyone who may call, or the one user of this id. Asked only when it is known that its caller may know.
pub type IdentityLister = Arc<dyn Fn(Option<&UserId>) -> Vec<Identity> + Send + Sync>;

/// Decides every operation on a key for everyone of these, in the key's region and without a context or an alias.
#[derive(Clone)]
pub struct ExplainAccess {
    /// The key, whosever it is.
    pub key_id: KeyId,
    /// Only for this user.
    pub user: Option<UserId>,
    /// Whom to decide for.
    pub identities: IdentityLister,
}

impl fmt::Debug for ExplainAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_id, user, .. } = self;
        f.debug_struct("ExplainAccess").field("key_id", key_id).field("user", user).finish_non_exhaustive()
    }
}

/// What everyone may do with a key.
#[derive(Debug, Clone)]
pub struct ExplainedAccess {
    /// The key.
    pub key: KeyRecord,
    /// Whoever was asked for, in that order.
    pub users: Vec<UserAccess>,
}

/// What one user may do with a key.
#[derive(Debug, Clone)]
pub struct UserAccess {
    /// The user's account.
    pub account: AccountId,
    /// The user.
    pub user: UserId,
    /// By what the user may do something, and what: a statement of a policy, or a grant.
    pub allowed: BTreeMap<String, Vec<OperationName>>,
    /// The same of what is denied.
    pub denied: BTreeMap<String, Vec<OperationName>>,
}

impl Operation for ExplainAccess {
    const NAME: OperationName = OperationName::ExplainAccess;
    type Output = ExplainedAccess;

    async fn prepare(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Prepared<ExplainedAccess>, Error> {
        let identities = (self.identities)(self.user.as_ref());
        if identities.is_empty() && self.user.is_some() {
            return Err(Error::invalid(Field::UserId, "must be the id of a user"));
        }
        let stored = scope.directory().key(self.key_id).await?;
        let stored = stored.filter(|stored| stored.value.exists_at(scope.now)).ok_or(Error::KeyNotFound)?;
        draft.key(self.key_id, None);
        let key = &*stored.value;
        let grants = scope.directory().grants_of(key.id).await?;
        let users = identities.into_iter().map(|identity| UserAccess::of(identity, key, &grants)).collect();
        Ok(Prepared::Answer(ExplainedAccess { key: key.clone(), users }))
    }
}

impl UserAccess {
    fn of(identity: Identity, key: &KeyRecord, grants: &[Grant]) -> Self {
        let (mut allowed, mut denied) = (BTreeMap::new(), BTreeMap::new());
        let tell =
            |list: &mut BTreeMap<_, Vec<_>>, by, operation| list.entry(by).or_default().push(operation);
        for operation in Operations::OF_USERS.iter().filter(|name| states::row(*name).is_some()) {
            let ruling = ruling(&identity, key, operation, grants);
            match ruling {
                Ruling::Denied(statement) => tell(&mut denied, statement.to_string(), operation),
                // A grant is given up by whom it names for that, whatever else is allowed.
                _ if operation == OperationName::RetireGrant => {
                    for grant in grants.iter().filter(|grant| identity.may_retire(grant)) {
                        tell(&mut allowed, format!("grant {}", grant.id), operation);
                    }
                }
                Ruling::AllowedByPolicy(statement) => tell(&mut allowed, statement.to_string(), operation),
                Ruling::AllowedByGrant(grant) => tell(&mut allowed, format!("grant {grant}"), operation),
                Ruling::NotAllowed { .. } => {}
            }
        }
        let Identity { account, user, .. } = identity;
        Self { account, user, allowed, denied }
    }
}

impl Identity {
    fn may_retire(&self, grant: &Grant) -> bool {
        grant.retirers().iter().any(|retirer| retirer.covers(&self.account, &self.user))
    }
}

fn ruling(identity: &Identity, key: &KeyRecord, operation: OperationName, grants: &[Grant]) -> Ruling {
    let Identity { account, user, permissions } = identity;
    // A default key is valid in every region: of which one the call is does not matter.
    let anywhere = crate::identity::Region::parse("any");
    let Some(region) = key.region().or(anywhere.as_ref()) else {
        return Ruling::NotAllowed { statements: 0, grants: 0 };
    };
    let request = AccessRequest {
        operation,
        account: &key.account,
        region,
        key: Some(key.into()),
        context: None,
        alias: None,
    };
    decide(&Asker { account, user, policies: permissions.policies() }, &request, grants)
}
