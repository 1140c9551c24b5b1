//! What a seeded key gets besides itself: further aliases and grants.

use std::collections::BTreeSet;

use kms_core::{
    Error, Service,
    grant::{GrantName, GrantOperation, GrantOperations, Principal},
    identity::{Caller, UserId},
    key::{KeyId, KeyRecord},
    ops::{CreateAlias, CreateGrant, FurtherAlias, IdempotencyToken},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use toml::Spanned;

use super::{Problem, run, said};
use crate::dev::deployment::Deployment;

/// A grant that is to be made once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeedGrant {
    /// Whom it is for.
    grantee: Grantee,
    /// As in DEW.
    operations: Vec<String>,
    /// Its name: the grants of a key are told apart by it.
    name: String,
    /// A user who may give it up besides.
    retiring_principal: Option<String>,
}

/// Whom a grant is for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Grantee {
    /// A user: `account/name` of this deployment, or the id of any user.
    User(String),
    /// An account: its name in this deployment, or the `domain_id` of any account.
    Account(String),
}

/// What is to be added to a key, read and not made yet, with its places in the file.
pub(super) struct Additions {
    aliases: Vec<(usize, FurtherAlias)>,
    grants: Vec<(usize, CreateGrant)>,
}

impl Additions {
    /// Reads them, for a key with this id.
    pub(super) fn read(
        key: KeyId,
        aliases: &[Spanned<String>],
        grants: &[Spanned<SeedGrant>],
        deployment: &Deployment,
    ) -> Result<Self, Problem> {
        let alias = |alias: &Spanned<String>| {
            let read = FurtherAlias::parse(alias.get_ref());
            let problem = |error| Problem::at(alias.span(), format!("aliases: {}: {error}", alias.get_ref()));
            read.map(|read| (alias.span().start, read)).map_err(problem)
        };
        let grant = |grant: &Spanned<SeedGrant>| {
            let read = grant.get_ref().operation(key, deployment);
            let problem =
                |problem| Problem::at(grant.span(), format!("the grant {}: {problem}", grant.get_ref().name));
            read.map(|read| (grant.span().start, read)).map_err(problem)
        };
        let aliases = aliases.iter().map(alias).collect::<Result<Vec<_>, _>>()?;
        let grants = grants.iter().map(grant).collect::<Result<Vec<_>, _>>()?;
        if let Some((at, alias)) = repeated(&aliases, |alias| alias.as_str()) {
            return Err(Problem::at(at..at, format!("aliases: {alias}: is given twice")));
        }
        if let Some((at, name)) = repeated(&grants, |grant| grant.name.as_str()) {
            return Err(Problem::at(at..at, format!("the grant {name}: its name is given twice")));
        }
        Ok(Self { aliases, grants })
    }

    /// Makes what the key does not have. `key` is what was found, for a key that this start has not made: tests may
    /// have made something else of that one, and it stays so.
    pub(super) async fn make(
        self,
        service: &Service,
        caller: &Caller,
        id: KeyId,
        key: Option<&KeyRecord>,
    ) -> Result<(), Problem> {
        for (at, alias) in self.aliases {
            if key.is_some_and(|key| key.is_named(alias.as_str())) {
                continue;
            }
            let problem = |error: &Error| format!("aliases: {}: {}", alias.as_str(), said(error));
            match run(service, caller, CreateAlias { key: id.into(), alias: alias.clone() }).await {
                Ok(_) => {}
                Err(error) if key.is_some() => {
                    tracing::warn!(key_id = %id, problem = problem(&error), "a seeded key stays without an alias");
                }
                Err(error) => return Err(Problem::at(at..at, problem(&error))),
            }
        }
        for (at, grant) in self.grants {
            let name = grant.name.as_str().to_owned();
            let problem = match run(service, caller, grant).await {
                // Made by an earlier start; given up or taken away since, it stays away.
                Ok(_) | Err(Error::GrantNotFound) => continue,
                Err(Error::IdempotencyTokenReused) => {
                    "was made otherwise by an earlier start, and no grant can be \
                    changed: give this one another name, and revoke the earlier one"
                        .to_owned()
                }
                Err(error) => said(&error),
            };
            return Err(Problem::at(at..at, format!("the grant {name}: {problem}")));
        }
        Ok(())
    }
}

/// The first entry whose name an earlier one has, with its place.
fn repeated<T>(entries: &[(usize, T)], name: impl Fn(&T) -> &str) -> Option<(usize, &str)> {
    let mut names = BTreeSet::new();
    let mut named = entries.iter().map(|(at, entry)| (*at, name(entry)));
    named.find(|(_, name)| !names.insert(*name))
}

impl SeedGrant {
    fn operation(&self, key: KeyId, deployment: &Deployment) -> Result<CreateGrant, String> {
        let told = |error: Error| error.to_string();
        let retiring = self.retiring_principal.as_deref();
        let retiring = retiring.map(|user| user_named(user, deployment)).transpose();
        let operations = self.operations.iter().map(|name| {
            let known = GrantOperation::ALL.iter().copied().find(|operation| operation.name() == name);
            known.ok_or_else(|| format!("operations: {name} is nothing that a grant can allow"))
        });
        let operations = operations.collect::<Result<Vec<_>, _>>()?;
        if self.name.is_empty() {
            return Err("name: must not be empty here: it tells the grants of a key apart".to_owned());
        }
        Ok(CreateGrant {
            key: key.into(),
            grantee: self.grantee.principal(deployment).map_err(|problem| format!("grantee: {problem}"))?,
            operations: GrantOperations::parse(operations).map_err(told)?,
            name: GrantName::parse(&self.name).map_err(told)?,
            retiring_principal: retiring.map_err(|problem| format!("retiring_principal: {problem}"))?,
            idempotency_token: Some(self.token(key).map_err(told)?),
        })
    }

    /// The same at every start, so that the grant is made once.
    fn token(&self, key: KeyId) -> Result<IdempotencyToken, Error> {
        let hash = Sha256::new_with_prefix(b"dewpoint/dev/seed").chain_update(key.as_bytes());
        let hash = hash.chain_update(&self.name).finalize();
        IdempotencyToken::parse(&format!("seed-{}", hex::encode(&hash[..16])))
    }
}

impl Grantee {
    fn principal(&self, deployment: &Deployment) -> Result<Principal, String> {
        match self {
            Self::User(user) => user_named(user, deployment).map(Principal::User),
            Self::Account(account) => {
                let known = deployment.account(account).map_or(&**account, |account| &account.domain_id);
                Principal::account(known).map_err(|error| error.to_string())
            }
        }
    }
}

/// The id of the user that is called `account/name`, or has this id.
fn user_named(text: &str, deployment: &Deployment) -> Result<UserId, String> {
    let id = match text.split_once('/') {
        None => text,
        Some((account, name)) => {
            let account = deployment.account(account);
            let user = account.and_then(|account| account.users.iter().find(|user| user.name == name));
            user.map(|user| &*user.user_id).ok_or_else(|| format!("there is no user {text}"))?
        }
    };
    UserId::parse(id).ok_or_else(|| format!("{text} is no id of a user"))
}
