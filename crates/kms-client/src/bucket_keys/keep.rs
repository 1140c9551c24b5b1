//! What was asked of the service and is kept: asked for once by all who need it, the least needed gone first.

use std::{
    hash::Hash,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lru::LruCache;
use tokio::sync::watch;

use super::{
    Error,
    counters::{Counts, KeptCounters, add, count},
};

/// What came of a call, for all who waited for it.
type Outcome<Entry> = Result<Arc<Entry>, Arc<crate::Error>>;
type Waiting<Entry> = watch::Receiver<Option<Outcome<Entry>>>;

/// Entries by name, so many at the most.
pub(super) struct Keep<Name: Hash + Eq, Entry> {
    /// Nothing: it is closed.
    slots: Mutex<Option<LruCache<Name, Slot<Entry>>>>,
    counts: Counts,
    calls: AtomicU64,
}

/// A place for an entry that is there or on its way.
struct Slot<Entry> {
    call: u64,
    outcome: Waiting<Entry>,
}

/// What there is under a name.
enum Found<Entry> {
    There(Arc<Entry>),
    OnItsWay(Waiting<Entry>),
    /// Nothing: whoever asked has to bring it.
    Absent(Bringing<Entry>),
}

/// The duty to bring an entry.
struct Bringing<Entry> {
    call: u64,
    outcome: watch::Sender<Option<Outcome<Entry>>>,
}

impl<Entry> Slot<Entry> {
    fn outcome(&self) -> Option<Outcome<Entry>> {
        self.outcome.borrow().clone()
    }

    /// The entry, if it is there.
    fn entry(&self) -> Option<Arc<Entry>> {
        self.outcome().and_then(Result::ok)
    }

    /// Whether somebody is still bringing it.
    fn is_on_its_way(&self) -> bool {
        self.outcome().is_none() && self.outcome.has_changed().is_ok()
    }
}

impl<Name, Entry> Keep<Name, Entry>
where
    Name: Hash + Eq + Clone + Send + 'static,
    Entry: Send + Sync + 'static,
{
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        Self {
            slots: Mutex::new(Some(LruCache::new(capacity))),
            counts: Counts::default(),
            calls: AtomicU64::new(0),
        }
    }

    pub(super) fn counters(&self) -> KeptCounters {
        self.counts.read(self.slots().as_ref().map_or(0, LruCache::len))
    }

    /// The entry of this name, brought by `bring` if it is not there: in a task of its own, so that it arrives although
    /// who asked first gives up waiting. `claim` takes what is wanted of an entry, or says that it is over.
    pub(super) async fn entry<Bringer>(
        self: &Arc<Self>,
        name: &Name,
        claim: impl Fn(&Entry) -> bool + Send + 'static,
        bring: impl FnOnce() -> Bringer,
    ) -> Result<Arc<Entry>, Error>
    where
        Bringer: Future<Output = Result<Entry, crate::Error>> + Send + 'static,
    {
        loop {
            let mut waiting = match self.find(name, &claim)? {
                Found::There(entry) => return Ok(entry),
                Found::OnItsWay(waiting) => waiting,
                Found::Absent(bringing) => return self.bring(name, bringing, claim, bring()).await,
            };
            let outcome = waiting.wait_for(Option::is_some).await.map_err(|_| Error::Interrupted)?.clone();
            match outcome {
                Some(Ok(entry)) if claim(&entry) => return self.unless_closed(entry),
                Some(Err(error)) => return Err(Error::Service(error)),
                // Over, or others have taken all of it: it has to be asked for again.
                Some(Ok(_)) | None => {}
            }
        }
    }

    /// Whoever has asked itself has the first claim to what comes, and asks for it no second time.
    async fn bring(
        self: &Arc<Self>,
        name: &Name,
        bringing: Bringing<Entry>,
        claim: impl Fn(&Entry) -> bool + Send + 'static,
        call: impl Future<Output = Result<Entry, crate::Error>> + Send + 'static,
    ) -> Result<Arc<Entry>, Error> {
        let (keep, name) = (self.clone(), name.clone());
        let brought = tokio::spawn(async move {
            let brought = call.await;
            let is_claimed = brought.as_ref().is_ok_and(claim);
            keep.settle(&name, bringing, brought).map(|entry| is_claimed.then_some(entry))
        });
        match brought.await {
            Ok(Ok(Some(entry))) => self.unless_closed(entry),
            Ok(Ok(None)) => Err(Error::Outlasted),
            Ok(Err(error)) => Err(Error::Service(error)),
            Err(_) => Err(Error::Interrupted),
        }
    }

    fn unless_closed(&self, entry: Arc<Entry>) -> Result<Arc<Entry>, Error> {
        if self.slots().is_some() { Ok(entry) } else { Err(Error::Closed) }
    }

    fn find(&self, name: &Name, claim: impl Fn(&Entry) -> bool) -> Result<Found<Entry>, Error> {
        let mut guard = self.slots();
        let slots = guard.as_mut().ok_or(Error::Closed)?;
        let gone = match slots.get(name) {
            Some(slot) if slot.is_on_its_way() => {
                count(&self.counts.joins);
                return Ok(Found::OnItsWay(slot.outcome.clone()));
            }
            Some(slot) => match slot.entry() {
                Some(entry) if claim(&entry) => {
                    count(&self.counts.hits);
                    return Ok(Found::There(entry));
                }
                over => {
                    add(&self.counts.expiries, usize::from(over.is_some()));
                    slots.pop(name)
                }
            },
            None => None,
        };
        count(&self.counts.misses);
        let (sender, waiting) = watch::channel(None);
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let evicted = slots.push(name.clone(), Slot { call, outcome: waiting });
        add(&self.counts.evictions, usize::from(evicted.is_some()));
        drop(guard); // what goes is wiped and reported outside of the lock
        drop((gone, evicted));
        Ok(Found::Absent(Bringing { call, outcome: sender }))
    }

    /// Hands what came of a call to all who wait. A failure is not kept: who comes next asks again.
    fn settle(
        &self,
        name: &Name,
        bringing: Bringing<Entry>,
        brought: Result<Entry, crate::Error>,
    ) -> Outcome<Entry> {
        let Bringing { call, outcome } = bringing;
        if brought.is_err() {
            count(&self.counts.failures);
            let mut guard = self.slots();
            if let Some(slots) = guard.as_mut()
                && slots.peek(name).is_some_and(|slot| slot.call == call)
            {
                slots.pop(name);
            }
        }
        let brought = brought.map(Arc::new).map_err(Arc::new);
        outcome.send_replace(Some(brought.clone()));
        brought
    }

    /// Lets go of the entries that are over.
    pub(super) fn tidy(&self, is_over: impl Fn(&Entry) -> bool) {
        let over = self.take(|_, slot| slot.entry().is_some_and(|entry| is_over(&entry)));
        add(&self.counts.expiries, over.len());
    }

    /// Lets go of entries; of one that is on its way nothing but its name is known. Answers how many they were.
    pub(super) fn invalidate(&self, which: impl Fn(&Name, Option<&Entry>) -> bool) -> usize {
        let gone = self.take(|name, slot| which(name, slot.entry().as_deref()));
        add(&self.counts.invalidations, gone.len());
        gone.len()
    }

    /// Lets go of all entries, and takes none any more.
    pub(super) fn close(&self) {
        let gone = self.slots().take();
        add(&self.counts.invalidations, gone.as_ref().map_or(0, LruCache::len));
    }

    fn take(&self, which: impl Fn(&Name, &Slot<Entry>) -> bool) -> Vec<Slot<Entry>> {
        let mut guard = self.slots();
        let Some(slots) = guard.as_mut() else { return Vec::new() };
        let names = slots.iter().filter(|(name, slot)| which(name, slot)).map(|(name, _)| name.clone());
        let names: Vec<Name> = names.collect();
        names.iter().filter_map(|name| slots.pop(name)).collect()
    }

    fn slots(&self) -> MutexGuard<'_, Option<LruCache<Name, Slot<Entry>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
