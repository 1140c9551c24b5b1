//! What every [`Hsm`] has to keep to: run against the fake and against every real adapter.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use uuid::Uuid;

use super::log_key_contract;
use crate::{
    key::{BackingKey, BackingKind, KeyId, MaterialId, WrappedKey},
    ports::{Hsm, HsmError, HsmSession, Mac},
    secret::SecretBytes,
};

/// More keys than an adapter under test should keep loaded: open it with room for fewer.
const MANY_KEYS: usize = 40;
const THREADS: usize = 64;
const MACS_PER_THREAD: usize = 200;

/// Checks every promise of the port. An adapter that keeps loaded keys should have room for fewer
/// than 40, so that some are evicted.
///
/// # Panics
/// At the first promise that `hsm` breaks.
pub fn hsm_contract(hsm: &dyn Hsm) {
    jobs_run_once_and_elsewhere(hsm);
    a_job_that_panics_harms_no_other(hsm);
    random_bytes_fill_every_length(hsm);
    a_key_computes_the_same_always(hsm);
    keys_differ(hsm);
    the_authentication_key_is_no_backing_key(hsm);
    log_key_contract(hsm);
    altered_keys_are_refused(hsm);
    only_whole_keys_are_proved(hsm);
    a_missing_root_is_named(hsm);
    a_name_with_another_blob_is_another_key(hsm);
    evicted_keys_load_again(hsm);
    more_keys_than_are_kept_work(hsm);
    the_self_test_passes(hsm);
    a_rewrapped_key_is_the_same_key(hsm);
    root_keys_follow_one_another(hsm);
    threads_get_their_own_answers(hsm);
}

/// Runs `work` as a job and waits for what it gives.
///
/// # Panics
/// When `hsm` has no session for the job, or loses it.
pub fn on_session<T: Send + 'static>(
    hsm: &dyn Hsm,
    work: impl FnOnce(&mut dyn HsmSession) -> T + Send + 'static,
) -> T {
    let (done, answer) = mpsc::channel();
    hsm.submit(Box::new(move |session| {
        let _ = done.send(session.map(work)); // nobody waits any more: then nobody misses it
    }));
    answer.recv().expect("a job must run").expect("the HSM must have a session")
}

fn jobs_run_once_and_elsewhere(hsm: &dyn Hsm) {
    const JOBS: usize = 500;
    let runs = Arc::new(AtomicUsize::new(0));
    let (done, answers) = mpsc::channel();
    for _ in 0..JOBS {
        let (runs, done) = (Arc::clone(&runs), done.clone());
        hsm.submit(Box::new(move |session| {
            runs.fetch_add(1, Ordering::SeqCst);
            done.send((session.is_ok(), thread::current().id())).expect("the test waits");
        }));
    }
    drop(done);
    let answers: Vec<_> = answers.iter().collect();
    assert_eq!((answers.len(), runs.load(Ordering::SeqCst)), (JOBS, JOBS), "every job runs exactly once");
    assert!(answers.iter().all(|(session, _)| *session), "every job gets a session");
    let here = thread::current().id();
    assert!(answers.iter().all(|(_, thread)| *thread != here), "jobs run off the calling thread");
}

fn a_job_that_panics_harms_no_other(hsm: &dyn Hsm) {
    for _ in 0..8 {
        let (done, waiter) = mpsc::channel::<()>();
        hsm.submit(Box::new(move |_| {
            let _told_by_its_drop = done;
            std::panic::resume_unwind(Box::new("a defect in a job"));
        }));
        assert!(waiter.recv().is_err(), "a job that panics drops what it holds");
    }
    on_session(hsm, |session| session.authentication_mac(b"still here")).expect("the session still works");
}

fn random_bytes_fill_every_length(hsm: &dyn Hsm) {
    let lengths: Vec<usize> =
        (0..=5000).step_by(61).chain([0, 1, 2, 31, 32, 33, 4095, 4096, 4097, 5000]).collect();
    for length in lengths {
        let (first, second) = on_session(hsm, move |session| {
            let mut buffers = (vec![0; length], vec![0; length]);
            session.fill_random(&mut buffers.0).expect("random bytes");
            session.fill_random(&mut buffers.1).expect("random bytes");
            buffers
        });
        if length >= 16 {
            assert_ne!(first, second, "random bytes of length {length} repeat");
        }
        // 32 zero bytes at any place occur by chance once in 2^256: they were not filled.
        let unfilled = first.windows(32).any(|window| window == [0; 32]);
        assert!(!unfilled, "a part of {length} random bytes was not filled");
        if length >= 16 {
            assert!(first[length - 16..] != [0; 16], "the end of {length} random bytes was not filled");
        }
    }
}

