//! The quota of custom keys: exact, because every creation holds a place from before its work until after its commit.
//!
//! Counts are kept in memory, and the store is counted again before anybody is refused. That is sound because one
//! process writes the store.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_channel::oneshot;

use crate::{
    directory::Directory,
    error::{Counted, Error, Quota},
    identity::{AccountId, Region},
};

/// Whose keys are counted together.
type Owner = (AccountId, Region);

/// How many custom keys each account has in each region.
#[derive(Default)]
pub(crate) struct Quotas {
    counts: Mutex<HashMap<Owner, Count>>,
}

#[derive(Default)]
struct Count {
    /// No fewer than the store has: creations are added, destructions are not taken off. `None`: not counted yet.
    most: Option<u64>,
    /// How many creations are under way.
    pending: u64,
    /// Somebody counts the store. Nobody creates meanwhile.
    counting: bool,
    /// Who waits until a creation has ended, or the counting has.
    waiting: Vec<oneshot::Sender<()>>,
}

enum Step {
    Granted,
    Wait(oneshot::Receiver<()>),
    Count,
}

impl Quotas {
    /// Takes a place for one more key, or refuses it.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        directory: &Directory,
        owner: Owner,
        limit: u64,
    ) -> Result<Place, Error> {
        loop {
            match self.step(&owner, limit) {
                Step::Granted => return Ok(Place { quotas: self.clone(), owner, committing: false }),
                Step::Wait(ended) => drop(ended.await), // whatever ended: look again
                Step::Count => {
                    let mut counting = Counting { quotas: self, owner: &owner, found: None };
                    let used = directory.custom_keys(&owner.0, &owner.1).await?;
                    counting.found = Some(used);
                    if used >= limit {
                        return Err(Error::QuotaExceeded(Quota { what: Counted::CustomKeys, limit, used }));
                    }
                }
            }
        }
    }

    fn step(&self, owner: &Owner, limit: u64) -> Step {
        let mut counts = self.counts();
        let count = counts.entry(owner.clone()).or_default();
        let room = count.most.is_some_and(|most| most.saturating_add(count.pending) < limit);
        if room && !count.counting {
            count.pending += 1;
            return Step::Granted;
        }
        // What the store has is certain only while nobody creates.
        if count.counting || count.pending > 0 {
            let (sender, ended) = oneshot::channel();
            count.waiting.push(sender);
            return Step::Wait(ended);
        }
        count.counting = true;
        Step::Count
    }

    fn end(&self, owner: &Owner, change: impl FnOnce(&mut Count)) {
        let waiting = self.counts().get_mut(owner).map(|count| {
            change(count);
            mem::take(&mut count.waiting)
        });
        for waiter in waiting.into_iter().flatten() {
            let _gone = waiter.send(());
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Owner, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to count; given back however it ends.
struct Counting<'a> {
    quotas: &'a Quotas,
    owner: &'a Owner,
    found: Option<u64>,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.quotas.end(self.owner, |count| {
            count.counting = false;
            count.most = self.found.or(count.most);
        });
    }
}

/// A place for one more key. Dropped, it is given back, unless the key may have been committed by then.
pub(crate) struct Place {
    quotas: Arc<Quotas>,
    owner: Owner,
    committing: bool,
}

impl Place {
    /// Says whether the key may be committed from now on.
    pub(crate) fn committing(&mut self, committing: bool) {
        self.committing = committing;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.quotas.end(&self.owner, |count| {
            count.pending = count.pending.saturating_sub(1);
            if self.committing {
                count.most = count.most.map(|most| most.saturating_add(1));
            }
        });
    }
}
