//! What the pool makes of a module that fails: typed errors while it lasts, work when it is over.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use cryptoki::object::Attribute;
use kms_core::{
    key::{BackingKey, BackingKind},
    ports::{Hsm as _, HsmError, Mac},
    testing::hsm::hsm_contract,
};
use kms_hsm::{OpenError, Pkcs11Config, Pkcs11Hsm};

use crate::{
    healing::{healed, self_test},
    support::{Token, ask, mac, new_key, new_material},
};

on_each_module!(
    with_faulty_token:
    a_device_error_fails_its_call_and_no_other,
    a_lost_session_and_a_lost_object_go_unnoticed,
    a_lost_login_heals,
    a_storm_of_errors_is_answered_and_heals,
    a_module_that_does_not_come_back_at_once_heals_later,
    a_moment_of_trouble_blames_no_key,
    a_device_that_does_not_decrypt_blames_no_ciphertext,
    a_caller_with_bad_ciphertexts_harms_nobody,
    a_call_that_hangs_delays_nobody_for_ever,
    calls_that_wait_for_a_key_pair_do_not_hang,
    a_call_that_hangs_while_the_token_is_lost_is_noticed,
    an_opening_of_a_session_that_hangs_holds_nobody_else_up,
    a_medic_that_hangs_is_noticed,
    a_token_that_is_lost_again_and_again_is_not_opened_at_full_speed,
    a_worker_without_a_session_does_not_cost_the_others_theirs,
    a_moment_of_trouble_while_it_is_opened_loses_no_root_key_and_no_cipher,
    an_old_root_key_that_was_destroyed_without_a_good_answer_is_not_missed,
    an_old_root_key_whose_destruction_failed_is_there_and_is_destroyed_later,
    a_token_that_lacks_what_is_needed_is_refused,
    every_way_of_wrapping_that_the_token_has_works,
    random_faults_give_no_wrong_answer,
);

fn unavailable(function: &'static str, detail: &str) -> HsmError {
    HsmError::Unavailable { function, detail: detail.to_owned() }
}

fn try_mac(hsm: &Pkcs11Hsm, key: &BackingKey) -> Result<Mac, HsmError> {
    let key = key.clone();
    ask(hsm, move |session| session.mac(&key, b"input"))
}

/// A pool with one worker, and a key that is loaded, with what it computes.
fn warm(token: &Token) -> (Pkcs11Hsm, BackingKey, Mac) {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    let hsm = Pkcs11Hsm::open(&Pkcs11Config { workers: 1, ..token.config() }).expect("a token");
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    (hsm, key, expected)
}

/// Waits until the token has been opened anew so many times. Before that, a seat may go on working.
pub(crate) fn has_healed(hsm: &Pkcs11Hsm, heals: u64) {
    let count = |hsm: &Pkcs11Hsm| hsm.statistics().heals;
    healed(|| if count(hsm) < heals { Err(unavailable("heals", "fewer than expected")) } else { Ok(()) });
    assert_eq!(count(hsm), heals);
}

fn a_device_error_fails_its_call_and_no_other(token: &Token) {
    let (hsm, key, expected) = warm(token);
    token.inject("C_Sign error 0x30 1");
    assert_eq!(try_mac(&hsm, &key), Err(unavailable("C_Sign", "CKR_DEVICE_ERROR")));
    assert_eq!(try_mac(&hsm, &key), Ok(expected));
    assert_eq!((hsm.loss(), hsm.statistics().heals), (None, 0));
}

fn a_lost_session_and_a_lost_object_go_unnoticed(token: &Token) {
    let (hsm, key, expected) = warm(token);
    // CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED, CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID,
    // CKR_OPERATION_ACTIVE
    for fault in ["0xb3", "0xb0", "0x60", "0x82", "0x90"] {
        token.inject(&format!("C_SignInit error {fault} 1"));
        assert_eq!(try_mac(&hsm, &key).as_ref(), Ok(&expected), "{fault}");
    }
    token.inject("C_GenerateRandom error 0xb3 1");
    let random = ask(&hsm, |session| session.fill_random(&mut [0; 5000]));
    assert_eq!(random, Ok(()));
    assert_eq!((hsm.loss(), hsm.statistics().heals), (None, 0));
}