fn a_key_computes_the_same_always(hsm: &dyn Hsm) {
    let key = new_key(hsm);
    let expected = mac(hsm, &key, b"input").expect("a mac");
    for _ in 0..10 {
        assert_eq!(mac(hsm, &key, b"input").expect("a mac"), expected);
    }
    assert_ne!(mac(hsm, &key, b"inpus").expect("a mac"), expected, "the input matters");
    assert_ne!(*expected, [0; 32]);
}

fn keys_differ(hsm: &dyn Hsm) {
    let keys = new_keys(hsm, 8);
    let blobs: HashSet<_> = keys.iter().map(|key| key.wrapped.blob.clone()).collect();
    assert_eq!(blobs.len(), keys.len(), "two keys have one wrapped form");
    let macs: HashSet<_> = keys.iter().map(|key| *mac(hsm, key, b"input").expect("a mac")).collect();
    assert_eq!(macs.len(), keys.len(), "two keys compute the same");
}

fn the_authentication_key_is_no_backing_key(hsm: &dyn Hsm) {
    let authentication =
        |input| on_session(hsm, move |session| session.authentication_mac(input)).expect("a mac");
    let expected = authentication(b"input");
    assert_eq!(authentication(b"input"), expected);
    assert_ne!(authentication(b"other"), expected);
    for key in new_keys(hsm, 4) {
        assert_ne!(mac(hsm, &key, b"input").expect("a mac"), expected);
    }
}

fn altered_keys_are_refused(hsm: &dyn Hsm) {
    let key = new_key(hsm);
    let blob = &key.wrapped.blob;
    let flipped = (0..blob.len()).map(|place| {
        let mut altered = blob.clone();
        altered[place] ^= 0x01;
        altered
    });
    let shortened = (0..blob.len()).map(|length| blob[..length].to_vec());
    let lengthened = [1, 8].map(|more| [blob.as_slice(), &vec![0; more]].concat());
    let foreign = [vec![0x5a; 40], vec![0; 40], vec![0xa6; 4096]];
    for altered in flipped.chain(shortened).chain(lengthened).chain(foreign) {
        let wrapped = WrappedKey { blob: altered.clone(), ..key.wrapped };
        // One name that was never loaded, and the name under which the right key is loaded.
        for material in [new_material(), key.material] {
            let altered_key = BackingKey { material, wrapped: wrapped.clone(), ..key.clone() };
            let (refusal, after) = {
                let key = key.clone();
                on_session(hsm, move |session| {
                    (session.mac(&altered_key, b"input"), session.mac(&key, b"input"))
                })
            };
            let refused = matches!(refusal, Err(HsmError::WrappedKeyRefused { .. }));
            assert!(refused, "{altered:02x?} answered {:?}", refusal.map(drop));
            after.expect("the session still works");
        }
    }
}

fn only_whole_keys_are_proved(hsm: &dyn Hsm) {
    let key = new_key(hsm);
    let prove = |key: &BackingKey| {
        let key = key.clone();
        on_session(hsm, move |session| session.prove_backing_key(&key))
    };
    prove(&key).expect("a whole key");
    let mut altered = key.clone();
    altered.wrapped.blob[12] ^= 1;
    assert!(matches!(prove(&altered), Err(HsmError::WrappedKeyRefused { .. })), "an altered key is refused");
    let mut of_another = key;
    of_another.wrapped.root_generation += 40;
    assert!(matches!(prove(&of_another), Err(HsmError::RootMissing { .. })), "its root key is not there");
}

fn a_missing_root_is_named(hsm: &dyn Hsm) {
    let mut key = new_key(hsm);
    mac(hsm, &key, b"input").expect("a mac");
    key.wrapped.root_generation = 4711;
    assert_eq!(mac(hsm, &key, b"input"), Err(HsmError::RootMissing { generation: 4711 }));
}

