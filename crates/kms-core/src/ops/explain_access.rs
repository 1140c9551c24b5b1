//! ExplainAccess: who may do what with a key, and by what.

use std::collections::BTreeMap;

use crate::{
    access::{AccessRequest, Asker, Operations, Ruling, decide},
    draft::Draft,
    error::Error,
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

/// Decides every operation on a key for everyone of these, in the key's region and without a context or an alias.
#[derive(Debug, Clone)]
pub struct ExplainAccess {
    /// The key, whosever it is.
    pub key_id: KeyId,
    /// Whom to decide for.
    pub identities: Vec<Identity>,
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
        let stored = scope.directory().key(self.key_id).await?;
        let stored = stored.filter(|stored| stored.value.exists_at(scope.now)).ok_or(Error::KeyNotFound)?;
        draft.key(self.key_id, None);
        let key = &*stored.value;
        let grants = scope.directory().grants_of(key.id).await?;
        let users = self.identities.iter().map(|identity| {
            let mut access = UserAccess {
                account: identity.account.clone(),
                user: identity.user.clone(),
                allowed: BTreeMap::new(),
                denied: BTreeMap::new(),
            };
            for operation in Operations::OF_USERS.iter().filter(|name| states::row(*name).is_some()) {
                let (list, by) = match ruling(identity, key, operation, &grants) {
                    Ruling::AllowedByPolicy(statement) => (&mut access.allowed, statement.to_string()),
                    Ruling::AllowedByGrant(grant) => (&mut access.allowed, format!("grant {grant}")),
                    Ruling::Denied(statement) => (&mut access.denied, statement.to_string()),
                    Ruling::NotAllowed { .. } => continue,
                };
                list.entry(by).or_default().push(operation);
            }
            access
        });
        let users = users.collect();
        Ok(Prepared::Answer(ExplainedAccess { key: key.clone(), users }))
    }
}

fn ruling(
    identity: &Identity,
    key: &KeyRecord,
    operation: OperationName,
    grants: &[crate::grant::Grant],
) -> Ruling {
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
