//! ListKeyUsage: when the keys of all accounts were last used, and how often their versions were.

use std::sync::Arc;

use crate::{
    directory::key_path,
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{Operation, PageSize, Prepared, UsedKey},
    service::Scope,
};

/// Reads how keys of all accounts were used, destroyed ones among them, in the order of their ids.
#[derive(Debug, Clone, Copy)]
pub struct ListKeyUsage {
    /// The most keys of the page.
    pub size: PageSize,
    /// Where the page before ended.
    pub after: Option<KeyId>,
    /// Only keys that wait for their deletion.
    pub only_pending_deletion: bool,
}

/// A page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUsagePage {
    /// The keys. Those that were not asked for are left out after the page was read, so it may be short or empty and
    /// not be the last one.
    pub keys: Vec<UsedKey>,
    /// What the next page comes after; `None` on the last one.
    pub next: Option<KeyId>,
}

impl Operation for ListKeyUsage {
    const NAME: OperationName = OperationName::ListKeyUsage;
    type Output = KeyUsagePage;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<KeyUsagePage>, Error> {
        let (after, limit) = (self.after.map(key_path), self.size.get());
        let read = scope.directory().all_keys(after.as_deref(), limit + 1).await?;
        let is_last = read.len() <= limit;
        let records = read.into_iter().take(limit).map(|(_, record)| record);
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let next = records.last().map(|record| record.id).filter(|_| !is_last);
        let mut keys = Vec::new();
        for record in records.into_iter().filter(|record| self.asks_for(record)) {
            let usage = scope.service.usage_of(record.id).await?;
            keys.push(UsedKey { record: Arc::new(record), usage });
        }
        Ok(Prepared::Answer(KeyUsagePage { keys, next }))
    }
}

impl ListKeyUsage {
    fn asks_for(&self, record: &KeyRecord) -> bool {
        // A tombstone has no such time any more.
        !self.only_pending_deletion || record.deletion_due.is_some()
    }
}