fn a_name_with_another_blob_is_another_key(hsm: &dyn Hsm) {
    let (first, second) = (new_key(hsm), new_key(hsm));
    let renamed = BackingKey { material: first.material, ..second.clone() };
    let of_first = mac(hsm, &first, b"input").expect("a mac");
    let of_second = mac(hsm, &second, b"input").expect("a mac");
    for _ in 0..3 {
        assert_eq!(mac(hsm, &renamed, b"input").expect("a mac"), of_second);
        assert_eq!(mac(hsm, &first, b"input").expect("a mac"), of_first);
    }
}

fn evicted_keys_load_again(hsm: &dyn Hsm) {
    let first = new_key(hsm);
    let second = BackingKey { material: first.material, version: 2, ..new_key(hsm) };
    let expected = [&first, &second].map(|key| mac(hsm, key, b"input").expect("a mac"));
    for _ in 0..3 {
        hsm.evict(first.material);
        hsm.evict(new_material()); // one that was never loaded
        assert_eq!([&first, &second].map(|key| mac(hsm, key, b"input").expect("a mac")), expected);
    }
}

fn the_self_test_passes(hsm: &dyn Hsm) {
    for _ in 0..3 {
        on_session(hsm, |session| session.self_test()).expect("the token works");
    }
}

pub(super) fn rewrap(hsm: &dyn Hsm, key: &BackingKey) -> Result<WrappedKey, HsmError> {
    let key = key.clone();
    on_session(hsm, move |session| session.rewrap_backing_key(&key))
}

fn a_rewrapped_key_is_the_same_key(hsm: &dyn Hsm) {
    let key = new_key(hsm);
    let expected = mac(hsm, &key, b"input").expect("a mac");
    let again = BackingKey { wrapped: rewrap(hsm, &key).expect("a wrapped key"), ..key.clone() };
    for key in [&again, &key, &again] {
        assert_eq!(mac(hsm, key, b"input").as_ref(), Ok(&expected));
    }
    let mut altered = key;
    altered.wrapped.blob[0] ^= 1;
    let refusal = rewrap(hsm, &altered);
    assert!(matches!(refusal, Err(HsmError::WrappedKeyRefused { .. })), "{refusal:?}");
}

fn generations(hsm: &dyn Hsm) -> Vec<u32> {
    on_session(hsm, |session| session.root_generations()).expect("the generations")
}

fn root_keys_follow_one_another(hsm: &dyn Hsm) {
    let first = *generations(hsm).last().expect("a root key");
    let key = new_key(hsm);
    let expected = mac(hsm, &key, b"input").expect("a mac");
    let second = on_session(hsm, |session| session.create_root_key()).expect("a new root key");
    assert!(second > first);
    assert_eq!(generations(hsm).last(), Some(&second));
    assert_eq!(new_key(hsm).wrapped.root_generation, second, "the newest root key wraps new keys");
    // Keys under both work side by side.
    let moved = BackingKey { wrapped: rewrap(hsm, &key).expect("a wrapped key"), ..key.clone() };
    assert_eq!((key.wrapped.root_generation, moved.wrapped.root_generation), (first, second));
    for key in [&key, &moved] {
        assert_eq!(mac(hsm, key, b"input").as_ref(), Ok(&expected));
    }
    let retire = |generation| on_session(hsm, move |session| session.retire_root_key(generation));
    retire(second).expect_err("the newest root key is needed");
    retire(first).expect("an old root key");
    retire(first).expect("one that is gone already");
    assert!(!generations(hsm).contains(&first));
    hsm.evict(key.material);
    assert_eq!(mac(hsm, &key, b"input"), Err(HsmError::RootMissing { generation: first }));
    assert_eq!(mac(hsm, &moved, b"input").as_ref(), Ok(&expected));
}

