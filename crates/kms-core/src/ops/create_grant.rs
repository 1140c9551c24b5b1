//! CreateGrant: lets a user or an account use a key.

use crate::{
    directory::{TokenUse, digest, token_path},
    draft::Draft,
    error::{Counted, Denial, Error, Quota},
    grant::{Grant, GrantId, GrantName, GrantOperation, GrantOperations, MAX_GRANTS_HELD, Principal},
    identity::UserId,
    key::{KeyId, KeyRecord},
    operation::{Action, OperationName},
    ops::{
        IdempotencyToken, KeySelector, Operation, Plan, Planned, Prepared,
        create_key::{digest_of, remember},
        granting::{Count, GrantChange, grant, grant_path, put_grant},
    },
    ports::{Condition, Transaction},
    service::Scope,
};

/// Makes a grant of a custom key that is enabled.
#[derive(Debug, Clone)]
pub struct CreateGrant {
    /// The key.
    pub key: KeySelector,
    /// Whom the grant is for.
    pub grantee: Principal,
    /// What it allows.
    pub operations: GrantOperations,
    /// Its name.
    pub name: GrantName,
    /// Who may give it up besides.
    pub retiring_principal: Option<UserId>,
    /// Makes a retry safe.
    pub idempotency_token: Option<IdempotencyToken>,
}

impl Operation for CreateGrant {
    const NAME: OperationName = OperationName::CreateGrant;
    type Output = Grant;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Grant>, Error> {
        let stored = scope.stored(&self.key, draft).await?;
        let key = &*stored.value;
        if let Some(first) = self.earlier_result(scope, key.id).await? {
            draft.existed();
            return Ok(Prepared::Answer(first));
        }
        // DEW: §5, default keys cannot be granted.
        if key.is_default() {
            return Err(Error::DefaultKeyImmutable);
        }
        key.check(Self::NAME, scope.now)?;
        let directory = scope.directory();
        let of_key = Count::of_key(directory, key.id).await?;
        let held = Count::held(directory, &self.grantee, &scope.caller().account).await?;
        if draft.is_admitted() {
            self.check_passed_on(scope, key).await?;
        }
        check_quota(Counted::GrantsOfKey, &of_key, scope.service.quotas_of(&key.account).grants_per_key)?;
        check_quota(Counted::GrantsToGrantee, &held, MAX_GRANTS_HELD)?;
        let new = self.grant(scope, key)?;
        let GrantChange { mut conditions, mutations } = put_grant(directory, &new, (of_key, held))?;
        // The key is still enabled, and nobody destroys it.
        conditions.push(Condition::Revision(crate::directory::key_path(key.id), stored.revision));
        let put = directory.put(grant_path(new.key_id, new.id), &new)?;
        let mut transaction = Transaction { conditions, mutations };
        if let Some(token) = &self.idempotency_token {
            remember(directory, token.used_for(scope.caller(), self.digest(), key.id), &mut transaction)?;
        }
        let state_digest = digest(&put);
        Ok(Prepared::Change(Planned::Ready(Plan { transaction, output: new, state_digest, evict: None })))
    }
}

impl CreateGrant {
    fn grant(&self, scope: &Scope<'_>, key: &KeyRecord) -> Result<Grant, Error> {
        let region = key.region().ok_or(Error::Internal { detail: "a custom key has a region" })?;
        let caller = scope.caller();
        Ok(Grant {
            id: self.id(scope, key.id),
            key_id: key.id,
            region: region.clone(),
            issuing_account: caller.account.clone(),
            issuer: caller.user.clone(),
            grantee: self.grantee.clone(),
            operations: self.operations.clone(),
            name: self.name.clone(),
            retiring_principal: self.retiring_principal.clone(),
            created: scope.now,
        })
    }

    /// Whoever grants because of a grant passes on no more than what was granted to him. Several grants add up.
    // DEW: §5, a grantee that holds create-grant
    async fn check_passed_on(&self, scope: &Scope<'_>, key: &KeyRecord) -> Result<(), Error> {
        let held = scope.grants_to_caller(key).await?;
        let holds = |operation| held.iter().any(|grant| grant.operations.allow(operation));
        if holds(GrantOperation::CreateGrant) && self.operations.iter().all(holds) {
            Ok(())
        } else {
            Err(Error::PermissionDenied { missing: Action::GrantCreate, denial: Denial::GrantExceeded })
        }
    }

    /// The same in every attempt of one call, and in every call with one idempotency token.
    fn id(&self, scope: &Scope<'_>, key: KeyId) -> GrantId {
        match &self.idempotency_token {
            Some(token) => GrantId::derive(key, &token_path(scope.caller(), token.as_str())),
            None => GrantId::derive(key, scope.call.request_id.as_bytes()),
        }
    }

    /// What an earlier request with the same idempotency token made.
    async fn earlier_result(&self, scope: &Scope<'_>, key: KeyId) -> Result<Option<Grant>, Error> {
        let Some(token) = &self.idempotency_token else { return Ok(None) };
        let used = scope.directory().token_use(scope.caller(), token.as_str()).await?;
        let Some(used) = used else { return Ok(None) };
        if used != (TokenUse { request_digest: self.digest(), key_id: key }) {
            return Err(Error::IdempotencyTokenReused);
        }
        let made = grant(scope.directory(), key, self.id(scope, key)).await?;
        made.map(|stored| Some(stored.value)).ok_or(Error::GrantNotFound)
    }

    /// Tells requests with the same token apart.
    fn digest(&self) -> [u8; 32] {
        let (kind, grantee) = match &self.grantee {
            Principal::User(user) => ("user", user.as_str()),
            Principal::Account(account) => ("domain", account.as_str()),
        };
        let retiring = self.retiring_principal.as_ref().map_or("", UserId::as_str);
        let mut parts = vec!["grant", kind, grantee, self.name.as_str(), retiring];
        for operation in self.operations.iter() {
            parts.push(operation.name());
        }
        digest_of(parts)
    }
}

fn check_quota(what: Counted, count: &Count, limit: u64) -> Result<(), Error> {
    if count.used < limit {
        return Ok(());
    }
    Err(Error::QuotaExceeded(Quota { what, limit, used: count.used }))
}