fn a_lost_login_heals(token: &Token) {
    let (hsm, key, expected) = warm(token);
    token.inject("C_SignInit error 0x101 1"); // CKR_USER_NOT_LOGGED_IN
    assert_eq!(try_mac(&hsm, &key), Err(unavailable("C_SignInit", "CKR_USER_NOT_LOGGED_IN")));
    has_healed(&hsm, 1);
    assert_eq!(healed(|| try_mac(&hsm, &key)), expected);
}

fn a_storm_of_errors_is_answered_and_heals(token: &Token) {
    let (hsm, key, expected) = warm(token);
    // CKR_GENERAL_ERROR, CKR_DEVICE_ERROR, CKR_FUNCTION_FAILED, and one that only the vendor knows
    let storms = ["* error 0x5", "* error 0x30", "C_Sign error 0x6", "* error 0x80000001"];
    for (heals, storm) in (1..).zip(storms) {
        token.inject(storm);
        while hsm.loss().is_none() {
            let failed = try_mac(&hsm, &key).expect_err("the module fails");
            assert!(matches!(failed, HsmError::Unavailable { .. }), "{failed}");
        }
        for _ in 0..100 {
            try_mac(&hsm, &key).expect_err("the module still fails");
        }
        token.inject("");
        has_healed(&hsm, heals);
        assert_eq!(healed(|| try_mac(&hsm, &key)), expected, "{storm}");
    }
}

fn a_module_that_does_not_come_back_at_once_heals_later(token: &Token) {
    let (hsm, key, expected) = warm(token);
    let faults = [
        "C_SignInit error 0x101 1",
        "C_Initialize error 0x30 2",
        "C_GetSlotList error 0x30 1",
        "C_OpenSession error 0x30 1",
        "C_Login error 0x30 1",
        "C_FindObjects error 0x30 1",
        "C_WrapKey error 0x30 1",
    ];
    token.inject(&faults.join("\n"));
    try_mac(&hsm, &key).expect_err("the login is lost");
    has_healed(&hsm, 1);
    assert_eq!(healed(|| try_mac(&hsm, &key)), expected);
}

fn a_moment_of_trouble_blames_no_key(token: &Token) {
    let (hsm, key, expected) = warm(token);
    hsm.evict(key.material);
    token.inject("C_UnwrapKey error 0x5 1");
    assert_eq!(try_mac(&hsm, &key), Ok(expected), "the key itself is sound");
    let sealing = sealing_key(&hsm);
    let sealed = seal(&hsm, &sealing).expect("sealed");
    token.inject("C_Decrypt error 0x5 1");
    assert_eq!(open(&hsm, &sealing, sealed), Ok(b"plaintext".to_vec()));
}

fn a_device_that_does_not_decrypt_blames_no_ciphertext(token: &Token) {
    let (hsm, _, _) = warm(token);
    let sealing = sealing_key(&hsm);
    let sealed = seal(&hsm, &sealing).expect("sealed");
    // All else works. CKR_GENERAL_ERROR, CKR_DEVICE_ERROR, CKR_ENCRYPTED_DATA_INVALID
    for fault in ["C_Decrypt error 0x5 2", "C_Decrypt error 0x30", "C_Decrypt error 0x40"] {
        token.inject(fault);
        let refused = open(&hsm, &sealing, sealed.clone()).expect_err("it does not decrypt");
        assert!(matches!(refused, HsmError::Unavailable { function: "C_Decrypt", .. }), "{fault}: {refused}");
        token.inject("");
        assert_eq!(open(&hsm, &sealing, sealed.clone()), Ok(b"plaintext".to_vec()));
    }
    assert_eq!((hsm.loss(), hsm.statistics().heals), (None, 0));
}

fn a_caller_with_bad_ciphertexts_harms_nobody(token: &Token) {
    let (hsm, key, expected) = warm(token);
    let sealing = sealing_key(&hsm);
    let sealed = seal(&hsm, &sealing).expect("sealed");
    for place in (0..100).map(|number| number % sealed.len()) {
        let mut altered = sealed.clone();
        altered[place] ^= 1;
        assert_eq!(open(&hsm, &sealing, altered), Err(HsmError::NotAuthentic));
    }
    assert_eq!(open(&hsm, &sealing, sealed), Ok(b"plaintext".to_vec()));
    assert_eq!(try_mac(&hsm, &key), Ok(expected));
    assert_eq!((hsm.loss(), hsm.statistics().heals), (None, 0));
}

