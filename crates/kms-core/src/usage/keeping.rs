//! What is counted goes to the store, and comes from there.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::atomic::Ordering,
};

use super::{Batch, Checkpoint, Delta, KeyUse, StoredUse, Use};
use crate::{
    directory::{USAGE_PATH, absent, commit_error, destroyed_path, moved_path, moved_prefix, usage_path},
    error::Error,
    key::KeyId,
    ports::{Mutation, StoreKey, Transaction},
    service::Service,
};

/// How many moved ciphertexts one value of the store lists, 8 bytes each.
const PAGE_ITEMS: u64 = 7_500;
/// How many of them are listed of one version: more are not told apart, and the version's gate stays closed.
pub(crate) const MAX_LISTED: u64 = 1 << 22;
/// How many values one transaction writes before the next begins.
const MUTATIONS: usize = 50;
/// How many lists of them are read at once.
const PAGES_AT_ONCE: usize = 16;
/// How many moved ciphertexts stay known in memory.
const MAX_KNOWN: usize = 1 << 22;

/// Which ciphertexts of versions were moved.
type Known = HashMap<(KeyId, u32), HashSet<u64>>;

/// The key's counts with a batch added, and what else is to be written for that.
struct Added {
    usage: StoredUse,
    /// By version: moved ciphertexts that were not moved before, in the order of the log.
    fresh: BTreeMap<u32, Vec<u64>>,
}

impl Service {
    /// Finds out up to where the store counts, and answers from which place on the log has to be counted. To be
    /// called once, before the first operation, and followed by [`count_missed`](Self::count_missed).
    pub async fn resume_usage(&self) -> Result<u64, Error> {
        let origin = self.made_of().await?;
        let stored = self.directory().read::<Checkpoint>(USAGE_PATH.to_vec()).await?;
        let checkpoint = match stored.map(|stored| stored.value) {
            Some(checkpoint) if checkpoint.origin == origin => checkpoint,
            // The log of the deployment that the backup is of is not this one's.
            other => Checkpoint {
                epoch: other.map_or(0, |before| before.epoch + 1),
                unknown_before: origin.map(|_| self.now()),
                origin,
                up_to: 0,
            },
        };
        let from = checkpoint.up_to;
        let mut state = self.usage().state();
        state.waiting.up_to = from;
        state.checkpoint = checkpoint;
        Ok(from)
    }