/// Checks that the HSM seals with keys of its own of this `kind`: for adapters that offer that.
///
/// # Panics
/// At the first promise that `hsm` breaks.
pub fn sealing_contract(hsm: &dyn Hsm, kind: BackingKind) {
    let make = || {
        let wrapped =
            on_session(hsm, move |session| session.generate_backing_key(kind)).expect("a backing key");
        BackingKey { material: new_material(), version: 1, kind, wrapped }
    };
    let (key, other) = (make(), make());
    for length in [1, 15, 16, 17, 32, 1024] {
        let plaintext = vec![7; length];
        let sealed = seal(hsm, &key, b"context", &plaintext).expect("sealed");
        assert_eq!(sealed.len(), length + 16);
        let opened = open(hsm, &key, b"context", &sealed).expect("opened");
        assert_eq!(opened.expose_secret(), plaintext);
        let mut altered = vec![sealed[..sealed.len() - 1].to_vec(), Vec::new()];
        altered.extend((0..sealed.len()).step_by(7).map(|place| {
            let mut altered = sealed.clone();
            altered[place] ^= 0x80;
            altered
        }));
        for altered in altered {
            assert_eq!(open(hsm, &key, b"context", &altered).map(drop), Err(HsmError::NotAuthentic));
        }
        assert_eq!(open(hsm, &key, b"contexT", &sealed).map(drop), Err(HsmError::NotAuthentic));
        assert_eq!(open(hsm, &other, b"context", &sealed).map(drop), Err(HsmError::NotAuthentic));
    }
    let sealed = seal(hsm, &key, b"", b"plaintext").expect("sealed");
    let moved = BackingKey { wrapped: rewrap(hsm, &key).expect("a wrapped key"), ..key };
    let opened = open(hsm, &moved, b"", &sealed).expect("the same key in another wrapping");
    assert_eq!(opened.expose_secret(), b"plaintext");
}

fn seal(hsm: &dyn Hsm, key: &BackingKey, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, HsmError> {
    let (key, context, plaintext) = (key.clone(), context.to_vec(), plaintext.to_vec());
    on_session(hsm, move |session| session.seal(&key, &[3; 12], &context, &plaintext))
}

fn open(hsm: &dyn Hsm, key: &BackingKey, context: &[u8], sealed: &[u8]) -> Result<SecretBytes, HsmError> {
    let (key, context, sealed) = (key.clone(), context.to_vec(), sealed.to_vec());
    on_session(hsm, move |session| session.open(&key, &[3; 12], &context, &sealed))
}

fn more_keys_than_are_kept_work(hsm: &dyn Hsm) {
    let keys = new_keys(hsm, MANY_KEYS);
    let expected: Vec<_> = keys.iter().map(|key| mac(hsm, key, b"input").expect("a mac")).collect();
    for step in [1, 7, 13] {
        for place in (0..MANY_KEYS).map(|index| index * step % MANY_KEYS) {
            assert_eq!(mac(hsm, &keys[place], b"input").expect("a mac"), expected[place]);
        }
    }
}

fn threads_get_their_own_answers(hsm: &dyn Hsm) {
    let keys = new_keys(hsm, MANY_KEYS / 2);
    let expected: Vec<Vec<Mac>> = keys
        .iter()
        .map(|key| (0..4_u8).map(|input| mac(hsm, key, &[input]).expect("a mac")).collect())
        .collect();
    let (keys, expected) = (&keys, &expected);
    thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || {
                for step in 0..MACS_PER_THREAD {
                    let (key, input) = ((number + step) % keys.len(), step % 4);
                    let answer = mac(hsm, &keys[key], &[u8::try_from(input).unwrap_or_default()]);
                    assert_eq!(answer.as_ref(), Ok(&expected[key][input]), "thread {number}, step {step}");
                    if step % 50 == number % 50 {
                        hsm.evict(keys[key].material);
                    }
                }
            });
        }
    });
}

pub(super) fn new_material() -> MaterialId {
    MaterialId::of(KeyId::from_uuid(Uuid::new_v4()))
}

fn new_key(hsm: &dyn Hsm) -> BackingKey {
    let wrapped =
        on_session(hsm, |session| session.generate_backing_key(BackingKind::Mac)).expect("a backing key");
    BackingKey { material: new_material(), version: 1, kind: BackingKind::Mac, wrapped }
}

fn new_keys(hsm: &dyn Hsm, count: usize) -> Vec<BackingKey> {
    (0..count).map(|_| new_key(hsm)).collect()
}

fn mac(hsm: &dyn Hsm, key: &BackingKey, input: &[u8]) -> Result<Mac, HsmError> {
    let (key, input) = (key.clone(), input.to_vec());
    on_session(hsm, move |session| session.mac(&key, &input))
}
