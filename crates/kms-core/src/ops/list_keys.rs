//! ListKeys: the keys of the account in the region, by pages.

use crate::{
    directory::{default_prefix, index_prefix},
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord, KeySpec, KeyState},
    operation::OperationName,
    ops::{Operation, PageSize, PageToken, Prepared, page::PagePlace},
    ports::StoreKey,
    service::Scope,
};

/// The two lists that make up the answer, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Default,
    Custom,
}

/// A page of keys.
#[derive(Debug)]
pub struct KeyPage {
    /// Default keys first, then custom keys in the order of creation.
    pub keys: Vec<KeyRecord>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<PageToken>,
}

/// Reads the keys of the account in the caller's region.
#[derive(Debug, Clone)]
pub struct ListKeys {
    /// The most keys of the page.
    pub size: PageSize,
    /// Where to begin.
    pub token: Option<PageToken>,
    /// Only keys in this state.
    pub state: Option<KeyState>,
    /// Only keys of this kind.
    pub spec: Option<KeySpec>,
}

impl Operation for ListKeys {
    const NAME: OperationName = OperationName::ListKeys;
    type Output = KeyPage;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<KeyPage>, Error> {
        let (mut ids, filter) = (Vec::new(), (self.state, self.spec));
        let PagePlace { mut in_second, mut after } = PagePlace::of(self.token.as_ref(), scope, &filter)?;
        let mut next = None;
        if !in_second {
            next = read(scope, List::Default, &after, self.size.get(), &mut ids).await?;
            if next.is_none() {
                (in_second, after) = (true, Vec::new());
            }
        }
        if in_second {
            next = read(scope, List::Custom, &after, self.size.get() - ids.len(), &mut ids).await?;
        }
        let next = next.map(|after| PageToken::seal(scope, &filter, &PagePlace { in_second, after }));
        let mut keys = scope.directory().keys(&ids).await?;
        keys.retain(|key| {
            key.exists_for(scope.caller(), scope.now)
                && scope.may(OperationName::DescribeKey, key)
                && self.state.is_none_or(|state| state == key.state)
                && self.spec.is_none_or(|spec| spec == key.spec)
        });
        Ok(Prepared::Answer(KeyPage { keys, next: next.transpose()? }))
    }
}

/// Adds the next ids of one list; answers what to go on behind if more follow.
async fn read(
    scope: &Scope<'_>,
    list: List,
    after: &[u8],
    limit: usize,
    ids: &mut Vec<KeyId>,
) -> Result<Option<Vec<u8>>, Error> {
    let (caller, directory) = (scope.caller(), scope.directory());
    let prefix = match list {
        List::Default => default_prefix(&caller.account),
        List::Custom => index_prefix(&caller.account, &caller.region),
    };
    let from: StoreKey = [&prefix[..], after].concat();
    let from = (!after.is_empty()).then_some(&from[..]);
    let entries = directory.index(&prefix, from, limit + 1).await?;
    let more = entries.len() > limit;
    let mut last = after.to_vec();
    for (path, value) in entries.iter().take(limit) {
        last = path[prefix.len()..].to_vec();
        ids.push(match list {
            List::Default => directory.open(path, &value.value)?,
            List::Custom => listed_id(&last)?,
        });
    }
    Ok(more.then_some(last))
}

fn listed_id(suffix: &[u8]) -> Result<KeyId, Error> {
    let id = uuid::Uuid::from_slice(suffix)
        .map_err(|_| crate::directory::tampered("a list entry is no key id"))?;
    Ok(KeyId::from_uuid(id))
}