    /// Counts records that the log holds and the store does not count, in their order; `begins` is the first
    /// place that the log still holds. Answers how many were uses of keys.
    pub async fn count_missed(&self, begins: u64, missed: Vec<(u64, Vec<Use>)>) -> Result<u64, Error> {
        self.usage().begins_at(begins, self.now());
        // A flush that was cut off has written some keys further than the checkpoint says.
        let (mut count, mut written) = (0, HashMap::new());
        for (sequence, uses) in missed {
            let mut missing = Vec::new();
            for one in uses {
                let up_to = match written.entry(one.key_id) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(unknown) => *unknown.insert(self.stored_use(one.key_id).await?.0.up_to),
                };
                missing.extend((up_to <= sequence).then_some(one));
            }
            self.usage().note(sequence, &missing);
            count += missing.len() as u64;
            if self.usage().is_full() {
                self.flush_usage().await?;
            }
        }
        Ok(count)
    }

    /// Up to which place of the log the store counts: a restart reads the lines from there on.
    pub fn counted_up_to(&self) -> u64 {
        self.usage().state().checkpoint.up_to
    }

    /// Writes what was counted to the store. May be dropped at any time: the next call goes on.
    pub async fn flush_usage(&self) -> Result<(), Error> {
        if self.usage().busy.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let _turn = Turn(self);
        if let Some(batch) = self.usage().take() {
            self.write_usage(&batch).await?;
            self.usage().state().writing = None;
        }
        Ok(())
    }

    async fn write_usage(&self, batch: &Batch) -> Result<(), Error> {
        // Taken out: if this ends half-way, they are read from the store again.
        let mut known = std::mem::take(&mut self.usage().state().known);
        let mut transaction = Transaction::default();
        for (key, delta) in &batch.keys {
            let (stored, _) = self.stored_use(*key).await?;
            // Written before the end of an earlier attempt.
            if stored.up_to >= batch.up_to {
                continue;
            }
            let delta = if delta.moved.is_empty() {
                Cow::Borrowed(delta)
            } else if self.directory().is_listed_as_destroyed(*key).await? {
                // Nothing of it can be moved any more, and its end has removed the lists.
                Cow::Owned(Delta { moved: Vec::new(), ..delta.clone() })
            } else {
                transaction.conditions.push(absent(destroyed_path(*key)));
                Cow::Borrowed(delta)
            };
            for from in delta.sealing_versions() {
                if let Entry::Vacant(unknown) = known.entry((*key, from)) {
                    unknown.insert(self.moved_items(*key, from).await?);
                }
            }
            let added = added(*key, StoredUse { up_to: batch.up_to, ..stored }, &delta, &known);
            transaction.mutations.extend(self.pages(*key, &added).await?);
            transaction.mutations.push(self.directory().put(usage_path(*key), &added.usage)?);
            for (version, fresh) in added.fresh {
                known.entry((*key, version)).or_default().extend(fresh);
            }
            if transaction.mutations.len() >= MUTATIONS {
                self.commit_usage(std::mem::take(&mut transaction)).await?;
            }
        }
        let checkpoint = Checkpoint { up_to: batch.up_to, ..self.usage().state().checkpoint.clone() };
        transaction.mutations.push(self.directory().put(USAGE_PATH.to_vec(), &checkpoint)?);
        self.commit_usage(transaction).await?;
        let written = batch.keys.values().map(|delta| delta.moved.len()).sum();
        self.usage().items.fetch_sub(written, Ordering::Relaxed);
        let mut state = self.usage().state();
        state.checkpoint = checkpoint;
        if known.values().map(HashSet::len).sum::<usize>() <= MAX_KNOWN {
            state.known = known;
        }
        Ok(())
    }

    async fn commit_usage(&self, transaction: Transaction) -> Result<(), Error> {
        self.directory().store().transact(transaction).await.map(drop).map_err(commit_error)
    }

    /// What the store says of a key, with the revision that it says it at.
    async fn stored_use(&self, key: KeyId) -> Result<(StoredUse, u64), Error> {
        let epoch = self.usage().state().checkpoint.epoch;
        let stored = self.directory().read::<StoredUse>(usage_path(key)).await?;
        let (mut usage, revision) =
            stored.map_or_else(Default::default, |stored| (stored.value, stored.revision));
        if usage.epoch != epoch {
            (usage.epoch, usage.up_to) = (epoch, 0);
        }
        Ok((usage, revision))
    }

    /// Which ciphertexts of a version were moved.
    async fn moved_items(&self, key: KeyId, version: u32) -> Result<HashSet<u64>, Error> {
        let (prefix, mut after, mut moved) = (moved_prefix(key, version), None::<StoreKey>, HashSet::new());
        loop {
            let page = self.directory().index(&prefix, after.as_deref(), PAGES_AT_ONCE).await?;
            for (path, versioned) in &page {
                let items: Vec<u8> = self.directory().open(path, &versioned.value)?;
                moved.extend(items.chunks_exact(8).map(item));
            }
            match page.into_iter().next_back() {
                Some((path, _)) => after = Some(path),
                None => return Ok(moved),
            }
        }
    }

    /// The lists of moved ciphertexts with those that are new: full ones stay as they are.
    async fn pages(&self, key: KeyId, added: &Added) -> Result<Vec<Mutation>, Error> {
        let mut mutations = Vec::new();
        for (version, fresh) in &added.fresh {
            let listed = added.usage.listed.get(version).copied().unwrap_or_default();
            let before = listed.saturating_sub(fresh.len() as u64);
            let page = u32::try_from(before / PAGE_ITEMS).unwrap_or(u32::MAX); // at most MAX_LISTED items
            let (mut page, mut left) = (page, &fresh[..]);
            let path = moved_path(key, *version, page);
            let stored = self.directory().read::<Vec<u8>>(path).await?;
            let mut items = stored.map(|stored| stored.value).unwrap_or_default();
            while !left.is_empty() {
                let room = usize::try_from(PAGE_ITEMS).unwrap_or(usize::MAX).saturating_sub(items.len() / 8);
                let (now, later) = left.split_at(room.min(left.len()));
                items.extend(now.iter().flat_map(|item| item.to_be_bytes()));
                mutations.push(self.directory().put(moved_path(key, *version, page), &items)?);
                (left, page, items) = (later, page + 1, Vec::new());
            }
        }
        Ok(mutations)
    }

    /// How a key was used, to this moment.
    pub(crate) async fn usage_of(&self, key: KeyId) -> Result<KeyUse, Error> {
        loop {
            // First what is in memory: what of it the store knows by the time it is read is seen there.
            let (writing, waiting, unknown_before) = {
                let state = self.usage().state();
                let part = |batch: &Batch| (batch.up_to, batch.keys.get(&key).cloned().unwrap_or_default());
                let unknown_before = state.checkpoint.unknown_before;
                (state.writing.as_deref().map(part), part(&state.waiting), unknown_before)
            };
            let (stored, revision) = self.stored_use(key).await?;
            let mut usage = stored;
            let mut delta = Delta::default();
            for (up_to, more) in writing.into_iter().chain([waiting]) {
                if usage.up_to < up_to {
                    delta.merge(more);
                }
            }
            let mut known = Known::new();
            for from in delta.sealing_versions() {
                known.insert((key, from), self.moved_items(key, from).await?);
            }
            usage = added(key, usage, &delta, &known).usage;
            // What was moved is read apart from the counts: both must be of one moment.
            if self.stored_use(key).await?.1 == revision {
                return Ok(KeyUse { versions: usage.versions, unknown_before });
            }
        }
    }
}

/// Adds what was counted; `known` tells which ciphertexts were moved before.
fn added(key: KeyId, mut usage: StoredUse, delta: &Delta, known: &Known) -> Added {
    for (number, more) in &delta.versions {
        usage.versions.entry(*number).or_default().add(more);
    }
    let (mut fresh, mut seen) = (BTreeMap::<u32, Vec<u64>>::new(), HashSet::new());
    for (from, item, to) in &delta.moved {
        let moved_before = known.get(&(key, *from)).is_some_and(|known| known.contains(item));
        let listed = usage.listed.entry(*from).or_default();
        if moved_before || *listed >= MAX_LISTED || !seen.insert((*from, *item)) {
            continue;
        }
        *listed += 1;
        fresh.entry(*from).or_default().push(*item);
        usage.versions.entry(*from).or_default().moved_out += 1;
        usage.versions.entry(*to).or_default().moved_in += 1;
    }
    Added { usage, fresh }
}

/// Ends a turn of writing, also when it is dropped half-way.
struct Turn<'a>(&'a Service);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.usage().busy.store(false, Ordering::Release);
    }
}

fn item(bytes: &[u8]) -> u64 {
    let mut item = [0; 8];
    item.copy_from_slice(bytes); // chunks of exactly 8
    u64::from_be_bytes(item)
}
