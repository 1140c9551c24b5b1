//! ListProjectTags: all tags of the account's keys in the region, by pages.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    draft::Draft,
    error::Error,
    index::{TAG_PAIR_BYTES, all_tags_prefix},
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{Operation, PageSize, PageToken, Prepared, forget_roots::give_way, page::PagePlace},
    ports::{StoreKey, Versioned},
    service::Scope,
};

/// Comes after every key id.
const AFTER_ALL_IDS: [u8; 16] = [0xff; 16];

/// How many keys of a tag are looked at at once.
const KEYS_AT_ONCE: usize = 16;

/// Reads which tags keys have: pairs of a key and a value, each once, however many keys have it.
#[derive(Debug, Clone)]
pub struct ListProjectTags {
    /// The most pairs of the page.
    pub size: PageSize,
    /// Where to begin.
    pub token: Option<PageToken>,
}

/// A page of tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPage {
    /// The values that the tags of each key have.
    pub tags: BTreeMap<String, BTreeSet<String>>,
    /// Where the next page begins, perhaps with more values of a key of this one; `None` on the last one.
    pub next: Option<PageToken>,
}

impl Operation for ListProjectTags {
    const NAME: OperationName = OperationName::ListProjectTags;
    type Output = TagPage;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<TagPage>, Error> {
        let (caller, directory) = (scope.caller(), scope.directory());
        let prefix = all_tags_prefix(&caller.account, &caller.region);
        let mut page = TagPage { tags: BTreeMap::new(), next: None };
        let PagePlace { after: mut last, .. } = PagePlace::of(self.token.as_ref(), scope, &())?;
        for left in (0..=self.size.get()).rev() {
            // Past all keys with the same tag.
            let after = (!last.is_empty()).then(|| [&prefix[..], &last, &AFTER_ALL_IDS].concat());
            let entries = directory.index(&prefix, after.as_deref(), 1).await?;
            let Some((path, value)) = entries.first() else { break };
            if left == 0 {
                let place = PagePlace { in_second: false, after: last };
                page.next = Some(PageToken::seal(scope, &(), &place)?);
                break;
            }
            let (key, value): (String, String) = directory.open(path, &value.value)?;
            let pair = path.get(prefix.len()..prefix.len() + TAG_PAIR_BYTES);
            let pair = pair.ok_or_else(|| crate::directory::tampered("a tag's entry is too short"))?;
            if is_on_visible_key(scope, &[&prefix[..], pair].concat()).await? {
                page.tags.entry(key).or_default().insert(value);
            }
            last = pair.to_vec();
        }
        Ok(Prepared::Answer(page))
    }
}

/// Whether the caller may describe any of the keys that have this tag.
async fn is_on_visible_key(scope: &Scope<'_>, tag: &[u8]) -> Result<bool, Error> {
    let mut after: Option<StoreKey> = None;
    loop {
        let entries = scope.directory().index(tag, after.as_deref(), KEYS_AT_ONCE).await?;
        let Some((last, _)) = entries.last() else { return Ok(false) };
        let id = |(path, _): &(StoreKey, Versioned)| {
            uuid::Uuid::from_slice(path.get(tag.len()..)?).ok().map(KeyId::from_uuid)
        };
        let ids: Vec<KeyId> = entries.iter().filter_map(id).collect();
        let keys = scope.directory().keys(&ids).await?;
        give_way().await;
        let visible = |key: &KeyRecord| {
            key.exists_for(scope.caller(), scope.now) && scope.may(OperationName::DescribeKey, key)
        };
        if keys.iter().any(visible) {
            return Ok(true);
        }
        after = Some(last.clone());
    }
}
