//! Bucket keys on a clock that stands, from a source that a test opens and closes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::{
    KeyReference, SecretBytes,
    envelope::{self, Opener, Sealer, Suite},
};

const MINUTE: Duration = Duration::from_secs(60);
const KEY: &str = "0193a000-0000-7000-8000-00000000000a";
const OTHER_KEY: &str = "0193a000-0000-7000-8000-00000000000b";

/// A call that arrived.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Generate(Requester, KeyReference, Suite, Duration, HashMap<String, String>),
    Decrypt(Requester, Vec<u8>, HashMap<String, String>),
}

/// A bucket key, its suite and its context.
type Made = (Vec<u8>, Suite, HashMap<String, String>);
/// A way to invalidate, and its name.
type Way = (&'static str, fn(&BucketKeys) -> usize);

/// Gives out bucket keys that open again, as long as it is open.
struct Source {
    clock: Arc<ManualClock>,
    seen: Mutex<Vec<Seen>>,
    reports: Mutex<Vec<(Requester, String, u64)>>,
    reported: Notify,
    made: Mutex<HashMap<Vec<u8>, Made>>,
    /// One for each call that may pass.
    open: Semaphore,
    /// What the next calls fail with.
    failures: Mutex<VecDeque<&'static str>>,
    /// What the next reports fail with.
    report_failures: Mutex<VecDeque<(Code, &'static str)>>,
    /// Receipts whose reports are throttled, or never answered.
    throttled: Mutex<HashSet<String>>,
    unanswered: Mutex<HashSet<String>>,
    /// How many reports are on their way, and how many were at the most.
    reporting: AtomicUsize,
    most_reporting: AtomicUsize,
    /// How long a call takes.
    takes: Mutex<Duration>,
    allows: Duration,
}

fn refused(code: Code, reason: &str) -> crate::Error {
    let details = ErrorDetails::with_error_info(reason, "kms.dewpoint", HashMap::new());
    Status::with_error_details(code, "refused", details).into()
}

impl Source {
    async fn pass(&self) -> Result<(), crate::Error> {
        self.open.acquire().await.expect("never closed").forget();
        self.clock.advance(*self.takes.lock().expect("fine"));
        match self.failures.lock().expect("fine").pop_front() {
            Some(reason) => Err(refused(Code::FailedPrecondition, reason)),
            None => Ok(()),
        }
    }

    fn calls(&self) -> usize {
        self.seen.lock().expect("fine").len()
    }

    async fn reports(&self, count: usize) -> Vec<(Requester, String, u64)> {
        loop {
            let reports = self.reports.lock().expect("fine").clone();
            if reports.len() >= count {
                return reports;
            }
            self.reported.notified().await;
        }
    }
}

/// Lets the trait, whose futures outlive a borrow, be that of a shared source.
struct Shared(Arc<Source>);

impl KeySource for Shared {
    fn generate(
        &self,
        requester: &Requester,
        key: &KeyReference,
        suite: Suite,
        validity: Duration,
        context: HashMap<String, String>,
    ) -> BoxFuture<Result<BucketKey, crate::Error>> {
        let source = self.0.clone();
        let key_id = match key {
            KeyReference::KeyId(id) => id.clone(),
            _ => KEY.to_owned(),
        };
        let seen = Seen::Generate(requester.clone(), key.clone(), suite, validity, context.clone());
        source.seen.lock().expect("fine").push(seen);
        Box::pin(async move {
            source.pass().await?;
            let mut made = source.made.lock().expect("fine");
            let number = made.len() + 1;
            let plaintext = vec![u8::try_from(number % 251).expect("a byte"); 32];
            let ciphertext = format!("sealed {number}").into_bytes();
            made.insert(ciphertext.clone(), (plaintext.clone(), suite, context));
            Ok(BucketKey {
                bucket_key_id: format!("bucket key {number}"),
                key_id,
                key_version: 1,
                plaintext: SecretBytes::from(plaintext),
                ciphertext,
                suite,
                validity: if validity.is_zero() { 3 * MINUTE } else { validity }.min(source.allows),
                most_uses: 1000,
                receipt: format!("receipt {number}").into_bytes(),
            })
        })
    }

    fn decrypt(
        &self,
        requester: &Requester,
        ciphertext: &[u8],
        _: Option<&KeyReference>,
        context: HashMap<String, String>,
    ) -> BoxFuture<Result<OpenedBucketKey, crate::Error>> {
        let (source, ciphertext) = (self.0.clone(), ciphertext.to_vec());
        let seen = Seen::Decrypt(requester.clone(), ciphertext.clone(), context.clone());
        source.seen.lock().expect("fine").push(seen);
        Box::pin(async move {
            source.pass().await?;
            let made = source.made.lock().expect("fine");
            match made.get(&ciphertext) {
                Some((plaintext, suite, sealed_in)) if *sealed_in == context => Ok(OpenedBucketKey {
                    bucket_key_id: format!("bucket key {}", plaintext[0]),
                    key_id: KEY.to_owned(),
                    key_version: 1,
                    plaintext: SecretBytes::from(plaintext.clone()),
                    suite: *suite,
                    validity: source.allows,
                }),
                _ => Err(refused(Code::InvalidArgument, "CANNOT_DECRYPT")),
            }
        })
    }

    fn report(
        &self,
        requester: &Requester,
        receipt: &[u8],
        uses: u64,
    ) -> BoxFuture<Result<(), crate::Error>> {
        let (source, requester) = (self.0.clone(), requester.clone());
        let receipt = String::from_utf8(receipt.to_vec()).expect("text");
        Box::pin(async move {
            let now = source.reporting.fetch_add(1, Ordering::SeqCst) + 1;
            source.most_reporting.fetch_max(now, Ordering::SeqCst);
            // Others begin before this one ends.
            tokio::task::yield_now().await;
            if source.unanswered.lock().expect("fine").contains(&receipt) {
                std::future::pending::<()>().await;
            }
            source.reporting.fetch_sub(1, Ordering::SeqCst);
            if let Some((code, reason)) = source.report_failures.lock().expect("fine").pop_front() {
                return Err(refused(code, reason));
            }
            if source.throttled.lock().expect("fine").contains(&receipt) {
                return Err(refused(Code::ResourceExhausted, "THROTTLED"));
            }
            source.reports.lock().expect("fine").push((requester, receipt, uses));
            source.reported.notify_one();
            Ok(())
        })
    }
}

struct World {
    clock: Arc<ManualClock>,
    source: Arc<Source>,
    keys: Arc<BucketKeys>,
}

impl World {
    fn new() -> Self {
        Self::with(BucketKeysConfig::default())
    }

    fn with(config: BucketKeysConfig) -> Self {
        Self::allowing(MOST_VALIDITY, config)
    }

    /// One whose service allows no longer validity.
    fn allowing(allows: Duration, config: BucketKeysConfig) -> Self {
        let clock = Arc::<ManualClock>::default();
        let source = Arc::new(Source {
            clock: clock.clone(),
            seen: Mutex::default(),
            reports: Mutex::default(),
            reported: Notify::new(),
            made: Mutex::default(),
            open: Semaphore::new(100_000),
            failures: Mutex::default(),
            report_failures: Mutex::default(),
            throttled: Mutex::default(),
            unanswered: Mutex::default(),
            reporting: AtomicUsize::default(),
            most_reporting: AtomicUsize::default(),
            takes: Mutex::default(),
            allows,
        });
        let keys = BucketKeys::with(Arc::new(Shared(source.clone())), clock.clone(), config);
        Self { clock, source, keys: Arc::new(keys.expect("in range")) }
    }

    async fn put(&self, bucket: &str, object: &str) -> Result<ObjectKey, Error> {
        let name = ObjectName { bucket, object };
        self.keys.new_object_key(&user("u"), name, &key(KEY), Suite::Aes256Gcm).await
    }

    async fn get(&self, bucket: &str, object: &str, sealed: &[u8]) -> Result<OpenedObjectKey, Error> {
        self.keys.open_object_key(&user("u"), ObjectName { bucket, object }, None, sealed).await
    }

    /// Calls wait from now on; answers how many were let through before and not made.
    fn shut(&self) {
        self.source.open.forget_permits(usize::MAX >> 3);
    }

    async fn settled(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

fn user(name: &str) -> Requester {
    Requester::user(name)
}

fn key(id: &str) -> KeyReference {
    KeyReference::KeyId(id.to_owned())
}

#[tokio::test(start_paused = true)]
async fn many_objects_cost_one_call_to_write_and_one_to_read() {
    let world = World::new();
    let mut keys = HashSet::new();
    for number in 0..100 {
        let object = format!("{number}");
        let made = world.put("b", &object).await.expect("a key");
        let opened = world.get("b", &object, &made.sealed).await.expect("the same key");
        assert_eq!(opened.plaintext.expose(), made.plaintext.expose());
        assert_eq!((&opened.bucket_key_id, opened.suite), (&made.bucket_key_id, Suite::Aes256Gcm));
        keys.insert(made.plaintext.expose().to_vec());
    }
    assert_eq!((keys.len(), world.source.calls()), (100, 2));
    let seen = world.source.seen.lock().expect("fine").clone();
    let context = HashMap::from([("bucket".to_owned(), "b".to_owned())]);
    let validity = Duration::from_secs(180);
    let generate = Seen::Generate(user("u"), key(KEY), Suite::Aes256Gcm, validity, context.clone());
    assert_eq!(seen, [generate, Seen::Decrypt(user("u"), b"sealed 1".to_vec(), context)]);
    let Counters { writing, reading, .. } = world.keys.counters();
    let expected = KeptCounters { hits: 99, misses: 1, kept: 1, ..KeptCounters::default() };
    assert_eq!((writing, reading), (expected, expected));
}

#[tokio::test(start_paused = true)]
async fn the_same_object_put_again_has_another_key() {
    let world = World::new();
    let (first, second) =
        (world.put("b", "o").await.expect("a key"), world.put("b", "o").await.expect("a key"));
    assert_ne!(first.plaintext.expose(), second.plaintext.expose());
    assert_ne!(first.sealed, second.sealed);
}

#[tokio::test(start_paused = true)]
async fn a_sealed_key_is_of_no_use_for_another_object_or_bucket() {
    let world = World::new();
    let made = world.put("b", "o").await.expect("a key");
    let moved = world.get("b", "other", &made.sealed).await.expect("some key");
    assert_ne!(moved.plaintext.expose(), made.plaintext.expose());
    let elsewhere = world.get("c", "o", &made.sealed).await.expect_err("another bucket");
    assert_eq!(elsewhere.reason(), Some("CANNOT_DECRYPT"));
    let mut altered = made.sealed.clone();
    altered[10] ^= 1; // the salt
    let salted = world.get("b", "o", &altered).await.expect("some key");
    assert_ne!(salted.plaintext.expose(), made.plaintext.expose());
    altered[5] = 2; // the suite
    let error = world.get("b", "o", &altered).await.expect_err("another suite");
    assert!(matches!(error, Error::SuiteMismatch), "{error:?}");
}

/// What `docs/bucket-keys.md` says of a campaign that moves bucket keys.
#[tokio::test(start_paused = true)]
async fn a_moved_bucket_key_takes_the_place_of_the_old_one_beside_an_envelope() {
    let (world, content) = (World::new(), b"a harbour");
    let made = world.put("b", "o").await.expect("a key");
    let moved = b"sealed anew";
    let same = world.source.made.lock().expect("fine")[&b"sealed 1"[..]].clone();
    world.source.made.lock().expect("fine").insert(moved.to_vec(), same);
    let kept = [&made.sealed[..38], moved].concat();
    let opened = world.get("b", "o", &kept).await.expect("the same key");
    assert_eq!(opened.plaintext.expose(), made.plaintext.expose());

    // The part that stays may be authenticated by an envelope, the whole may not.
    for (sealed_key, replaced, is_sound) in
        [(&made.sealed[..38], &kept[..38], true), (&made.sealed[..], &kept[..], false)]
    {
        let mut stored = Vec::new();
        let sealer = Sealer::new(Suite::Aes256Gcm, made.plaintext.expose(), sealed_key).expect("a key");
        envelope::seal_stream(sealer, &mut &content[..], &mut stored).await.expect("sealed");
        let head = 41 + sealed_key.len();
        let length = u16::try_from(replaced.len()).expect("short").to_be_bytes();
        let stored = [&stored[..39], &length, replaced, &stored[head..]].concat();
        let mut stored = &stored[..];
        let header = envelope::read_header(&mut stored).await.expect("an envelope");
        let opener = Opener::new(header, opened.plaintext.expose());
        assert_eq!(opener.is_ok(), is_sound);
        if let Ok(opener) = opener {
            let mut read = Vec::new();
            envelope::open_stream(&opener, &mut stored, &mut read).await.expect("it opens");
            assert_eq!(read, content);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_may_be_decided_otherwise_has_a_bucket_key_of_its_own() {
    let world = World::new();
    let requesters = [
        user("u"),
        user("v"),
        user("u").in_project("p"),
        user("u").with_permissions("temporary"),
        Requester::default(),
    ];
    let mut bucket_keys = HashSet::new();
    for requester in &requesters {
        for bucket in ["b", "c"] {
            for key in [key(KEY), key(OTHER_KEY), KeyReference::Service("obs".to_owned())] {
                for suite in [Suite::Aes256Gcm, Suite::Sm4Gcm] {
                    let name = ObjectName { bucket, object: "o" };
                    for _ in 0..2 {
                        let made = world.keys.new_object_key(requester, name, &key, suite).await;
                        let made = made.expect("a key");
                        assert_eq!(made.plaintext.expose().len(), usize::from(suite.key_length()));
                        bucket_keys.insert(made.bucket_key_id);
                    }
                }
            }
        }
    }
    assert_eq!((bucket_keys.len(), world.source.calls()), (60, 60));
    let sealed = world.put("b", "o").await.expect("a key").sealed;
    for requester in &requesters {
        let name = ObjectName { bucket: "b", object: "o" };
        world.keys.open_object_key(requester, name, None, &sealed).await.expect("a key");
    }
    assert_eq!(world.source.calls(), 60 + requesters.len());
}

#[tokio::test(start_paused = true)]
async fn a_bucket_key_is_used_until_its_validity_is_over_and_not_after() {
    let (second, moment) = (Duration::from_secs(1), Duration::from_millis(1));
    for (configured, allowed, expected) in [(180, 900, 180), (900, 900, 900), (180, 60, 60)] {
        let config = BucketKeysConfig { validity: configured * second, ..BucketKeysConfig::default() };
        let world = World::allowing(allowed * second, config);
        let made = world.put("b", "o").await.expect("a key");
        world.get("b", "o", &made.sealed).await.expect("the same key");
        world.clock.advance((expected * second).saturating_sub(moment));
        let last = world.put("b", "o").await.expect("a key");
        world.get("b", "o", &made.sealed).await.expect("the same key");
        assert_eq!((last.bucket_key_id, world.source.calls()), (made.bucket_key_id, 2));
        world.clock.advance(moment);
        let next = world.put("b", "o").await.expect("a key");
        world.get("b", "o", &made.sealed).await.expect("the same key");
        assert_eq!((next.bucket_key_id.as_str(), world.source.calls()), ("bucket key 2", 4));
        let counters = world.keys.counters();
        assert_eq!((counters.writing.expiries, counters.reading.expiries), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_validity_begins_before_the_service_decides() {
    let world = World::new();
    *world.source.takes.lock().expect("fine") = 2 * MINUTE;
    world.put("b", "o").await.expect("a key");
    *world.source.takes.lock().expect("fine") = Duration::ZERO;
    world.clock.advance(MINUTE);
    let next = world.put("b", "o").await.expect("a key");
    assert_eq!(next.bucket_key_id, "bucket key 2");
    // One that takes longer than that is of no use, and is not asked for again and again.
    *world.source.takes.lock().expect("fine") = 3 * MINUTE;
    let error = world.put("c", "o").await.expect_err("over when it came");
    assert!(matches!(error, Error::Outlasted), "{error:?}");
    assert_eq!(world.source.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn many_who_need_the_same_bucket_key_make_one_call() {
    let world = Arc::new(World::new());
    world.shut();
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let world = world.clone();
            tokio::spawn(async move { world.put("b", &format!("{number}")).await })
        })
        .collect();
    world.settled().await;
    assert_eq!(world.source.calls(), 1);
    // Who asked first gives up; what it asked for comes all the same.
    tasks[0].abort();
    world.source.open.add_permits(1);
    for task in tasks.into_iter().skip(1) {
        assert_eq!(task.await.expect("not aborted").expect("a key").bucket_key_id, "bucket key 1");
    }
    let writing = world.keys.counters().writing;
    assert_eq!((writing.misses, writing.joins, world.source.calls()), (1, 49, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_all_who_wait_and_not_kept() {
    let world = Arc::new(World::new());
    world.shut();
    world.source.failures.lock().expect("fine").push_back("KEY_DISABLED");
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.put("b", "o").await })
        })
        .collect();
    world.settled().await;
    world.source.open.add_permits(2);
    for task in tasks {
        assert_eq!(task.await.expect("it ends").expect_err("refused").reason(), Some("KEY_DISABLED"));
    }
    assert_eq!((world.source.calls(), world.keys.counters().writing.kept), (1, 0));
    world.put("b", "o").await.expect("enabled again");
    let writing = world.keys.counters().writing;
    assert_eq!((writing.failures, writing.misses, writing.kept), (1, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_objects_hang_on_a_bucket_key_than_may() {
    let world = World::with(BucketKeysConfig { most_uses: 3, ..BucketKeysConfig::default() });
    let mut uses = HashMap::<String, u64>::new();
    for _ in 0..7 {
        *uses.entry(world.put("b", "o").await.expect("a key").bucket_key_id).or_default() += 1;
    }
    let mut uses: Vec<u64> = uses.into_values().collect();
    uses.sort_unstable();
    assert_eq!(uses, [1, 3, 3]);
    world.keys.close().await;
    let mut told: Vec<u64> = world.source.reports(3).await.into_iter().map(|(.., uses)| uses).collect();
    told.sort_unstable();
    assert_eq!(told, uses);
}

#[tokio::test(start_paused = true)]
async fn as_many_are_kept_as_was_said_and_the_least_used_goes_and_is_reported() {
    let capacity = NonZeroUsize::new(2).expect("not 0");
    let world = World::with(BucketKeysConfig { capacity, ..BucketKeysConfig::default() });
    for bucket in ["a", "b", "a", "c", "a"] {
        world.put(bucket, "o").await.expect("a key");
    }
    let writing = world.keys.counters().writing;
    assert_eq!((writing.misses, writing.evictions, writing.kept), (3, 1, 2));
    assert_eq!(world.source.reports(1).await, [(user("u"), "receipt 2".to_owned(), 1)]);
    world.put("b", "o").await.expect("a key");
    assert_eq!(world.source.reports(2).await[1], (user("u"), "receipt 3".to_owned(), 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_invalidated_is_asked_for_again() {
    let world = World::new();
    let ways: [Way; 6] = [
        ("its key", |keys| keys.invalidate_key(KEY).expect("an id")),
        ("its requester", |keys| keys.invalidate_requester(&user("u"))),
        ("its user", |keys| keys.invalidate_user(&user("u").with_permissions("others"))),
        ("its user's of its key", |keys| {
            keys.invalidate_key_of_user(KEY, &user("u").with_permissions("others")).expect("an id")
        }),
        ("its bucket", |keys| keys.invalidate_bucket("b")),
        ("all", BucketKeys::invalidate_all),
    ];
    for (what, invalidate) in ways {
        world.put("b", "o").await.expect("a key");
        let calls = world.source.calls();
        let untouched = world.keys.invalidate_key(OTHER_KEY).expect("an id")
            + world.keys.invalidate_bucket("another")
            + world.keys.invalidate_requester(&user("u").with_permissions("others"))
            + world.keys.invalidate_user(&user("v"))
            + world.keys.invalidate_user(&user("u").in_project("another"))
            + world.keys.invalidate_key_of_user(OTHER_KEY, &user("u")).expect("an id")
            + world.keys.invalidate_key_of_user(KEY, &user("v")).expect("an id");
        assert_eq!(untouched, 0);
        world.put("b", "o").await.expect("a key");
        assert_eq!(world.source.calls(), calls, "{what}");
        assert_eq!(invalidate(&world.keys), 1, "{what}");
        world.put("b", "o").await.expect("a key");
        assert_eq!(world.source.calls(), calls + 1, "{what}");
    }
    assert_eq!(world.keys.counters().writing.invalidations, 6);
    assert_eq!(world.source.reports(6).await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_when_it_was_invalidated_is_not_kept() {
    let world = Arc::new(World::new());
    world.shut();
    let asking = world.clone();
    let first = tokio::spawn(async move { asking.put("b", "o").await });
    world.settled().await;
    assert_eq!(world.keys.invalidate_key(OTHER_KEY), Ok(0));
    assert_eq!(world.keys.invalidate_key(KEY), Ok(1));
    world.source.open.add_permits(2);
    first.await.expect("it ends").expect("who asked before gets it");
    assert_eq!(world.put("b", "o").await.expect("a key").bucket_key_id, "bucket key 2");
    assert_eq!(world.source.reports(1).await, [(user("u"), "receipt 1".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_key_that_nobody_needs_any_more_goes_by_itself_and_is_reported() {
    let world = World::new();
    for _ in 0..5 {
        world.put("b", "o").await.expect("a key");
    }
    world.clock.advance(3 * MINUTE);
    assert_eq!(world.source.reports(1).await, [(user("u"), "receipt 1".to_owned(), 5)]);
    assert_eq!(world.keys.counters().writing.kept, 0);
}

#[tokio::test(start_paused = true)]
async fn a_report_waits_for_the_service_and_gives_up_when_it_is_refused() {
    let world = World::new();
    world.put("b", "o").await.expect("a key");
    world.put("c", "o").await.expect("a key");
    let away = [(Code::Unavailable, "AUDIT_UNAVAILABLE"), (Code::ResourceExhausted, "THROTTLED")];
    let refused = [(Code::InvalidArgument, "INVALID_FIELD")];
    world.source.report_failures.lock().expect("fine").extend(away.into_iter().chain(refused));
    world.keys.invalidate_all();
    world.source.reports(1).await;
    world.keys.close().await;
    let counters = world.keys.counters();
    assert_eq!((counters.reports, counters.lost_reports), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_key_is_invalidated_by_any_of_its_names_and_by_nothing_else() {
    let world = World::new();
    for name in [
        KEY.to_owned(),
        format!("cn-north-4:acme:key/{KEY}"),
        format!("arn:aws:kms:cn-north-4:acme:key/{KEY}"),
    ] {
        world.put("b", "o").await.expect("a key");
        assert_eq!(world.keys.invalidate_key(&name), Ok(1), "{name}");
    }
    world.put("b", "o").await.expect("a key");
    for name in ["k", "obs/default", &KEY.to_uppercase()] {
        assert!(world.keys.invalidate_key(name).is_err(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_their_keys_however_few_uses_one_has() {
    let world = Arc::new(World::with(BucketKeysConfig { most_uses: 1, ..BucketKeysConfig::default() }));
    world.shut();
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let world = world.clone();
            tokio::spawn(async move { world.put("b", &format!("{number}")).await })
        })
        .collect();
    world.settled().await;
    world.source.open.add_permits(20);
    let mut bucket_keys = HashSet::new();
    for task in tasks {
        bucket_keys.insert(task.await.expect("it ends").expect("a key").bucket_key_id);
    }
    assert_eq!((bucket_keys.len(), world.source.calls()), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn all_bucket_keys_of_a_full_gateway_may_end_at_once_and_are_reported() {
    let capacity = NonZeroUsize::new(6000).expect("not 0");
    let world = World::with(BucketKeysConfig { capacity, ..BucketKeysConfig::default() });
    for bucket in 0..6000 {
        world.put(&format!("{bucket}"), "o").await.expect("a key");
    }
    assert_eq!(world.keys.invalidate_all(), 6000);
    world.source.reports(6000).await;
    world.settled().await;
    let counters = world.keys.counters();
    assert_eq!((counters.reports, counters.lost_reports), (6000, 0));
    assert_eq!(world.source.most_reporting.load(Ordering::SeqCst), 16);
}

#[tokio::test(start_paused = true)]
async fn no_more_reports_wait_than_may() {
    let capacity = NonZeroUsize::new(10).expect("not 0");
    let world = World::with(BucketKeysConfig { capacity, ..BucketKeysConfig::default() });
    let receipts = (1..=50).map(|number| format!("receipt {number}"));
    world.source.throttled.lock().expect("fine").extend(receipts);
    for bucket in 0..50 {
        world.put(&format!("{bucket}"), "o").await.expect("a key");
    }
    world.keys.invalidate_all();
    assert_eq!(world.keys.counters().lost_reports, 10);
    world.source.throttled.lock().expect("fine").clear();
    world.source.reports(40).await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_throttled_or_unanswered_holds_up_no_other() {
    let world = World::new();
    for bucket in 0..100 {
        world.put(&format!("{bucket}"), "o").await.expect("a key");
    }
    let throttled = (1..=20).map(|number| format!("receipt {number}"));
    world.source.throttled.lock().expect("fine").extend(throttled);
    let unanswered = (21..=40).map(|number| format!("receipt {number}"));
    world.source.unanswered.lock().expect("fine").extend(unanswered);
    world.keys.invalidate_all();
    let told = world.source.reports(60).await;
    assert_eq!(told.len(), 60);
    world.source.throttled.lock().expect("fine").clear();
    world.source.unanswered.lock().expect("fine").clear();
    world.source.reports(100).await;
    world.settled().await;
    let counters = world.keys.counters();
    assert_eq!((counters.reports, counters.lost_reports), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_wiped_although_no_report_is_answered() {
    let world = World::new();
    let unanswered = (1..=100).map(|number| format!("receipt {number}"));
    world.source.unanswered.lock().expect("fine").extend(unanswered);
    for bucket in 0..50 {
        world.put(&format!("{bucket}"), "o").await.expect("a key");
    }
    world.keys.invalidate_all();
    world.settled().await;
    world.put("b", "o").await.expect("a key");
    world.clock.advance(3 * MINUTE);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.keys.counters().writing.kept, 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_closed_gives_out_nothing() {
    let world = Arc::new(World::new());
    let made = world.put("b", "o").await.expect("a key");
    world.get("b", "o", &made.sealed).await.expect("the same key");
    world.shut();
    let asking = world.clone();
    let on_its_way = tokio::spawn(async move { asking.put("c", "o").await });
    world.settled().await;
    world.keys.close().await;
    world.source.open.add_permits(10);
    let calls = world.source.calls();
    for refused in [
        on_its_way.await.expect("it ends").map(drop),
        world.put("b", "o").await.map(drop),
        world.put("c", "o").await.map(drop),
        world.get("b", "o", &made.sealed).await.map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    }
    assert_eq!(world.source.calls(), calls);
    let Counters { writing, reading, .. } = world.keys.counters();
    assert_eq!((writing.kept, reading.kept), (0, 0));
    world.keys.close().await;
}

#[tokio::test(start_paused = true)]
async fn closing_ends_although_no_report_is_answered() {
    let world = World::new();
    let unanswered = (1..=100).map(|number| format!("receipt {number}"));
    world.source.unanswered.lock().expect("fine").extend(unanswered);
    for bucket in 0..100 {
        world.put(&format!("{bucket}"), "o").await.expect("a key");
    }
    let begun = tokio::time::Instant::now();
    world.keys.close().await;
    assert!(begun.elapsed() <= Duration::from_secs(30), "{:?}", begun.elapsed());
    let counters = world.keys.counters();
    assert_eq!((counters.reports, counters.lost_reports), (0, 100));
}

#[tokio::test(start_paused = true)]
async fn closing_tries_for_half_a_minute_to_report_all() {
    for (failures, told, lost) in [(0, 2, 0), (10, 2, 0), (1000, 0, 2)] {
        let world = World::new();
        world.put("b", "o").await.expect("a key");
        world.put("c", "o").await.expect("a key");
        let away = std::iter::repeat_n((Code::Unavailable, "AUDIT_UNAVAILABLE"), failures);
        world.source.report_failures.lock().expect("fine").extend(away);
        let begun = tokio::time::Instant::now();
        world.keys.close().await;
        assert!(begun.elapsed() <= Duration::from_secs(30), "{:?}", begun.elapsed());
        let counters = world.keys.counters();
        assert_eq!((counters.reports, counters.lost_reports, counters.writing.kept), (told, lost, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_without_closing_is_reported_too() {
    let World { source, keys, .. } = World::new();
    let name = ObjectName { bucket: "b", object: "o" };
    keys.new_object_key(&user("u"), name, &key(KEY), Suite::Sm4Gcm).await.expect("a key");
    drop(keys);
    assert_eq!(source.reports(1).await, [(user("u"), "receipt 1".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_out_of_range_is_refused_before_anything_is_asked() {
    let source = World::new().source;
    let second = Duration::from_secs(1);
    let config = BucketKeysConfig::default();
    for wrong in [
        BucketKeysConfig { validity: Duration::ZERO, ..config.clone() },
        BucketKeysConfig { validity: MOST_VALIDITY + second, ..config.clone() },
        BucketKeysConfig { validity: second + Duration::from_millis(1), ..config.clone() },
        BucketKeysConfig { most_uses: 0, ..config.clone() },
        BucketKeysConfig { capacity: NonZeroUsize::MAX, ..config.clone() },
        BucketKeysConfig { capacity: NonZeroUsize::new(MOST_CAPACITY + 1).expect("not 0"), ..config.clone() },
    ] {
        let clock = Arc::<ManualClock>::default();
        let refused = BucketKeys::with(Arc::new(Shared(source.clone())), clock, wrong.clone());
        assert!(matches!(refused, Err(crate::Error::InvalidConfig(_))), "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_shows_a_key() {
    let world = World::new();
    let made = world.put("b", "o").await.expect("a key");
    let opened = world.get("b", "o", &made.sealed).await.expect("the same key");
    let listed = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    let secrets = [listed(made.plaintext.expose()), listed(&[1; 32]), hex::encode(made.plaintext.expose())];
    for shown in [format!("{made:?}"), format!("{opened:?}"), format!("{:?}", world.keys)] {
        assert!(!secrets.iter().any(|secret| shown.contains(secret)), "{shown}");
    }
}
