//! Searching keys by the lists that the store keeps of them, each in the order of the keys' ids: no record is read.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::{
    directory::{Directory, tampered},
    error::Error,
    key::KeyId,
    ops::forget_roots::give_way,
    ports::StoreKey,
};

/// How many entries of a list are read at once.
const PAGE: usize = 256;

/// One list of keys.
struct IdList<'a> {
    directory: &'a Directory,
    prefix: StoreKey,
    page: VecDeque<KeyId>,
    ended: bool,
}

impl IdList<'_> {
    /// The first key that is not before `least`, which never falls.
    async fn seek(&mut self, least: KeyId) -> Result<Option<KeyId>, Error> {
        loop {
            while self.page.front().is_some_and(|id| *id < least) {
                self.page.pop_front();
            }
            if self.ended || !self.page.is_empty() {
                return Ok(self.page.front().copied());
            }
            self.read(least).await?;
        }
    }

    async fn read(&mut self, least: KeyId) -> Result<(), Error> {
        let before =
            number(least).checked_sub(1).map(|before| [&self.prefix[..], &before.to_be_bytes()].concat());
        let entries = self.directory.index(&self.prefix, before.as_deref(), PAGE).await?;
        self.ended = entries.len() < PAGE;
        for (path, value) in &entries {
            self.directory.authentic(path, &value.value)?;
            let id = Uuid::from_slice(&path[self.prefix.len()..]);
            let id = id.map_err(|_| tampered("an entry of a list of keys is no key id"))?;
            self.page.push_back(KeyId::from_uuid(id));
        }
        give_way().await;
        Ok(())
    }
}

/// The keys that are on at least one of some lists.
pub(crate) struct AnyOf<'a>(Vec<IdList<'a>>);

impl<'a> AnyOf<'a> {
    /// Of the lists with these prefixes.
    pub(crate) fn new(directory: &'a Directory, prefixes: impl IntoIterator<Item = StoreKey>) -> Self {
        let list = |prefix| IdList { directory, prefix, page: VecDeque::new(), ended: false };
        Self(prefixes.into_iter().map(list).collect())
    }

    async fn seek(&mut self, least: KeyId) -> Result<Option<KeyId>, Error> {
        let mut first = None;
        for list in &mut self.0 {
            first = list.seek(least).await?.into_iter().chain(first).min();
        }
        Ok(first)
    }
}

/// The keys that are in all of `sets`, at least one, in the order of their ids.
pub(crate) async fn in_all(mut sets: Vec<AnyOf<'_>>) -> Result<Vec<KeyId>, Error> {
    let (mut found, mut least, mut agreeing) = (Vec::new(), KeyId::from_uuid(Uuid::nil()), 0);
    for turn in (0..sets.len()).cycle() {
        // A set that has no more ends the search; one whose next key is further on moves all others there.
        let Some(id) = sets[turn].seek(least).await? else { break };
        agreeing = if id == least { agreeing + 1 } else { 1 };
        least = id;
        if agreeing < sets.len() {
            continue;
        }
        found.push(id);
        let Some(next) = number(id).checked_add(1) else { break };
        (least, agreeing) = (KeyId::from_uuid(Uuid::from_u128(next)), 0);
    }
    Ok(found)
}

fn number(id: KeyId) -> u128 {
    u128::from_be_bytes(*id.as_bytes())
}
