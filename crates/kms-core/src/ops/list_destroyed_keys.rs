//! ListDestroyedKeys: what remains of destroyed keys, and whether it can still be opened by anybody.

use crate::{
    directory::{DESTROYED_PREFIX, destroyed_path, tampered},
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{Operation, PageSize, Prepared},
    service::Scope,
};

/// Reads destroyed keys of all accounts, in the order of their ids, which is that of their creation.
#[derive(Debug, Clone, Copy)]
pub struct ListDestroyedKeys {
    /// The most keys of the page.
    pub size: PageSize,
    /// The last key of the page before.
    pub after: Option<KeyId>,
}

/// A destroyed key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestroyedKey {
    /// What is left of its record; `destroyed` is set.
    pub record: KeyRecord,
    /// Whether the root keys that wrapped its material are destroyed, too: nobody can open it any more, not even
    /// from an old backup.
    pub is_final: bool,
}

/// A page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestroyedKeyPage {
    /// The keys.
    pub keys: Vec<DestroyedKey>,
    /// What the next page comes after; `None` on the last one.
    pub next: Option<KeyId>,
}

impl Operation for ListDestroyedKeys {
    const NAME: OperationName = OperationName::ListDestroyedKeys;
    type Output = DestroyedKeyPage;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<DestroyedKeyPage>, Error> {
        let directory = scope.directory();
        let after = self.after.map(destroyed_path);
        let limit = self.size.get();
        let entries = directory.index(DESTROYED_PREFIX, after.as_deref(), limit + 1).await?;
        let ids = entries.iter().take(limit).map(|(path, _)| listed_id(path));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let next = if entries.len() > limit { ids.last().copied() } else { None };
        let root = directory.root().await?.value;
        let records = directory.keys(&ids).await?;
        let keys = records.into_iter().filter_map(|record| {
            let tombstone = record.destroyed.as_ref()?;
            Some(DestroyedKey { is_final: root.is_destroyed(tombstone.root_generation), record })
        });
        Ok(Prepared::Answer(DestroyedKeyPage { keys: keys.collect(), next }))
    }
}

fn listed_id(path: &[u8]) -> Result<KeyId, Error> {
    let id = path.strip_prefix(DESTROYED_PREFIX).and_then(|id| uuid::Uuid::from_slice(id).ok());
    id.map(KeyId::from_uuid).ok_or_else(|| tampered("an entry of the destroyed keys is no key id"))
}
