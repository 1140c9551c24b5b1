//! The bucket keys that a gateway holds.

use std::{
    collections::HashMap,
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    BucketKey, Clock, Counters, Error, KeySource, ObjectKey, ObjectName, OpenedBucketKey, OpenedObjectKey,
    Requester, SystemClock,
    counters::get,
    keep::Keep,
    object_key::SealedObjectKey,
    reports::{Outbox, Report, ReportCounts, Reporter},
};
use crate::{
    Client, KeyReference, SecretBytes,
    envelope::Suite,
    rules::{KeyName, Violation},
};

/// The longest validity that can be configured.
pub const MOST_VALIDITY: Duration = Duration::from_secs(900);
/// The most bucket keys that can be held for writing, and for reading.
pub const MOST_CAPACITY: usize = 1_000_000;
/// How many reports may wait for each bucket key that is held for writing: as many as end while the service is away for
/// some validities.
const REPORTS_PER_PLACE: usize = 4;
/// How often bucket keys are looked for that are over.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// The length of a bucket key, in bytes.
const KEY_BYTES: usize = 32;

/// How many bucket keys a gateway holds, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketKeysConfig {
    /// How long a bucket key is used, in whole seconds: 1 s to [`MOST_VALIDITY`]. The service may allow less. Default
    /// 180 s.
    // DEW: OBS keeps a bucket key for about 3 minutes.
    pub validity: Duration,
    /// How many are held for writing, and how many for reading: at most [`MOST_CAPACITY`]. Default 10,000 each.
    pub capacity: NonZeroUsize,
    /// How many objects are put under one. The service may allow less. Default 1,000,000.
    pub most_uses: u64,
}

impl Default for BucketKeysConfig {
    fn default() -> Self {
        Self {
            validity: Duration::from_secs(180),
            capacity: NonZeroUsize::new(10_000).unwrap_or(NonZeroUsize::MIN),
            most_uses: 1_000_000,
        }
    }
}

impl BucketKeysConfig {
    fn check(&self) -> Result<(), crate::Error> {
        let problem = if self.validity.is_zero() || self.validity > MOST_VALIDITY {
            "the validity of bucket keys must be 1 to 900 seconds"
        } else if self.validity.subsec_nanos() != 0 {
            "the validity of bucket keys must be whole seconds"
        } else if self.capacity.get() > MOST_CAPACITY {
            "at most 1000000 bucket keys can be held"
        } else if self.most_uses == 0 {
            "at least one object must be put under a bucket key"
        } else {
            return Ok(());
        };
        Err(crate::Error::InvalidConfig(problem.to_owned()))
    }
}

/// Which bucket key objects are put under.
#[derive(Clone, PartialEq, Eq, Hash)]
struct WriteName {
    requester: Requester,
    bucket: String,
    key: KeyReference,
    suite: Suite,
}

/// Which bucket key objects are read with.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ReadName {
    requester: Requester,
    bucket: String,
    key: Option<KeyReference>,
    ciphertext: Vec<u8>,
}

/// A bucket key that objects are put under. When the last one lets go of it, it is wiped and its use is reported.
struct Writing {
    bucket_key: BucketKey,
    requester: Requester,
    expires: Duration,
    most_uses: u64,
    uses: AtomicU64,
    reporter: Reporter,
}

impl Writing {
    /// Puts one more object under it, if that may be.
    fn claim(&self, now: Duration) -> bool {
        let next = |uses| (uses < self.most_uses).then_some(uses + 1);
        now < self.expires && self.uses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    fn is_over(&self, now: Duration) -> bool {
        now >= self.expires || self.uses.load(Ordering::Relaxed) >= self.most_uses
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let receipt = std::mem::take(&mut self.bucket_key.receipt);
        self.reporter.take(Report { requester: self.requester.clone(), receipt, uses: *self.uses.get_mut() });
    }
}

/// A bucket key that objects are read with.
struct Reading {
    bucket_key: OpenedBucketKey,
    expires: Duration,
}

/// The bucket keys that a gateway holds; see the [module](super).
///
/// To be made in a runtime, and [closed](Self::close) at the end. One that is dropped before sends its last reports if the
/// runtime goes on.
pub struct BucketKeys {
    shared: Arc<Shared>,
    closing: Arc<Notify>,
    reports: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    source: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    config: BucketKeysConfig,
    writing: Arc<Keep<WriteName, Writing>>,
    reading: Arc<Keep<ReadName, Reading>>,
    reporter: Reporter,
    reports: Arc<ReportCounts>,
}

impl BucketKeys {
    /// Holds bucket keys of the service. [`crate::Error::InvalidConfig`] names what is out of range.
    pub fn new(client: Client, config: BucketKeysConfig) -> Result<Self, crate::Error> {
        Self::with(Arc::new(client), Arc::new(SystemClock::new()), config)
    }

