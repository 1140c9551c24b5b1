//! ReplicateKey: a key of another region that shares a key's material.

use std::collections::BTreeMap;

use crate::{
    access::KeyFacts,
    directory::{PutKey, TokenUse, absent, key_path},
    draft::Draft,
    error::{Counted, Error, Field, Quota},
    identity::{Caller, ProjectId, Region},
    key::{KeyId, KeyOrigin, KeyRecord, KeyScope, Replica, Replication},
    operation::OperationName,
    ops::{
        Alias, Description, IdempotencyToken, KeySelector, Operation, Plan, Planned, Prepared, Tags,
        create_key::{digest_of, fresh_id, remember},
        manage::{KeyChange, custom_key, plan},
        siblings::Siblings,
    },
    ports::StoreKey,
    record::MadeKey,
    service::Scope,
};

/// How many keys may share one material: a change of all of them is one transaction.
pub(crate) const MAX_MEMBERS: usize = 16;

/// Makes a key of another region that opens what the primary seals, and the other way round.
#[derive(Debug, Clone)]
pub struct ReplicateKey {
    /// The primary, in the caller's region.
    pub key: KeySelector,
    /// Where the replica is to be valid.
    pub region: Region,
    /// The project of that region that it is to belong to; `None`: the account's first one there.
    pub project: Option<ProjectId>,
    /// Its name; unique in the account and that region.
    pub alias: Alias,
    /// Free text.
    pub description: Description,
    /// Its tags.
    pub tags: Tags,
    /// Makes a retry safe.
    pub idempotency_token: Option<IdempotencyToken>,
}

impl Operation for ReplicateKey {
    const NAME: OperationName = OperationName::ReplicateKey;
    /// The replica.
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let there = self.destination(scope.caller())?;
        let named_before = draft.replica_id();
        let (mut primary, mut change) = custom_key(&self.key, scope, draft).await?;
        let digest = self.digest(primary.id);
        if let Some(first) = self.earlier_result(digest, scope, &there, draft).await? {
            return Ok(Prepared::Answer(first));
        }
        primary.check(Self::NAME, scope.now)?;
        primary.check_replicable(&there.region)?;
        let new = KeyFacts { id: None, ..(&primary).into() };
        for making in [Self::NAME, OperationName::CreateKey] {
            let alias = Some(self.alias.as_str());
            scope.refuse_if_making_is_denied(making, new, &there.region, alias, draft)?;
        }
        scope.refuse_if_naming_is_denied(new, &there.region, &self.alias, &self.tags, draft)?;
        let siblings = Siblings::of(scope.directory(), &primary, &mut change).await?;
        if scope.directory().alias(&there, self.alias.as_str()).await?.is_some() {
            return Err(Error::AliasExists);
        }
        if let Err(refused) = scope.reserve_key(&there.region, &self.tags, draft).await {
            // It may have waited for the very request that it repeats, which took the last place.
            let first = self.earlier_result(digest, scope, &there, draft).await?;
            return first.map(Prepared::Answer).ok_or(refused);
        }
        let id = match named_before {
            Some(id) => id,
            None => fresh_id(scope).await?,
        };
        let kind = MadeKey { spec: primary.spec, origin: primary.origin };
        draft.makes_replica(id, kind, primary.id);
        let shared = primary.shared_with(Replica { key_id: id, region: there.region.clone() });
        siblings.change(scope.directory(), &mut change, |other| other.replication = Some(shared.clone()))?;
        primary.replication = Some(shared);
        let replica = self.replica(&primary, id, there, scope);
        let token = self.idempotency_token.as_ref();
        let token = token.map(|token| token.used_for(scope.caller(), digest, id));
        commit(scope, change, &primary, replica, token)
    }
}

impl ReplicateKey {
    /// The caller in the project that the replica is to belong to.
    fn destination(&self, caller: &Caller) -> Result<Caller, Error> {
        let there = caller.in_region(&self.region).ok_or(Error::invalid(
            Field::ReplicaRegion,
            "must be a region that the account has a project in: ListSupportedRegions names them",
        ))?;
        let Some(project) = &self.project else { return Ok(there) };
        let there = caller.in_project(project).filter(|there| there.region == self.region);
        there.ok_or(Error::invalid(Field::ReplicaProject, "must be a project of the account in that region"))
    }