fn sealing_key(hsm: &Pkcs11Hsm) -> BackingKey {
    let kind = BackingKind::Aes256;
    let wrapped = ask(hsm, move |session| session.generate_backing_key(kind)).expect("a key that seals");
    BackingKey { material: new_material(), version: 1, kind, wrapped }
}

fn seal(hsm: &Pkcs11Hsm, key: &BackingKey) -> Result<Vec<u8>, HsmError> {
    let key = key.clone();
    ask(hsm, move |session| session.seal(&key, &[7; 12], b"context", b"plaintext"))
}

fn open(hsm: &Pkcs11Hsm, key: &BackingKey, sealed: Vec<u8>) -> Result<Vec<u8>, HsmError> {
    let key = key.clone();
    ask(hsm, move |session| Ok(session.open(&key, &[7; 12], b"context", &sealed)?.expose_secret().to_vec()))
}

fn a_call_that_hangs_delays_nobody_for_ever(token: &Token) {
    let (hsm, key, expected) = warm(token);
    token.inject("C_Sign hang 6000 1");
    let (done, hanging) = mpsc::channel();
    let hung = key.clone();
    hsm.submit(Box::new(move |session| {
        done.send(session.and_then(|session| session.mac(&hung, b"input"))).expect("the test waits");
    }));
    while !hsm.is_stuck() {
        assert!(hanging.try_recv().is_err(), "the call came back before anyone noticed that it hung");
        thread::sleep(Duration::from_millis(10));
    }
    let (done, refused) = mpsc::channel();
    hsm.submit(Box::new(move |session| done.send(session.err()).expect("the test waits")));
    let refused = refused.try_recv().expect("answered at once").expect("an error");
    assert!(refused.to_string().contains("do not return"), "{refused}");
    assert_eq!(hanging.recv(), Ok(Ok(expected.clone())), "the call itself was sound");
    assert_eq!(healed(|| try_mac(&hsm, &key)), expected);
}

/// The stand-in holds both calls up, as a module does that lets nobody else in while it makes a key pair.
fn calls_that_wait_for_a_key_pair_do_not_hang(token: &Token) {
    let hsm = token.open_new(); // two workers
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    token.inject("C_GenerateKeyPair hang 4500 1\nC_Sign hang 3500 1");
    let (done, made) = mpsc::channel();
    hsm.submit(Box::new(move |session| {
        let made = session.and_then(|session| session.generate_key_pair(BackingKind::EcP256));
        done.send(made.map(drop)).expect("the test waits");
    }));
    let (done, signed) = mpsc::channel();
    hsm.submit(Box::new(move |session| {
        done.send(session.and_then(|session| session.mac(&key, b"input"))).expect("the test waits");
    }));
    let made = loop {
        assert!(!hsm.is_stuck(), "work is refused because a key pair takes its time");
        if let Ok(made) = made.recv_timeout(Duration::from_millis(10)) {
            break made;
        }
    };
    assert_eq!((made, signed.recv()), (Ok(()), Ok(Ok(expected))));
}

/// Waits until the pool says that calls do not return.
fn is_noticed(hsm: &Pkcs11Hsm) {
    healed(|| if hsm.is_stuck() { Ok(()) } else { Err(unavailable("watch", "nothing was noticed")) });
}

