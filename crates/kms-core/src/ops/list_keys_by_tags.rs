//! ListKeysByTags: the custom keys of the account in the region that have some tags.

use std::collections::BTreeSet;

use crate::{
    directory::index_prefix,
    draft::Draft,
    error::{Error, Field},
    index::{tag_key_prefix, tag_prefix},
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{
        ListWindow, Operation, Prepared, TagKey, TagValue,
        forget_roots::give_way,
        tag_search::{AnyOf, in_all},
    },
    service::Scope,
};

/// How many tags and how many values of each one search may name.
const MAX_TERMS: usize = 20;
/// How many records are read at once to look at their aliases.
const BATCH: usize = 256;

/// What a key is to have: a tag with this key, and one of these values; any value where there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFilter {
    /// The tag's key.
    pub key: TagKey,
    /// Its values.
    pub values: Vec<TagValue>,
}

impl TagFilter {
    fn admits(&self, record: &KeyRecord) -> bool {
        let value = record.tags.get(self.key.as_str());
        value.is_some_and(|value| {
            self.values.is_empty() || self.values.iter().any(|wanted| wanted.as_str() == value)
        })
    }
}

/// Finds keys by their tags.
#[derive(Debug, Clone)]
pub struct ListKeysByTags {
    filters: Vec<TagFilter>,
    alias_part: String,
    window: Option<ListWindow>,
}

impl ListKeysByTags {
    /// Keys that every one of `filters` admits, and whose first alias has `alias_part` in it. Without a window they
    /// are only counted.
    pub fn new(
        filters: Vec<TagFilter>,
        alias_part: String,
        window: Option<ListWindow>,
    ) -> Result<Self, Error> {
        // DEW: KMS.0409, KMS.0412, KMS.0413
        let keys: BTreeSet<_> = filters.iter().map(|filter| &filter.key).collect();
        if keys.len() < filters.len() {
            return Err(Error::invalid(Field::Tags, "must have each key once"));
        }
        if filters.len() > MAX_TERMS || filters.iter().any(|filter| filter.values.len() > MAX_TERMS) {
            return Err(Error::invalid(Field::Tags, "must be at most 20 keys, each with at most 20 values"));
        }
        Ok(Self { filters, alias_part, window })
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedKeys {
    /// How many keys in all.
    pub total: usize,
    /// The part that was asked for, in the order of creation.
    pub keys: Vec<KeyRecord>,
}

impl Operation for ListKeysByTags {
    const NAME: OperationName = OperationName::ListKeysByTags;
    type Output = TaggedKeys;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<TaggedKeys>, Error> {
        let mut ids = in_all(self.lists(scope)).await?;
        // Only what the caller may see is counted.
        let sees_all = scope.caller().permissions.policies().always_allow(OperationName::DescribeKey);
        if !sees_all || !self.alias_part.is_empty() {
            ids = self.sought(scope, &ids).await?;
        }
        let total = ids.len();
        let Some(window) = self.window else {
            return Ok(Prepared::Answer(TaggedKeys { total, keys: Vec::new() }));
        };
        let mut keys = self.records(scope, &window.of(ids)).await?;
        for key in &mut keys {
            scope.directory().show_rotation(key).await?;
        }
        Ok(Prepared::Answer(TaggedKeys { total, keys }))
    }
}

impl ListKeysByTags {
    /// The lists that every key that is sought is on.
    fn lists<'a>(&self, scope: &'a Scope<'_>) -> Vec<AnyOf<'a>> {
        let (account, region) = (&scope.caller().account, &scope.caller().region);
        if self.filters.is_empty() {
            return vec![AnyOf::new(scope.directory(), [index_prefix(account, region)])];
        }
        let list = |filter: &TagFilter| {
            let key = filter.key.as_str();
            if filter.values.is_empty() {
                return AnyOf::new(scope.directory(), [tag_key_prefix(account, region, key)]);
            }
            let values = filter.values.iter().map(|value| tag_prefix(account, region, key, value.as_str()));
            AnyOf::new(scope.directory(), values)
        };
        self.filters.iter().map(list).collect()
    }

    async fn sought(&self, scope: &Scope<'_>, ids: &[KeyId]) -> Result<Vec<KeyId>, Error> {
        let mut named = Vec::new();
        for batch in ids.chunks(BATCH) {
            named.extend(self.records(scope, batch).await?.iter().map(|record| record.id));
            give_way().await;
        }
        Ok(named)
    }

    /// The records of those of `ids` that are sought: an entry only leads to a record, and the record decides.
    async fn records(&self, scope: &Scope<'_>, ids: &[KeyId]) -> Result<Vec<KeyRecord>, Error> {
        let mut records = scope.directory().keys(ids).await?;
        records.retain(|record| {
            record.exists_for(scope.caller(), scope.now)
                && scope.may(OperationName::DescribeKey, record)
                && record.alias.contains(&self.alias_part)
                && self.filters.iter().all(|filter| filter.admits(record))
        });
        Ok(records)
    }
}
