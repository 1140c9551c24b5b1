//! The rotation of the root key.

use crate::{
    answer::{Recorded, Refused},
    error::Error,
    key::KeyId,
    ops::{DestroyRoots, ForgetRoots, RewrapKey},
    ports::StoreKey,
    root::RootRecord,
    service::Service,
};

/// A page of the pass over all keys.
#[derive(Debug)]
pub struct OldKeys {
    /// Keys of this page that are wrapped under an older root key.
    pub keys: Vec<KeyId>,
    /// Records of this page that failed their authentication: nobody can tell what they need.
    pub unreadable: Vec<Error>,
    /// How the next page is found; `None` on the last one.
    pub next: Option<StoreKey>,
}

impl Service {
    /// What the store says of the root keys. Not recorded: it is asked for by the service itself.
    pub async fn root(&self) -> Result<RootRecord, Error> {
        Ok(self.directory().root().await?.value)
    }

    /// Reads at most `limit` keys and tells which of them are wrapped under an older root key. Not recorded:
    /// it uses and changes nothing.
    pub async fn keys_under_old_roots(
        &self,
        after: Option<StoreKey>,
        limit: usize,
    ) -> Result<OldKeys, Error> {
        let generation = self.directory().root().await?.value.generation;
        let page = self.directory().all_keys(after.as_deref(), limit).await?;
        let more = page.len() == limit;
        let mut found = OldKeys { keys: Vec::new(), unreadable: Vec::new(), next: None };
        for (path, record) in page {
            match record {
                Ok(record) if record.needs_older_than(generation) => found.keys.push(record.id),
                Ok(_) => {}
                Err(error) => found.unreadable.push(error),
            }
            found.next = more.then_some(path);
        }
        Ok(found)
    }

    /// Moves one key under the newest root key.
    ///
    /// As every change, this and the two that follow must be driven to their end.
    pub async fn rewrap_key(&self, key_id: KeyId) -> Result<Recorded<()>, Refused> {
        self.run_own(RewrapKey { key_id }).await
    }

    /// Commits that no key needs the old root keys, if a pass over all of them finds that so.
    pub async fn forget_roots(&self) -> Result<Recorded<RootRecord>, Refused> {
        self.run_own(ForgetRoots).await
    }

    /// Destroys the old root keys that were forgotten, and ends the rotation.
    pub async fn destroy_roots(&self) -> Result<Recorded<RootRecord>, Refused> {
        self.run_own(DestroyRoots).await
    }
}