fn a_call_that_hangs_while_the_token_is_lost_is_noticed(token: &Token) {
    let hsm = token.open_new(); // two workers
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    // The first to sign loses the login, the other one hangs; or the other way round. If the other one comes too late,
    // the token is healed before it signs, and what was to hang it has hung the healing: then once more.
    let noticed = (0..10).any(|_| {
        token.inject("C_Sign hang 9000 1\nC_SignInit error 0x101 1");
        let answers: Vec<_> = (0..2)
            .map(|_| {
                let (done, answer) = mpsc::channel();
                let key = key.clone();
                hsm.submit(Box::new(move |session| {
                    drop(done.send(session.and_then(|session| session.mac(&key, b"input"))));
                }));
                answer
            })
            .collect();
        let mut left = answers.len();
        while left > 0 && !hsm.is_stuck() {
            left -= answers.iter().filter(|answer| answer.try_recv().is_ok()).count();
            thread::sleep(Duration::from_millis(10));
        }
        if left == 0 {
            token.inject("");
            assert_eq!(healed(|| try_mac(&hsm, &key)), expected);
        }
        left > 0
    });
    assert!(noticed, "a call hung, and nobody noticed");
    assert!(hsm.loss().is_some(), "the other worker told of the loss");
    token.inject("");
    healed(|| if hsm.statistics().heals > 0 { Ok(()) } else { Err(unavailable("medic", "not healed")) });
    assert_eq!(healed(|| try_mac(&hsm, &key)), expected);
}

fn an_opening_of_a_session_that_hangs_holds_nobody_else_up(token: &Token) {
    let (hsm, key, expected) = warm(token);
    token.inject("C_SignInit error 0xb3 1\nC_OpenSession hang 4000 1");
    let (done, hanging) = mpsc::channel();
    let lost = key.clone();
    hsm.submit(Box::new(move |session| {
        drop(done.send(session.and_then(|session| session.mac(&lost, b"input"))));
    }));
    is_noticed(&hsm);
    // None of these waits for the module.
    assert_eq!(hsm.statistics().loaded_keys, 1);
    hsm.evict(key.material);
    assert!(hanging.try_recv().is_err(), "the call is still under way");
    assert_eq!(hanging.recv(), Ok(Ok(expected)));
}

fn a_medic_that_hangs_is_noticed(token: &Token) {
    let (hsm, key, expected) = warm(token);
    // It closes the workers' sessions first, and logs in later. No caller comes who would be seen to wait.
    for (heals, call) in (1..).zip(["C_Login", "C_CloseSession"]) {
        token.inject(&format!("C_SignInit error 0x101 1\n{call} hang 14000 1"));
        try_mac(&hsm, &key).expect_err("the login is lost");
        is_noticed(&hsm);
        has_healed(&hsm, heals);
        assert_eq!(healed(|| try_mac(&hsm, &key)), expected, "{call}");
    }
}

#[allow(clippy::disallowed_methods, reason = "a test of waits asks the machine for the time")]
fn a_token_that_is_lost_again_and_again_is_not_opened_at_full_speed(token: &Token) {
    let (hsm, key, expected) = warm(token);
    let sealing = sealing_key(&hsm);
    let begun = Instant::now();
    token.inject("C_EncryptInit error 0x190"); // CKR_CRYPTOKI_NOT_INITIALIZED
    while hsm.statistics().heals < 5 {
        seal(&hsm, &sealing).expect_err("the module says that it is gone");
        thread::yield_now();
    }
    // Rests of 0.1, 0.2, 0.4 and 0.8 s at least.
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());
    token.inject("");
    assert_eq!(healed(|| try_mac(&hsm, &key)), expected);
}

fn a_worker_without_a_session_does_not_cost_the_others_theirs(token: &Token) {
    let hsm = token.open_new();
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    // A job that panics costs its worker the session, and it gets no other one: CKR_SESSION_COUNT.
    token.inject("C_OpenSession error 0xb1");
    let (done, over) = mpsc::channel::<()>();
    hsm.submit(Box::new(move |_| {
        let _told_by_its_drop = done;
        std::panic::resume_unwind(Box::new("a defect in a job"));
    }));
    over.recv().expect_err("it panicked");
    let answers: Vec<_> = (0..200).map(|_| try_mac(&hsm, &key)).collect();
    assert!(answers.contains(&Ok(expected.clone())), "the other worker has its session");
    assert_eq!((hsm.loss(), hsm.statistics().heals), (None, 0));
    token.inject("");
    for _ in 0..50 {
        assert_eq!(try_mac(&hsm, &key).as_ref(), Ok(&expected));
    }
}

