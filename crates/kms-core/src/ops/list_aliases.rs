//! ListAliases: the further aliases of a key, or of the account in the region, by pages.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
};

use crate::{
    directory::{alias_path, tampered},
    draft::Draft,
    error::{Error, Field},
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{
        AliasEntry, FurtherAlias, KeySelector, Operation, PageSize, Prepared, further_alias::FURTHER_PREFIX,
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
    /// The last alias of the page before.
    pub after: Option<FurtherAlias>,
}

impl ListAliases {
    /// What a page token stands for: the last alias of the page before; none where it is empty.
    pub fn page_token(text: &str) -> Result<Option<FurtherAlias>, Error> {
        let malformed =
            Error::invalid(Field::PageToken, "must be empty or the next_page_token of a page before");
        let after = (!text.is_empty()).then(|| FurtherAlias::parse(text));
        after.transpose().map_err(|_| malformed)
    }
}

/// A page of aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasPage {
    /// The aliases.
    pub aliases: Vec<AliasEntry>,
    /// What the next page comes after; `None` on the last one.
    pub next: Option<String>,
}

impl Operation for ListAliases {
    const NAME: OperationName = OperationName::ListAliases;
    type Output = AliasPage;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<AliasPage>, Error> {
        let page = match &self.key {
            Some(key) => self.of_key(&*scope.key(key, draft).await?),
            None => self.of_region(scope).await?,
        };
        Ok(Prepared::Answer(page))
    }
}

impl ListAliases {
    fn of_key(&self, record: &KeyRecord) -> AliasPage {
        let after = self.after.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded(last.as_str()));
        let mut names = record.aliases.range::<str, _>((after, Bound::Unbounded)).map(|(alias, _)| alias);
        let page: Vec<_> = names.by_ref().take(self.size.get()).collect();
        let next = names.next().and_then(|_| page.last()).map(|last| (*last).clone());
        let aliases = page.into_iter().filter_map(|alias| AliasEntry::of(record, alias));
        AliasPage { aliases: aliases.collect(), next }
    }

    async fn of_region(&self, scope: &Scope<'_>) -> Result<AliasPage, Error> {
        let (caller, directory) = (scope.caller(), scope.directory());
        let path = |alias: &str| alias_path(&caller.account, &caller.region, alias);
        let before_alias = path("").len();
        let after = self.after.as_ref().map(|last| path(last.as_str()));
        let limit = self.size.get();
        let entries = directory.index(&path(FURTHER_PREFIX), after.as_deref(), limit + 1).await?;
        let mut named = Vec::new();
        for (path, value) in entries.iter().take(limit) {
            let alias =
                std::str::from_utf8(&path[before_alias..]).map_err(|_| tampered("an alias is no text"))?;
            named.push((alias, directory.open::<KeyId>(path, &value.value)?));
        }
        let next = named.last().filter(|_| entries.len() > limit).map(|(alias, _)| (*alias).to_owned());
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
        Ok(AliasPage { aliases: aliases.collect(), next })
    }
}