    /// What an earlier request with the same idempotency token made.
    async fn earlier_result(
        &self,
        digest: [u8; 32],
        scope: &Scope<'_>,
        there: &Caller,
        draft: &mut Draft,
    ) -> Result<Option<KeyRecord>, Error> {
        let made = scope.made_earlier(self.idempotency_token.as_ref(), digest).await?;
        let Some(id) = made else { return Ok(None) };
        let replica = scope.directory().key(id).await?.map(|stored| stored.value);
        let replica = replica.filter(|replica| replica.exists_for(there, scope.now));
        let replica = replica.ok_or(Error::KeyNotFound)?;
        draft.key(id, None);
        draft.existed();
        Ok(Some(KeyRecord::clone(&replica)))
    }

    fn replica(&self, primary: &KeyRecord, id: KeyId, there: Caller, scope: &Scope<'_>) -> KeyRecord {
        KeyRecord {
            id,
            scope: KeyScope::Custom { project: there.project, region: there.region },
            alias: self.alias.as_str().to_owned(),
            aliases: BTreeMap::new(),
            description: self.description.as_str().to_owned(),
            tags: self.tags.pairs().clone(),
            created: scope.now,
            deletion_due: None,
            rotation: None,
            ..primary.clone()
        }
    }

    /// Tells requests with the same token apart.
    fn digest(&self, primary: KeyId) -> [u8; 32] {
        let key = primary.to_string();
        let project = self.project.as_ref().map_or("", ProjectId::as_str);
        let fixed = [
            "replica",
            key.as_str(),
            self.region.as_str(),
            project,
            self.alias.as_str(),
            self.description.as_str(),
        ];
        let tags = self.tags.pairs().iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
        digest_of(fixed.into_iter().chain(tags))
    }
}

impl KeyRecord {
    /// Refuses what cannot have a replica in this region.
    // DEW: KMS.0106 for replicas; imported material and keys of keystores stay where they are (docs/dew-compat.md).
    fn check_replicable(&self, region: &Region) -> Result<(), Error> {
        if self.is_replica() {
            return Err(Error::ReplicaReadOnly);
        }
        if self.origin != KeyOrigin::Kms {
            return Err(Error::ExternalKeyUnsupported);
        }
        if self.keystore.is_some() {
            return Err(Error::KeystoreUnsupported);
        }
        if self.region() == Some(region) {
            return Err(Error::invalid(Field::ReplicaRegion, "must be another region than the key's own"));
        }
        let members = self.replication.as_ref().map_or(&[][..], |shared| &shared.members);
        if members.iter().any(|member| member.region == *region) {
            return Err(Error::ReplicaExists);
        }
        if members.len() < MAX_MEMBERS {
            return Ok(());
        }
        let limit = u64::try_from(MAX_MEMBERS).unwrap_or(u64::MAX);
        Err(Error::QuotaExceeded(Quota { what: Counted::RegionsOfKey, limit, used: limit }))
    }

    /// Who shares the material of this primary when `replica` does, too.
    fn shared_with(&self, replica: Replica) -> Replication {
        let own = || {
            let region = self.region().cloned().map(|region| Replica { key_id: self.id, region });
            Replication { primary: self.id, members: region.into_iter().collect() }
        };
        let mut shared = self.replication.clone().unwrap_or_else(own);
        shared.members.push(replica);
        shared
    }
}

fn commit(
    scope: &Scope<'_>,
    change: KeyChange,
    primary: &KeyRecord,
    replica: KeyRecord,
    token: Option<(StoreKey, TokenUse)>,
) -> Result<Prepared<KeyRecord>, Error> {
    let directory = scope.directory();
    let Plan { mut transaction, .. } = plan(directory, change, primary, ())?;
    let PutKey { conditions, mutations, digest } = directory.put_key(None, &replica)?;
    transaction.conditions.extend(conditions);
    transaction.conditions.push(absent(key_path(replica.id)));
    transaction.mutations.extend(mutations);
    if let Some(token) = token {
        remember(directory, token, &mut transaction)?;
    }
    let plan = Plan { transaction, output: replica, state_digest: digest, evict: None };
    Ok(Prepared::Change(Planned::Ready(plan)))
}