fn a_moment_of_trouble_while_it_is_opened_loses_no_root_key_and_no_cipher(token: &Token) {
    let (hsm, key, expected) = warm(token);
    let second = ask(&hsm, |session| session.create_root_key()).expect("another root key");
    let moved = BackingKey {
        wrapped: ask(&hsm, {
            let key = key.clone();
            move |session| session.rewrap_backing_key(&key)
        })
        .expect("moved"),
        ..key.clone()
    };
    let sealing = sealing_key(&hsm);
    let sealed = seal(&hsm, &sealing).expect("sealed");
    // CKR_DEVICE_ERROR, CKR_GENERAL_ERROR: in a trial of a root key, in a question for a mechanism.
    let moments = [
        "C_WrapKey error 0x30 1",
        "C_UnwrapKey error 0x5 1",
        "C_WrapKey error 0x5 3",
        "C_GetMechanismInfo error 0x30 1",
        "C_GetMechanismInfo error 0x5 9",
        "C_GetAttributeValue error 0x101 1",
    ];
    for (heals, moment) in (1..).zip(moments) {
        token.inject(&format!("C_SignInit error 0x101 1\n{moment}"));
        try_mac(&hsm, &key).expect_err("the login is lost");
        has_healed(&hsm, heals);
        token.inject("");
        assert_eq!(ask(&hsm, |session| session.root_generations()), Ok(vec![1, second]), "{moment}");
        for key in [&key, &moved] {
            assert_eq!(healed(|| try_mac(&hsm, key)), expected, "{moment}");
        }
        assert_eq!(open(&hsm, &sealing, sealed.clone()), Ok(b"plaintext".to_vec()), "{moment}");
    }
}

/// Two generations, and a key under the newer one with what it computes.
fn rotated(token: &Token) -> (Pkcs11Hsm, BackingKey, Mac) {
    let (hsm, old, _) = warm(token);
    assert_eq!(ask(&hsm, |session| session.create_root_key()), Ok(2));
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    assert_eq!((old.wrapped.root_generation, key.wrapped.root_generation), (1, 2));
    (hsm, key, expected)
}

fn retire(hsm: &Pkcs11Hsm, generation: u32) -> Result<(), HsmError> {
    ask(hsm, move |session| session.retire_root_key(generation))
}

fn an_old_root_key_that_was_destroyed_without_a_good_answer_is_not_missed(token: &Token) {
    let (hsm, key, expected) = rotated(token);
    // What the device did, and what it said of it: CKR_DEVICE_REMOVED.
    let session = token.session();
    for root in session.find_objects(&[Attribute::Label(b"root-1".to_vec())]).expect("a search") {
        session.destroy_object(root).expect("it exists");
    }
    drop(session);
    token.inject("C_DestroyObject error 0x32 1");
    assert_eq!(retire(&hsm, 1), Err(unavailable("C_DestroyObject", "CKR_DEVICE_REMOVED")));
    has_healed(&hsm, 1);
    assert_eq!(retire(&hsm, 1), Ok(()));
    assert_eq!(ask(&hsm, |session| session.root_generations()), Ok(vec![2]));
    assert_eq!(try_mac(&hsm, &key), Ok(expected));
}

fn an_old_root_key_whose_destruction_failed_is_there_and_is_destroyed_later(token: &Token) {
    let (hsm, key, expected) = rotated(token);
    retire(&hsm, 2).expect_err("the newest one is needed");
    token.inject("C_DestroyObject error 0x32 1");
    assert_eq!(retire(&hsm, 1), Err(unavailable("C_DestroyObject", "CKR_DEVICE_REMOVED")));
    has_healed(&hsm, 1);
    assert_eq!(ask(&hsm, |session| session.root_generations()), Ok(vec![1, 2]));
    assert_eq!(retire(&hsm, 1), Ok(()));
    assert_eq!(ask(&hsm, |session| session.root_generations()), Ok(vec![2]));
    assert_eq!(try_mac(&hsm, &key), Ok(expected));
}

