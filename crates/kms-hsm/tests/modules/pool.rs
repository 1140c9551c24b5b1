//! The pool keeps the port's contract and gives back what it took.

use std::sync::{
    Arc, Barrier,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use cryptoki::object::Attribute;
use kms_core::{
    key::{BackingKey, BackingKind},
    ports::{Hsm, HsmError},
    testing::hsm::{hsm_contract, on_session, sealing_contract},
};
use kms_hsm::{OpenError, Pkcs11Config, Pkcs11Hsm};

use crate::support::{Token, mac, new_key};

on_each_module!(
    with_token:
    the_pool_keeps_the_contract,
    the_pool_can_be_opened_again_in_one_process,
    making_keys_leaves_no_object_behind,
    only_loaded_keys_are_objects_and_eviction_destroys_them,
    the_least_recently_used_key_makes_room,
    workers_that_miss_one_key_at_once_load_it_once,
    a_full_queue_answers_busy_and_a_closed_one_unavailable,
    a_worker_may_drop_the_pool,
    aes_seals_inside_and_sm4_is_not_offered,
);

fn session_objects(token: &Token) -> usize {
    token.session().find_objects(&[Attribute::Token(false)]).expect("a search").len()
}

fn one_worker(token: &Token) -> Pkcs11Hsm {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    Pkcs11Hsm::open(&Pkcs11Config { workers: 1, loaded_keys: 3, ..token.config() }).expect("a token")
}

fn the_pool_keeps_the_contract(token: &Token) {
    let hsm = token.open_new();
    hsm_contract(&hsm);
    let statistics = hsm.statistics();
    assert!(statistics.loaded_keys <= token.config().loaded_keys, "{statistics:?}");
}

fn aes_seals_inside_and_sm4_is_not_offered(token: &Token) {
    let hsm = token.open_new();
    sealing_contract(&hsm, BackingKind::Aes256);
    let missing = on_session(&hsm, |session| session.generate_backing_key(BackingKind::Sm4));
    assert_eq!(missing, Err(HsmError::NotOffered { feature: "SM4 inside the HSM" }));
}

fn the_pool_can_be_opened_again_in_one_process(token: &Token) {
    let hsm = token.open_new();
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key);
    assert!(expected.is_ok());
    drop(hsm);
    let hsm = Pkcs11Hsm::open(&token.config()).expect("nothing else is open");
    assert_eq!(mac(&hsm, &key), expected);
}

fn making_keys_leaves_no_object_behind(token: &Token) {
    let hsm = token.open_new();
    for _ in 0..10 {
        new_key(&hsm);
    }
    assert_eq!(session_objects(token), 0);
}

fn only_loaded_keys_are_objects_and_eviction_destroys_them(token: &Token) {
    let hsm = one_worker(token);
    let first = new_key(&hsm);
    let second = BackingKey { version: 2, ..first.clone() };
    let others = [new_key(&hsm), new_key(&hsm)];
    for key in [&first, &second, &others[0], &others[1]] {
        mac(&hsm, key).expect("a mac");
    }
    settle(&hsm);
    assert_eq!((session_objects(token), hsm.statistics().loaded_keys), (3, 3), "three have room");
    hsm.evict(others[1].material);
    assert_eq!(hsm.statistics().loaded_keys, 2, "forgotten at once");
    settle(&hsm);
    assert_eq!(session_objects(token), 2);
    mac(&hsm, &first).expect("a mac");
    hsm.evict(first.material);
    settle(&hsm);
    let left = (session_objects(token), hsm.statistics().loaded_keys);
    assert_eq!(left, (1, 1), "all versions of that key went, and no other key");
}

/// Waits until the only worker has swept: it does so after each job, so it has when it begins another.
fn settle(hsm: &Pkcs11Hsm) {
    for _ in 0..2 {
        on_session(hsm, |_| ());
    }
}

fn the_least_recently_used_key_makes_room(token: &Token) {
    let hsm = one_worker(token);
    let keys = [(); 4].map(|()| new_key(&hsm));
    for place in [0, 1, 2, 0, 3] {
        mac(&hsm, &keys[place]).expect("a mac");
    }
    assert_eq!(hsm.statistics().loads, 4);
    for place in [0, 2, 3] {
        mac(&hsm, &keys[place]).expect("a mac");
    }
    assert_eq!(hsm.statistics().loads, 4, "these were kept");
    mac(&hsm, &keys[1]).expect("a mac");
    assert_eq!(hsm.statistics().loads, 5, "this one had to go");
}

fn workers_that_miss_one_key_at_once_load_it_once(token: &Token) {
    let hsm = token.open_new();
    let before = hsm.statistics().loads;
    for round in 1..=20 {
        let key = new_key(&hsm);
        let start = Arc::new(Barrier::new(2));
        let (done, answers) = mpsc::channel();
        for _ in 0..2 {
            let (key, start, done) = (key.clone(), Arc::clone(&start), done.clone());
            hsm.submit(Box::new(move |session| {
                start.wait();
                let mac = session.expect("a session").mac(&key, b"input").expect("a mac");
                done.send(mac).expect("the test waits");
            }));
        }
        assert_eq!(answers.recv(), answers.recv());
        assert_eq!(hsm.statistics().loads - before, round);
    }
}

fn a_full_queue_answers_busy_and_a_closed_one_unavailable(token: &Token) {
    let hsm = one_worker(token);
    let (held, hold) = mpsc::channel::<()>();
    let (started, start) = mpsc::channel();
    hsm.submit(Box::new(move |_| {
        started.send(()).expect("the test waits");
        hold.recv().expect_err("the test lets go");
    }));
    start.recv().expect("the worker is busy now");
    let (ran, busy) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut accepted = 0;
    while busy.load(Ordering::SeqCst) == 0 {
        let (ran, busy) = (Arc::clone(&ran), Arc::clone(&busy));
        hsm.submit(Box::new(move |session| match session {
            Ok(_) => drop(ran.fetch_add(1, Ordering::SeqCst)),
            Err(HsmError::Busy) => drop(busy.fetch_add(1, Ordering::SeqCst)),
            Err(other) => panic!("{other}"),
        }));
        accepted += 1;
    }
    accepted -= 1;
    assert_eq!(hsm.statistics().queued, accepted);
    drop(held);
    hsm.shut_down();
    assert_eq!(ran.load(Ordering::SeqCst), accepted, "a shutdown finishes what waits");
    let (done, answer) = mpsc::channel();
    hsm.submit(Box::new(move |session| done.send(session.err()).expect("the test waits")));
    assert!(matches!(answer.try_recv(), Ok(Some(HsmError::Unavailable { .. }))));
}

fn a_worker_may_drop_the_pool(token: &Token) {
    let hsm = Arc::new(token.open_new());
    let (done, finished) = mpsc::channel();
    let (last, ready) = (Arc::clone(&hsm), Arc::new(Barrier::new(2)));
    let waiting = Arc::clone(&ready);
    hsm.submit(Box::new(move |_| {
        waiting.wait();
        drop(last);
        done.send(()).expect("the test waits");
    }));
    drop(hsm);
    ready.wait();
    finished.recv().expect("the job ends");
    // The worker finalises the module when it ends, and only then another pool can be opened.
    while matches!(Pkcs11Hsm::open(&token.config()), Err(OpenError::ModuleInUse)) {
        std::thread::yield_now();
    }
}
