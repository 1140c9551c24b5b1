//! ListKeys: the keys of the account in the region, by pages.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    directory::{default_prefix, index_prefix},
    draft::Draft,
    error::{Error, Field},
    key::{KeyId, KeyRecord, KeySpec, KeyState},
    operation::OperationName,
    ops::{Operation, Prepared},
    ports::StoreKey,
    service::Scope,
};

/// The most entries of a page.
const MAX_PAGE: usize = 1000;
const DEFAULT_PAGE: usize = 100;

/// How many keys a page may hold: 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(usize);

impl PageSize {
    /// Takes 1 to 1000; 0 stands for 100.
    pub fn parse(size: u32) -> Result<Self, Error> {
        match usize::try_from(size) {
            Ok(0) => Ok(Self(DEFAULT_PAGE)),
            Ok(size) if size <= MAX_PAGE => Ok(Self(size)),
            _ => Err(Error::invalid(Field::PageSize, "must be at most 1000")),
        }
    }

    /// As a number.
    pub fn get(self) -> usize {
        self.0
    }
}

/// Where the page before ended. What it says is confined to the caller's own lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    list: List,
    after: Vec<u8>,
}

/// The two lists that make up the answer, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Default,
    Custom,
}

impl PageToken {
    /// Reads what [`encode`](Self::encode) wrote; `None` for the empty text.
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let malformed =
            || Error::invalid(Field::PageToken, "must be empty or the next_page_token of a page before");
        let bytes = if text.len() <= 128 { URL_SAFE_NO_PAD.decode(text).ok() } else { None };
        let bytes = bytes.ok_or_else(malformed)?;
        let (list, after) = match bytes.split_first() {
            Some((0, after)) => (List::Default, after),
            Some((1, after)) => (List::Custom, after),
            _ => return Err(malformed()),
        };
        Ok(Some(Self { list, after: after.to_vec() }))
    }

    /// Behind the entry `after` of an answer's one list, or of the second of two.
    pub(crate) fn at(second: bool, after: &[u8]) -> Self {
        Self { list: if second { List::Custom } else { List::Default }, after: after.to_vec() }
    }

    /// Whether it is in the second list, and the entry that it is behind.
    pub(crate) fn place(&self) -> (bool, &[u8]) {
        (self.list == List::Custom, &self.after)
    }

    /// As text, opaque to the caller.
    pub fn encode(&self) -> String {
        let list = match self.list {
            List::Default => 0,
            List::Custom => 1,
        };
        URL_SAFE_NO_PAD.encode([&[list], &self.after[..]].concat())
    }
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
        let mut ids = Vec::new();
        let (mut list, mut after) = match &self.token {
            Some(token) => (token.list, token.after.clone()),
            None => (List::Default, Vec::new()),
        };
        let mut next = None;
        if list == List::Default {
            next = read(scope, list, &after, self.size.0, &mut ids).await?;
            if next.is_none() {
                (list, after) = (List::Custom, Vec::new());
            }
        }
        if list == List::Custom {
            next = read(scope, list, &after, self.size.0 - ids.len(), &mut ids).await?;
        }
        let mut keys = scope.directory().keys(&ids).await?;
        keys.retain(|key| {
            key.exists_for(scope.caller(), scope.now)
                && scope.may(OperationName::DescribeKey, key)
                && self.state.is_none_or(|state| state == key.state)
                && self.spec.is_none_or(|spec| spec == key.spec)
        });
        Ok(Prepared::Answer(KeyPage { keys, next }))
    }
}

/// Adds the next ids of one list; answers where to go on if more follow.
async fn read(
    scope: &Scope<'_>,
    list: List,
    after: &[u8],
    limit: usize,
    ids: &mut Vec<KeyId>,
) -> Result<Option<PageToken>, Error> {
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
    Ok(more.then_some(PageToken { list, after: last }))
}

fn listed_id(suffix: &[u8]) -> Result<KeyId, Error> {
    let id = uuid::Uuid::from_slice(suffix)
        .map_err(|_| crate::directory::tampered("a list entry is no key id"))?;
    Ok(KeyId::from_uuid(id))
}
