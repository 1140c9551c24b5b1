//! ListAliases: the further aliases of a key, or of the account in the region, by pages.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
};

use crate::{
    directory::{alias_path, tampered},
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{
        AliasEntry, KeySelector, Operation, PageSize, PageToken, Prepared, further_alias::FURTHER_PREFIX,
        page::PagePlace,
    },
    service::Scope,
};

/// Reads further aliases in the order of their bytes.
#[derive(Debug, Clone)]
pub struct ListAliases {
    /// Only this key's.
    pub key: Option<KeySelector>,
    /// The most aliases of the page.
    pub size: PageSize,
    /// Where to begin.
    pub token: Option<PageToken>,
}

/// A page of aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasPage {
    /// The aliases.
    pub aliases: Vec<AliasEntry>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<PageToken>,
}

impl Operation for ListAliases {
    const NAME: OperationName = OperationName::ListAliases;
    type Output = AliasPage;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<AliasPage>, Error> {
        let key = match &self.key {
            Some(key) => Some(scope.key(key, draft).await?),
            None => None,
        };
        let of_key = key.as_ref().map(|record| record.id);
        let PagePlace { after, .. } = PagePlace::of(self.token.as_ref(), scope, &of_key)?;
        let after = std::str::from_utf8(&after).map_err(|_| tampered("an alias is no text"))?;
        let (aliases, last) = match &key {
            Some(record) => self.of_key(record, after),
            None => self.of_region(scope, after).await?,
        };
        let place = |last: String| PagePlace { in_second: false, after: last.into_bytes() };
        let next = last.map(|last| PageToken::seal(scope, &of_key, &place(last))).transpose()?;
        Ok(Prepared::Answer(AliasPage { aliases, next }))
    }
}

/// The aliases of a page, and the last one that was read for it if more follow.
type Read = (Vec<AliasEntry>, Option<String>);

impl ListAliases {
    fn of_key(&self, record: &KeyRecord, after: &str) -> Read {
        // No alias is empty.
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let mut names = record.aliases.range::<str, _>(range).map(|(alias, _)| alias);
        let page: Vec<_> = names.by_ref().take(self.size.get()).collect();
        let last = names.next().and_then(|_| page.last()).map(|last| (*last).clone());
        (page.into_iter().filter_map(|alias| AliasEntry::of(record, alias)).collect(), last)
    }

    async fn of_region(&self, scope: &Scope<'_>, after: &str) -> Result<Read, Error> {
        let (caller, directory) = (scope.caller(), scope.directory());
        let path = |alias: &str| alias_path(&caller.account, &caller.region, alias);
        let before_alias = path("").len();
        let after = (!after.is_empty()).then(|| path(after));
        let limit = self.size.get();
        let entries = directory.index(&path(FURTHER_PREFIX), after.as_deref(), limit + 1).await?;
        let mut named = Vec::new();
        for (path, value) in entries.iter().take(limit) {
            let alias =
                std::str::from_utf8(&path[before_alias..]).map_err(|_| tampered("an alias is no text"))?;
            named.push((alias, directory.open::<KeyId>(path, &value.value)?));
        }
        let last = named.last().filter(|_| entries.len() > limit).map(|(alias, _)| (*alias).to_owned());
        let ids: Vec<_> = named.iter().map(|(_, id)| *id).collect::<BTreeSet<_>>().into_iter().collect();
        let records = directory.keys(&ids).await?;
        let records: HashMap<_, _> = records.iter().map(|record| (record.id, record)).collect();
        // An entry only leads to a record. It may also lead to a key whose first alias it is, or whose time is over.
        let aliases = named.iter().filter_map(|(alias, id)| {
            let record = records.get(id).filter(|record| {
                record.exists_for(caller, scope.now) && scope.may(OperationName::DescribeKey, record)
            })?;
            AliasEntry::of(record, alias)
        });
        Ok((aliases.collect(), last))
    }
}
