//! ListRetirableGrants: the grants in the region that the caller may give up, by pages.

use std::collections::HashSet;

use crate::{
    directory::{Directory, tampered},
    draft::Draft,
    error::Error,
    grant::{Grant, GrantId, Principal},
    key::KeyId,
    operation::OperationName,
    ops::{
        GrantPage, Operation, PageSize, PageToken, Prepared,
        granting::{grant_path, retirable_prefix},
        page::PagePlace,
    },
    ports::StoreKey,
    service::Scope,
};

/// Reads the grants that the caller may give up: its own first, then those of its whole account.
#[derive(Debug, Clone)]
pub struct ListRetirableGrants {
    /// The most grants of the page.
    pub size: PageSize,
    /// Where to begin.
    pub token: Option<PageToken>,
}

/// A grant by its key and its id.
type Named = (KeyId, GrantId);

impl Operation for ListRetirableGrants {
    const NAME: OperationName = OperationName::ListRetirableGrants;
    type Output = GrantPage;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<GrantPage>, Error> {
        let caller = scope.caller();
        let own = Principal::User(caller.user.clone());
        let of_account = Principal::Account(caller.account.clone());
        let token = self.token.as_ref();
        let PagePlace { mut in_second, mut after } = PagePlace::of(token, scope, &caller.user)?;
        let (mut grants, mut room, mut next) = (Vec::new(), self.size.get(), None);
        if !in_second {
            let (named, last) = read(scope, &own, &after, room).await?;
            room = room.saturating_sub(named.len());
            grants = living(scope, &named).await?;
            next = last;
            if next.is_none() {
                (in_second, after) = (true, Vec::new());
            }
        }
        if in_second {
            let (named, last) = read(scope, &of_account, &after, room).await?;
            let more = living(scope, &named).await?;
            // One that it may give up by itself, too, was listed before.
            grants.extend(more.into_iter().filter(|grant| !grant.retirers().contains(&own)));
            next = last;
        }
        let next = next.map(|after| PageToken::seal(scope, &caller.user, &PagePlace { in_second, after }));
        let next = next.transpose()?;
        Ok(Prepared::Answer(GrantPage { grants, next }))
    }
}

/// The next entries of one list, and where to go on if more follow.
async fn read(
    scope: &Scope<'_>,
    retirer: &Principal,
    after: &[u8],
    room: usize,
) -> Result<(Vec<Named>, Option<Vec<u8>>), Error> {
    let prefix = retirable_prefix(retirer, &scope.caller().region);
    let from = (!after.is_empty()).then(|| [&prefix[..], after].concat());
    let entries = scope.directory().index(&prefix, from.as_deref(), room.saturating_add(1)).await?;
    let page = &entries[..entries.len().min(room)];
    let more = entries.len() > page.len();
    let last = page.last().map_or_else(|| after.to_vec(), |(path, _)| path[prefix.len()..].to_vec());
    let named = page.iter().map(|(path, _)| named(&path[prefix.len()..]));
    Ok((named.collect::<Result<_, _>>()?, more.then_some(last)))
}

fn named(suffix: &[u8]) -> Result<Named, Error> {
    let parse = || {
        let (key, id) = suffix.split_at_checked(16)?;
        let key = KeyId::from_uuid(uuid::Uuid::from_slice(key).ok()?);
        let id = std::str::from_utf8(id.strip_prefix(b"/")?).ok()?;
        Some((key, GrantId::parse(id).ok()?))
    };
    parse().ok_or_else(|| tampered("a list entry is no grant"))
}

/// Those of these grants that exist and are the caller's to give up: an entry only leads to a grant.
async fn living(scope: &Scope<'_>, named: &[Named]) -> Result<Vec<Grant>, Error> {
    let directory: &Directory = scope.directory();
    let mut keys: Vec<KeyId> = named.iter().map(|(key, _)| *key).collect();
    keys.dedup();
    let keys = directory.keys(&keys).await?.into_iter();
    let keys: HashSet<KeyId> = keys.filter(|key| key.exists_at(scope.now)).map(|key| key.id).collect();
    let paths: Vec<StoreKey> = named.iter().map(|(key, id)| grant_path(*key, *id)).collect();
    let values = directory.store().get_many(&paths).await.map_err(Error::StoreUnavailable)?;
    let found = paths.iter().zip(values).filter_map(|(path, value)| Some((path, value?)));
    let grants = found.map(|(path, versioned)| directory.open::<Grant>(path, &versioned.value));
    let mut grants: Vec<Grant> = grants.collect::<Result<_, _>>()?;
    grants.retain(|grant| keys.contains(&grant.key_id) && grant.is_retirable_by(scope.caller()));
    Ok(grants)
}
