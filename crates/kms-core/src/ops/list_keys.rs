//! ListKeys: the keys of the account in the region, by pages.

use crate::{
    directory::{default_prefix, index_prefix},
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord, KeySpec, KeyState},
    operation::OperationName,
    ops::{ListWindow, Operation, PageSize, PageToken, Prepared, forget_roots::give_way, page::PagePlace},
    ports::StoreKey,
    service::Scope,
};

/// How many keys are read at once for a list by positions.
const BATCH: usize = 256;

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
        let keys = shown(scope, &ids, filter).await?;
        Ok(Prepared::Answer(KeyPage { keys, next: next.transpose()? }))
    }
}

/// The same list by positions, with how many keys it has in all. DEW: list-keys, whose markers are numbers.
///
/// Reads every key of the list whatever part it shows: for accounts of DEW's size.
#[derive(Debug, Clone)]
pub struct ListKeysInWindow {
    /// Which part.
    pub window: ListWindow,
    /// Only keys in this state.
    pub state: Option<KeyState>,
    /// Only keys of this kind.
    pub spec: Option<KeySpec>,
}

/// A part of the list, and the size of all of it.
#[derive(Debug)]
pub struct KeyWindow {
    /// The keys in it.
    pub keys: Vec<KeyRecord>,
    /// How many keys the list has.
    pub total: usize,
}

impl Operation for ListKeysInWindow {
    const NAME: OperationName = OperationName::ListKeys;
    type Output = KeyWindow;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<KeyWindow>, Error> {
        let (mut keys, mut total) = (Vec::new(), 0);
        for list in [List::Default, List::Custom] {
            let mut from = Some(Vec::new());
            while let Some(after) = from {
                let mut ids = Vec::new();
                from = read(scope, list, &after, BATCH, &mut ids).await?;
                for key in shown(scope, &ids, (self.state, self.spec)).await? {
                    if self.window.holds(total) {
                        keys.push(key);
                    }
                    total += 1;
                }
                give_way().await;
            }
        }
        Ok(Prepared::Answer(KeyWindow { keys, total }))
    }
}

/// Those of these keys that the caller may see, and that the filter lets through.
async fn shown(
    scope: &Scope<'_>,
    ids: &[KeyId],
    (state, spec): (Option<KeyState>, Option<KeySpec>),
) -> Result<Vec<KeyRecord>, Error> {
    let mut keys = scope.directory().keys(ids).await?;
    keys.retain(|key| {
        key.exists_for(scope.caller(), scope.now)
            && scope.may(OperationName::DescribeKey, key)
            && state.is_none_or(|state| state == key.state)
            && spec.is_none_or(|spec| spec == key.spec)
    });
    for key in &mut keys {
        scope.directory().show_rotation(key).await?;
    }
    Ok(keys)
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