    /// The same with another source and another clock.
    pub fn with(
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
        config: BucketKeysConfig,
    ) -> Result<Self, crate::Error> {
        config.check()?;
        let reports = Arc::<ReportCounts>::default();
        let most_waiting = REPORTS_PER_PLACE * config.capacity.get();
        let (reporter, outbox) = Outbox::new(most_waiting, source.clone(), reports.clone());
        let [writing, reading] = [config.capacity; 2];
        let (writing, reading) = (Arc::new(Keep::new(writing)), Arc::new(Keep::new(reading)));
        let shared = Arc::new(Shared { source, clock, config, writing, reading, reporter, reports });
        tokio::spawn(tidying(Arc::downgrade(&shared)));
        let closing = Arc::<Notify>::default();
        let reports = tokio::spawn(outbox.deliver(closing.clone()));
        Ok(Self { shared, closing, reports: Mutex::new(Some(reports)) })
    }

    /// A key for a new object, under a bucket key of `key` for this requester. Each call is one use of the bucket key,
    /// whatever becomes of the object. `key` is named in one way, or each name has a bucket key of its own.
    pub async fn new_object_key(
        &self,
        requester: &Requester,
        name: ObjectName<'_>,
        key: &KeyReference,
        suite: Suite,
    ) -> Result<ObjectKey, Error> {
        let writing = self.shared.writing(requester, name.bucket, key, suite).await?;
        let bucket_key = &writing.bucket_key;
        let sealed = SealedObjectKey::fresh(suite, &bucket_key.ciphertext)?;
        Ok(ObjectKey {
            key_id: bucket_key.key_id.clone(),
            key_version: bucket_key.key_version,
            bucket_key_id: bucket_key.bucket_key_id.clone(),
            plaintext: sealed.derive(&bucket_key.plaintext, name)?,
            sealed: sealed.encode(),
        })
    }

    /// The key of an object, from what was kept of it. If `key` is given, it must have sealed the bucket key. A sealed key
    /// of another object gives a key under which nothing of this one opens.
    pub async fn open_object_key(
        &self,
        requester: &Requester,
        name: ObjectName<'_>,
        key: Option<&KeyReference>,
        sealed: &[u8],
    ) -> Result<OpenedObjectKey, Error> {
        let sealed = SealedObjectKey::parse(sealed)?;
        let reading = self.shared.reading(requester, name.bucket, key, sealed.bucket_key).await?;
        let bucket_key = &reading.bucket_key;
        if bucket_key.suite != sealed.suite {
            return Err(Error::SuiteMismatch);
        }
        Ok(OpenedObjectKey {
            key_id: bucket_key.key_id.clone(),
            key_version: bucket_key.key_version,
            bucket_key_id: bucket_key.bucket_key_id.clone(),
            suite: sealed.suite,
            plaintext: sealed.derive(&bucket_key.plaintext, name)?,
        })
    }

    /// Lets go of the bucket keys of this key, in whatever form it is named: for a gateway that learns that it was
    /// disabled. Answers how many they were, those among them that are on their way and may be this key's.
    pub fn invalidate_key(&self, key: &str) -> Result<usize, Violation> {
        self.invalidate_key_where(key, |_| true)
    }

    /// Lets go of this user's bucket keys of this key, as [`invalidate_key`](Self::invalidate_key) and
    /// [`invalidate_user`](Self::invalidate_user) do: for a gateway that learns that the user may not use this key.
    pub fn invalidate_key_of_user(&self, key: &str, user: &Requester) -> Result<usize, Violation> {
        self.invalidate_key_where(key, |requester| requester.is_user_of(user))
    }

    fn invalidate_key_where(
        &self,
        key: &str,
        which: impl Fn(&Requester) -> bool,
    ) -> Result<usize, Violation> {
        let KeyName { key_id, .. } = KeyName::parse(key)?;
        let named = |name: &KeyReference| match name {
            KeyReference::KeyId(id) => KeyName::parse(id).map_or(true, |name| name.key_id == key_id),
            _ => true,
        };
        let writing = self.shared.writing.invalidate(|name, entry| {
            which(&name.requester)
                && entry.map_or_else(|| named(&name.key), |entry| entry.bucket_key.key_id == key_id)
        });
        let reading = self.shared.reading.invalidate(|name, entry| {
            let unknown = || name.key.as_ref().is_none_or(named);
            which(&name.requester) && entry.map_or_else(unknown, |entry| entry.bucket_key.key_id == key_id)
        });
        Ok(writing + reading)
    }

    /// Lets go of this requester's bucket keys: for a gateway that learns that its permissions have changed.
    pub fn invalidate_requester(&self, requester: &Requester) -> usize {
        self.shared.writing.invalidate(|name, _| name.requester == *requester)
            + self.shared.reading.invalidate(|name, _| name.requester == *requester)
    }

