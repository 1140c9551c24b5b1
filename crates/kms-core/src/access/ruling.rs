//! Policies and grants together: who may use which key.

use super::{AccessRequest, Operations, Policies, StatementName};
use crate::{
    grant::{Grant, GrantId, Principal},
    identity::{AccountId, OPERATOR_ACCOUNT, UserId},
    key::{KEY_ID_CHARACTERS, KeyId},
    operation::OperationName,
};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The user's account.
    pub account: &'a AccountId,
    /// The user.
    pub user: &'a UserId,
    /// The user's own policies.
    pub policies: &'a Policies,
}

/// What came out, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// A statement of the caller's policies allows it.
    AllowedByPolicy(StatementName),
    /// A grant of the key allows it.
    AllowedByGrant(GrantId),
    /// A statement of the caller's policies denies it.
    Denied(StatementName),
    /// Nothing allows it.
    NotAllowed {
        /// How many statements of the caller's policies speak of the operation, but not of this key or request.
        statements: usize,
        /// How many grants of the key the caller has, for other operations.
        grants: usize,
    },
}

impl Ruling {
    /// Whether it is allowed.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::AllowedByPolicy(_) | Self::AllowedByGrant(_))
    }
}

/// Decides whether `asker` may do this. `grants` are those of the key; others in it allow nothing.
///
/// In this order: what the caller's policies deny is denied. In the caller's own account its policies allow. A grant
/// allows on a custom key, of whichever account. Everything else is not allowed: the policies of the key's account
/// say nothing about users of other accounts, and those of a user nothing about other accounts' keys.
// DEW: §5, grants and cross-account use; default keys are never granted.
pub fn decide<'g>(
    asker: &Asker<'_>,
    request: &AccessRequest<'_>,
    grants: impl IntoIterator<Item = &'g Grant>,
) -> Ruling {
    let mut buffer = [0; KEY_ID_CHARACTERS];
    let subject = asker.policies.subject(request, &mut buffer);
    if let Some(statement) = asker.policies.denial(&subject) {
        return Ruling::Denied(statement);
    }
    let own = request.account == asker.account;
    if own && let Some(statement) = asker.policies.allowance(&subject) {
        return Ruling::AllowedByPolicy(statement);
    }
    let mut held = 0;
    if let Some(key) = grantable(request) {
        for grant in grants.into_iter().filter(|grant| grant.is_held_by(asker, request, key)) {
            if grant.allows(request.operation) {
                return Ruling::AllowedByGrant(grant.id);
            }
            held += 1;
        }
    }
    Ruling::NotAllowed { statements: asker.policies.considered(request.operation), grants: held }
}

/// The key, if it is one that grants can be of.
fn grantable(request: &AccessRequest<'_>) -> Option<KeyId> {
    request.key.filter(|key| !key.is_default).and_then(|key| key.id)
}

/// Whether `asker` may be allowed the operation on some key, by its policies or by a grant.
pub fn could_allow(policies: &Policies, operation: OperationName) -> bool {
    let by_grant = Operations::OF_GRANTS.contains(operation) && !policies.always_deny(operation);
    by_grant || policies.could_allow(operation)
}

impl Grant {
    fn is_held_by(&self, asker: &Asker<'_>, request: &AccessRequest<'_>, key: KeyId) -> bool {
        let grantee = match &self.grantee {
            // An operator may be named as a user is, and may do nothing with keys.
            Principal::User(user) => user == asker.user && asker.account.as_str() != OPERATOR_ACCOUNT,
            Principal::Account(account) => account == asker.account,
        };
        grantee && self.key_id == key && self.region == *request.region
    }

    fn allows(&self, operation: OperationName) -> bool {
        self.operations.iter().any(|granted| granted.operations().contains(&operation))
    }
}
