//! What the operations on grants share: where grants and their entries lie, how they are put and removed.
//!
//! All grants of a key are counted in one value. Whatever makes or removes one of them names the revision of that
//! count, so two changes of the same key's grants never pass each other by.

use std::collections::BTreeMap;

use crate::{
    directory::{Directory, Stored, grant_count_path, grants_prefix},
    error::Error,
    grant::{Grant, GrantId, Principal},
    identity::{AccountId, Caller, Region},
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ports::{Condition, Mutation, Revision, StoreKey},
    service::Scope,
};

/// What a change of grants needs and does.
#[derive(Default)]
pub(crate) struct GrantChange {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) mutations: Vec<Mutation>,
}

/// How many grants there are of a kind.
pub(crate) struct Count {
    path: StoreKey,
    revision: Option<Revision>,
    /// How many.
    pub(crate) used: u64,
}

impl Count {
    async fn read(directory: &Directory, path: StoreKey) -> Result<Self, Error> {
        let stored: Option<Stored<u64>> = directory.read(path.clone()).await?;
        let (revision, used) = stored.map_or((None, 0), |stored| (Some(stored.revision), stored.value));
        Ok(Self { path, revision, used })
    }

    /// Of a key.
    pub(crate) async fn of_key(directory: &Directory, id: KeyId) -> Result<Self, Error> {
        Self::read(directory, grant_count_path(id)).await
    }

    /// That a user or an account holds of those that `issuer` has made: what one account gives takes no place from
    /// another, and tells it nothing.
    pub(crate) async fn held(
        directory: &Directory,
        grantee: &Principal,
        issuer: &AccountId,
    ) -> Result<Self, Error> {
        Self::read(directory, held_path(grantee, issuer)).await
    }

    /// Makes it `now`, if nobody has changed it meanwhile.
    fn becomes(self, now: u64, directory: &Directory, change: &mut GrantChange) -> Result<(), Error> {
        change.conditions.push(match self.revision {
            Some(revision) => Condition::Revision(self.path.clone(), revision),
            None => Condition::Absent(self.path.clone()),
        });
        change.mutations.push(match now {
            0 => Mutation::Delete(self.path),
            now => directory.put(self.path, &now)?,
        });
        Ok(())
    }
}

/// Puts a new grant of which both counts were read.
pub(crate) fn put_grant(
    directory: &Directory,
    grant: &Grant,
    (of_key, held): (Count, Count),
) -> Result<GrantChange, Error> {
    let mut change = GrantChange::default();
    for count in [of_key, held] {
        let more = count.used.saturating_add(1);
        count.becomes(more, directory, &mut change)?;
    }
    let path = grant_path(grant.key_id, grant.id);
    change.conditions.push(Condition::Absent(path.clone()));
    change.mutations.push(directory.put(path, grant)?);
    change.mutations.push(directory.put(place_path(grant.id), &grant.key_id)?);
    for retirer in grant.retirers() {
        change.mutations.push(directory.put(retirable_path(&retirer, grant), &())?);
    }
    Ok(change)
}

/// Removes grants of one key, and everything that follows from them.
pub(crate) async fn remove_grants(
    directory: &Directory,
    key: KeyId,
    grants: &[Stored<Grant>],
) -> Result<GrantChange, Error> {
    let mut change = GrantChange::default();
    let mut held: BTreeMap<(&Principal, &AccountId), u64> = BTreeMap::new();
    for Stored { revision, value: grant } in grants {
        let path = grant_path(key, grant.id);
        change.conditions.push(Condition::Revision(path.clone(), *revision));
        change.mutations.extend([path, place_path(grant.id)].map(Mutation::Delete));
        let retirers = grant.retirers();
        let entries = retirers.iter().map(|retirer| retirable_path(retirer, grant));
        change.mutations.extend(entries.map(Mutation::Delete));
        let of_grantee = held.entry((&grant.grantee, &grant.issuing_account)).or_default();
        *of_grantee = of_grantee.saturating_add(1);
    }
    let mut counts = Vec::new();
    for ((grantee, issuer), removed) in held {
        counts.push((Count::held(directory, grantee, issuer).await?, removed));
    }
    counts.push((Count::of_key(directory, key).await?, u64::try_from(grants.len()).unwrap_or(u64::MAX)));
    for (count, removed) in counts {
        let left = count.used.saturating_sub(removed);
        count.becomes(left, directory, &mut change)?;
    }
    Ok(change)
}

impl Directory {
    /// Whether any grant holds for `caller`, or names it as one that may give it up: without reading any of them.
    pub(crate) async fn is_named_by_grants(
        &self,
        caller: &Caller,
        operation: OperationName,
    ) -> Result<bool, Error> {
        let principals = [Principal::User(caller.user.clone()), Principal::Account(caller.account.clone())];
        for principal in &principals {
            let prefix = match operation {
                OperationName::RetireGrant => retirable_prefix(principal, &caller.region),
                _ => held_prefix(principal),
            };
            if !self.index(&prefix, None, 1).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The grant of this key with this id.
pub(crate) async fn grant(
    directory: &Directory,
    key: KeyId,
    id: GrantId,
) -> Result<Option<Stored<Grant>>, Error> {
    directory.read(grant_path(key, id)).await
}

/// Why a key has no grant of this id: another key that exists for the caller has it, or none.
pub(crate) async fn absence(scope: &Scope<'_>, id: GrantId) -> Result<Error, Error> {
    let directory = scope.directory();
    let Some(place) = directory.read::<KeyId>(place_path(id)).await? else { return Ok(Error::GrantNotFound) };
    let other = directory.key(place.value).await?;
    let seen = |key: &KeyRecord| {
        key.exists_for(scope.caller(), scope.now) && scope.may(OperationName::DescribeKey, key)
    };
    let known = other.is_some_and(|key| seen(&key.value));
    Ok(if known { Error::GrantMismatch } else { Error::GrantNotFound })
}

pub(crate) fn grant_path(key: KeyId, id: GrantId) -> StoreKey {
    [&grants_prefix(key)[..], id.to_string().as_bytes()].concat()
}

/// Where the id of a grant leads to its key.
pub(crate) fn place_path(id: GrantId) -> StoreKey {
    format!("n/{id}").into_bytes()
}

/// All that is kept of what a user or an account has to do with grants lies under this prefix.
fn principal_prefix(principal: &Principal) -> String {
    match principal {
        Principal::User(user) => format!("p/u/{user}/"),
        Principal::Account(account) => format!("p/a/{account}/"),
    }
}

/// The counts of what `grantee` holds, of which none is zero.
fn held_prefix(grantee: &Principal) -> StoreKey {
    format!("{}h/", principal_prefix(grantee)).into_bytes()
}

fn held_path(grantee: &Principal, issuer: &AccountId) -> StoreKey {
    [&held_prefix(grantee)[..], issuer.as_str().as_bytes()].concat()
}

/// All grants of a region's keys that `retirer` may give up are listed under this prefix.
pub(crate) fn retirable_prefix(retirer: &Principal, region: &Region) -> StoreKey {
    format!("{}r/{region}/", principal_prefix(retirer)).into_bytes()
}

fn retirable_path(retirer: &Principal, grant: &Grant) -> StoreKey {
    let prefix = retirable_prefix(retirer, &grant.region);
    [&prefix[..], grant.key_id.as_bytes(), b"/", grant.id.to_string().as_bytes()].concat()
}
