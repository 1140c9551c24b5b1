//! ListGrants: the grants of a key, by pages.

use crate::{
    directory::grants_prefix,
    draft::Draft,
    error::Error,
    grant::Grant,
    operation::OperationName,
    ops::{KeySelector, Operation, PageSize, PageToken, Prepared, granting::Count, page::PagePlace},
    service::Scope,
};

/// A page of grants.
#[derive(Debug)]
pub struct GrantPage {
    /// In the order of their keys and ids.
    pub grants: Vec<Grant>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<PageToken>,
}

/// The grants of one key.
#[derive(Debug)]
pub struct GrantsOfKey {
    /// A page of them.
    pub page: GrantPage,
    /// How many there are in all.
    pub total: u64,
}

/// Reads the grants of a key.
#[derive(Debug, Clone)]
pub struct ListGrants {
    /// The key.
    pub key: KeySelector,
    /// The most grants of the page.
    pub size: PageSize,
    /// Where to begin.
    pub token: Option<PageToken>,
}

impl Operation for ListGrants {
    const NAME: OperationName = OperationName::ListGrants;
    type Output = GrantsOfKey;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<GrantsOfKey>, Error> {
        let key = scope.key(&self.key, draft).await?;
        key.check(Self::NAME, scope.now)?;
        let directory = scope.directory();
        let prefix = grants_prefix(key.id);
        let PagePlace { after, .. } = PagePlace::of(self.token.as_ref(), scope, &key.id)?;
        let from = (!after.is_empty()).then(|| [&prefix[..], &after].concat());
        let entries = directory.index(&prefix, from.as_deref(), self.size.get().saturating_add(1)).await?;
        let page = &entries[..entries.len().min(self.size.get())];
        let last = page.last().filter(|_| entries.len() > page.len());
        let place = |path: &[u8]| PagePlace { in_second: false, after: path[prefix.len()..].to_vec() };
        let next = last.map(|(path, _)| PageToken::seal(scope, &key.id, &place(path))).transpose()?;
        let opened = page.iter().map(|(path, versioned)| directory.open(path, &versioned.value));
        let grants = opened.collect::<Result<_, Error>>()?;
        let total = Count::of_key(directory, key.id).await?.used;
        Ok(Prepared::Answer(GrantsOfKey { page: GrantPage { grants, next }, total }))
    }
}