    /// Lets go of the bucket keys of this requester's user in its project, whatever permissions they are for: for a gateway
    /// that learns that the user itself may do less.
    pub fn invalidate_user(&self, user: &Requester) -> usize {
        self.shared.writing.invalidate(|name, _| name.requester.is_user_of(user))
            + self.shared.reading.invalidate(|name, _| name.requester.is_user_of(user))
    }

    /// Lets go of this bucket's bucket keys.
    pub fn invalidate_bucket(&self, bucket: &str) -> usize {
        self.shared.writing.invalidate(|name, _| name.bucket == bucket)
            + self.shared.reading.invalidate(|name, _| name.bucket == bucket)
    }

    /// Lets go of all bucket keys.
    pub fn invalidate_all(&self) -> usize {
        self.shared.writing.invalidate(|_, _| true) + self.shared.reading.invalidate(|_, _| true)
    }

    /// Lets go of the bucket keys that are over. It happens every second by itself.
    pub fn tidy(&self) {
        self.shared.tidy();
    }

    /// What happened until now.
    pub fn counters(&self) -> Counters {
        let Shared { writing, reading, reports, .. } = &*self.shared;
        Counters {
            writing: writing.counters(),
            reading: reading.counters(),
            reports: get(&reports.told),
            lost_reports: get(&reports.lost),
        }
    }

    /// Lets go of all bucket keys and gives out none any more ([`Error::Closed`]); waits until their use is reported, or
    /// cannot be: for half a minute at the longest. To be called when no object is worked on any more: the use of a
    /// bucket key that still has a holder then is not reported.
    pub async fn close(&self) {
        self.shared.writing.close();
        self.shared.reading.close();
        self.closing.notify_one();
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reports) = reports {
            // It cannot be cancelled, and has nothing that panics.
            drop(reports.await);
        }
    }
}

impl fmt::Debug for BucketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketKeys").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

impl Shared {
    async fn writing(
        &self,
        requester: &Requester,
        bucket: &str,
        key: &KeyReference,
        suite: Suite,
    ) -> Result<Arc<Writing>, Error> {
        let requester = requester.clone();
        let name = WriteName { requester, bucket: bucket.to_owned(), key: key.clone(), suite };
        let clock = self.clock.clone();
        let claim = move |writing: &Writing| writing.claim(clock.now());
        let bring = || {
            // Before the service decides: no use is later than a validity after its decision.
            let asked = self.clock.now();
            let BucketKeysConfig { validity, most_uses, .. } = self.config;
            let made = self.source.generate(&name.requester, key, suite, validity, context(bucket));
            let (requester, reporter) = (name.requester.clone(), self.reporter.clone());
            async move {
                let bucket_key = made.await?;
                check(&bucket_key.plaintext)?;
                if bucket_key.suite != suite {
                    return Err(crate::Error::InvalidAnswer("the bucket key is for another algorithm"));
                }
                let expires = asked + validity.min(bucket_key.validity);
                let most_uses = most_uses.min(bucket_key.most_uses);
                let uses = AtomicU64::new(0);
                Ok(Writing { bucket_key, requester, expires, most_uses, uses, reporter })
            }
        };
        self.writing.entry(&name, claim, bring).await
    }

    async fn reading(
        &self,
        requester: &Requester,
        bucket: &str,
        key: Option<&KeyReference>,
        ciphertext: &[u8],
    ) -> Result<Arc<Reading>, Error> {
        let (requester, bucket) = (requester.clone(), bucket.to_owned());
        let name = ReadName { requester, bucket, key: key.cloned(), ciphertext: ciphertext.to_vec() };
        let clock = self.clock.clone();
        let claim = move |reading: &Reading| clock.now() < reading.expires;
        let bring = || {
            let (asked, validity) = (self.clock.now(), self.config.validity);
            let opened = self.source.decrypt(&name.requester, ciphertext, key, context(&name.bucket));
            async move {
                let bucket_key = opened.await?;
                check(&bucket_key.plaintext)?;
                let expires = asked + validity.min(bucket_key.validity);
                Ok(Reading { bucket_key, expires })
            }
        };
        self.reading.entry(&name, claim, bring).await
    }

    fn tidy(&self) {
        let now = self.clock.now();
        self.writing.tidy(|writing| writing.is_over(now));
        self.reading.tidy(|reading| now >= reading.expires);
    }
}

fn context(bucket: &str) -> HashMap<String, String> {
    HashMap::from([("bucket".to_owned(), bucket.to_owned())])
}

fn check(bucket_key: &SecretBytes) -> Result<(), crate::Error> {
    if bucket_key.expose().len() == KEY_BYTES {
        Ok(())
    } else {
        Err(crate::Error::InvalidAnswer("the bucket key has another length"))
    }
}

/// Lets go of what is over, whatever becomes of reports, until nobody holds the bucket keys.
async fn tidying(shared: Weak<Shared>) {
    let mut ticks = interval(TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.tidy();
    }
}