fn a_token_that_lacks_what_is_needed_is_refused(token: &Token) {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    token.inject("C_GetMechanismInfo lacks 0x251"); // CKM_SHA256_HMAC
    let refused = Pkcs11Hsm::open(&token.config()).expect_err("nothing works without it");
    assert_eq!(refused, OpenError::MechanismMissing { mechanism: "CKM_SHA256_HMAC" });
    let wraps = ["0x2109", "0x210a", "0x210b"].map(|id| format!("C_GetMechanismInfo lacks {id}"));
    token.inject(&wraps.join("\n"));
    assert_eq!(Pkcs11Hsm::open(&token.config()).expect_err("it cannot wrap"), OpenError::NoWrapMechanism);
    token.inject("C_GetMechanismInfo lacks 0x1087"); // CKM_AES_GCM
    let hsm = Pkcs11Hsm::open(&token.config()).expect("the main work needs no GCM of the token");
    let refused = ask(&hsm, |session| session.generate_backing_key(BackingKind::Aes256));
    assert_eq!(refused, Err(HsmError::NotOffered { feature: "AES-256-GCM inside the HSM" }));
}

fn every_way_of_wrapping_that_the_token_has_works(token: &Token) {
    let (hsm, key, expected) = warm(token);
    drop(hsm);
    // Without CKM_AES_KEY_WRAP: SoftHSM2 has CKM_AES_KEY_WRAP_PAD, Kryoptic CKM_AES_KEY_WRAP_KWP.
    token.inject("C_GetMechanismInfo lacks 0x2109");
    let hsm = Pkcs11Hsm::open(&token.config()).expect("another way of wrapping");
    assert_eq!(try_mac(&hsm, &key).as_ref(), Ok(&expected), "what it wrapped before still opens");
    let other = new_key(&hsm);
    assert_ne!(other.wrapped.blob[0], key.wrapped.blob[0]);
    let others = try_mac(&hsm, &other).expect("a mac");
    drop(hsm);
    token.inject("");
    let hsm = Pkcs11Hsm::open(&token.config()).expect("the preferred way of wrapping");
    assert_eq!((try_mac(&hsm, &key), try_mac(&hsm, &other)), (Ok(expected), Ok(others)));
    drop(hsm);
    token.inject("C_GetMechanismInfo lacks 0x2109");
    hsm_contract(&Pkcs11Hsm::open(&token.config()).expect("another way of wrapping"));
}

/// Faults of all kinds at random places, while threads compute: every answer is right or a typed error.
fn random_faults_give_no_wrong_answer(token: &Token) {
    const FAULTS: [&str; 12] = [
        "C_Sign error 0x5 3",
        "C_SignInit error 0xb3 2",
        "C_SignInit error 0x60 2",
        "C_SignInit error 0x101 1",
        "C_UnwrapKey error 0x5 2",
        "C_UnwrapKey error 0xf0 1",
        "C_GenerateKey error 0x31 1",
        "C_DestroyObject error 0x5 2",
        "C_OpenSession error 0xb1 1",
        "* error 0x30 40",
        "C_Sign hang 30 2",
        "C_Initialize error 0x30 1\nC_SignInit error 0x32 1",
    ];
    drop(token.open_new());
    let config = Pkcs11Config { loaded_keys: 4, renew_after: 300, ..token.config() };
    let hsm = Pkcs11Hsm::open(&config).expect("a token");
    let keys = [(); 8].map(|()| new_key(&hsm));
    let expected = keys.each_ref().map(|key| mac(&hsm, key).expect("a mac"));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for start in 0..3 {
            let (hsm, keys, expected, over) = (&hsm, &keys, &expected, &over);
            scope.spawn(move || {
                for place in (0..).map(|step| (start + 3 * step) % keys.len()) {
                    match try_mac(hsm, &keys[place]) {
                        Ok(answer) => assert_eq!(answer, expected[place]),
                        Err(HsmError::Unavailable { .. } | HsmError::WrappedKeyRefused { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for round in 0..3 {
            for step in 0..FAULTS.len() {
                token.inject(FAULTS[(step * 5 + round) % FAULTS.len()]);
                thread::sleep(Duration::from_millis(25));
                token.inject("");
                healed(|| self_test(&hsm));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    for (key, expected) in keys.iter().zip(&expected) {
        assert_eq!(&healed(|| try_mac(&hsm, key)), expected);
    }
    assert!(hsm.statistics().heals > 0);
}
