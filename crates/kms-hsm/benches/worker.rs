//! What the worker path costs over the bare token: a PKCS#11 loop as a C program would have it, against
//! submit → HMAC in the token → seal → completion, with 32 to 64 jobs queued.
//!
//! Counted is the processor time of the thread that calls the token, for that is what limits a pool and
//! what other programs on the machine change least. The time on the clock is printed beside it.
//! Prints a table on standard error and `name ratio` lines on standard output; fails below the floor.
#![allow(clippy::print_stdout, reason = "a bench prints its results")]
#![allow(clippy::disallowed_methods, reason = "a bench asks the machine what time it is")]
#![allow(unsafe_code, reason = "the bare loop calls the module's functions as a C program does")]

use std::{
    path::Path as FilePath,
    process::{Command, ExitCode},
    ptr,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
use cryptoki::{
    context::Pkcs11,
    object::{Attribute, ObjectHandle},
    session::Session,
};
use cryptoki_sys::{CK_MECHANISM, CKM_SHA256_HMAC, Pkcs11 as Module};
use kms_core::{
    key::{BackingKey, BackingKind, KeyId, MaterialId},
    ports::{Hsm, HsmSession},
    testing::hsm::on_session,
};
use kms_hsm::{Pkcs11Config, Pkcs11Hsm};
use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

const INIT_TOKEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../softhsm-config/init-token.sh");
const LABEL: &str = "dewpoint bench";
const CONFIGURATION: &str = "SOFTHSM2_CONF";
const ROUNDS: usize = 9;
const OPERATIONS: usize = 20_000;
const QUEUED: usize = 64;
/// Completions that a busy runtime finds waiting when it looks: it is woken once for all of them.
const BATCH: usize = 32;
/// An SP 800-108 block as the service computes it has about this size.
const INPUT: [u8; 60] = [0x42; 60];
/// The worker path has to reach this share of the bare loop.
const FLOOR: f64 = 0.8;

fn main() -> ExitCode {
    let Some(configuration) = std::env::var_os(CONFIGURATION) else {
        return with_token();
    };
    let directory = FilePath::new(&configuration).parent().expect("the file lies in the token's directory");
    let paths = measure(directory);
    let bare = paths[0].cost;
    for path in &paths {
        let (processor, clock) = (micros(path.cost.processor), micros(path.cost.clock));
        let share = path.cost.share_of(bare);
        eprintln!(
            "{:<36} {processor:>6.2} µs processor {clock:>7.2} µs clock {share:>6.3} of bare",
            path.title
        );
    }
    for path in &paths[1..] {
        println!("{} {:.3}", path.name, path.cost.share_of(bare));
    }
    let clock = bare.clock.as_secs_f64() / paths[3].cost.clock.as_secs_f64();
    println!("hsm_worker_of_bare_by_the_clock {clock:.3}");
    if paths[3].cost.share_of(bare) < FLOOR {
        eprintln!("the worker path is below its floor of {FLOOR} of the bare loop");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// One way to the token and what an operation on it costs.
struct Path {
    title: &'static str,
    name: &'static str,
    cost: Cost,
}

/// What one operation costs.
#[derive(Clone, Copy)]
struct Cost {
    /// Time that the thread which calls the token was running.
    processor: Duration,
    clock: Duration,
}

impl Cost {
    fn share_of(self, bare: Self) -> f64 {
        bare.processor.as_secs_f64() / self.processor.as_secs_f64()
    }
}

/// Runs this program again with a token of its own.
fn with_token() -> ExitCode {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let made = Command::new("sh").arg(INIT_TOKEN).arg(directory.path()).arg(LABEL).output().expect("sh runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::write(directory.path().join("module"), made.stdout.trim_ascii_end())
        .expect("the directory is ours");
    let status = Command::new(std::env::current_exe().expect("this program"))
        .env(CONFIGURATION, directory.path().join("softhsm2.conf"))
        .status()
        .expect("this program runs again");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The median cost of an operation on each path; every round measures each in turn.
fn measure(directory: &FilePath) -> [Path; 5] {
    let module = std::fs::read_to_string(directory.join("module")).expect("the module's path");
    let config = Pkcs11Config {
        module: module.into(),
        token_label: LABEL.to_owned(),
        pin_file: directory.join("pin"),
        root_label: "root".to_owned(),
        workers: 1,
        loaded_keys: 16,
        renew_after: kms_hsm::DEFAULT_RENEW_AFTER,
        sm4: None,
    };
    Pkcs11Hsm::create_root_keys(&config).expect("a fresh token");
    let hsm = Pkcs11Hsm::open(&config).expect("a token with root keys");
    let wrapped =
        on_session(&hsm, |session| session.generate_backing_key(BackingKind::Mac)).expect("a backing key");
    let key = BackingKey {
        material: MaterialId::of(KeyId::from_uuid(Uuid::new_v4())),
        version: 1,
        kind: BackingKind::Mac,
        wrapped,
    };
    let key = Arc::new(key);
    mac_once(&hsm, &key);
    let (raw_session, object) = raw(&config);
    // SAFETY: the pool has loaded and initialised the same library.
    let raw_module = unsafe { Module::new(&config.module) }.expect("the module loads");

    let mut costs = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        costs[0].push(cost(|| bare_loop(&raw_module, &raw_session, object)));
        costs[1].push(on_session(&hsm, session_loop(&key, |_| ())));
        costs[2].push(on_session(&hsm, session_loop(&key, seal)));
        costs[3].push(queued_cost(&hsm, &key, BATCH));
        costs[4].push(queued_cost(&hsm, &key, 1));
    }
    let [bare, session, sealed, queued, woken] = costs.map(median);
    [
        Path { title: "bare C_SignInit + C_Sign", name: "bare", cost: bare },
        Path { title: "+ key cache, counters, wiping", name: "hsm_session_of_bare", cost: session },
        Path { title: "+ AES-256-GCM seal of 32 bytes", name: "hsm_sealed_of_bare", cost: sealed },
        Path { title: "+ queue and completion", name: "hsm_worker_of_bare", cost: queued },
        Path { title: "the same, a waiter woken each time", name: "hsm_woken_of_bare", cost: woken },
    ]
}

fn mac_once(hsm: &Pkcs11Hsm, key: &Arc<BackingKey>) {
    let key = Arc::clone(key);
    on_session(hsm, move |session| session.mac(&key, &INPUT)).expect("a mac");
}

/// A session beside the pool's, and the loaded key as the token's only session object.
fn raw(config: &Pkcs11Config) -> (Session, ObjectHandle) {
    let module = Pkcs11::new(&config.module).expect("the module loads");
    let slot = module.get_slots_with_initialized_token().expect("slots")[0];
    let session = module.open_ro_session(slot).expect("a session");
    let object = session.find_objects(&[Attribute::Token(false)]).expect("a search")[0];
    (session, object)
}

/// `C_SignInit` and `C_Sign`, into one buffer.
fn bare_loop(module: &Module, session: &Session, key: ObjectHandle) {
    let mut mechanism =
        CK_MECHANISM { mechanism: CKM_SHA256_HMAC, pParameter: ptr::null_mut(), ulParameterLen: 0 };
    for _ in 0..OPERATIONS {
        let (mut mac, mut length) = ([0_u8; 32], 32);
        // SAFETY: the session is open and used by this thread only, and the lengths are those of the buffers.
        let answers = unsafe {
            let start = module.C_SignInit(session.handle(), &raw mut mechanism, key.handle());
            let input = INPUT.as_ptr().cast_mut();
            let sign = module.C_Sign(session.handle(), input, 60, mac.as_mut_ptr(), &raw mut length);
            (start, sign)
        };
        assert_eq!((answers, length), ((0, 0), 32));
        std::hint::black_box(mac);
    }
}

/// All operations in one job: the worker's own code without the queue.
fn session_loop(
    key: &Arc<BackingKey>,
    then: impl Fn(&[u8; 32]) + Send + 'static,
) -> impl FnOnce(&mut dyn HsmSession) -> Cost + Send + 'static {
    let key = Arc::clone(key);
    move |session| {
        cost(|| {
            for _ in 0..OPERATIONS {
                then(&session.mac(&key, &INPUT).expect("a mac"));
            }
        })
    }
}

/// One job for each operation; what the only worker spent on them.
fn queued_cost(hsm: &Pkcs11Hsm, key: &Arc<BackingKey>, batch: usize) -> Cost {
    let before = on_session(hsm, |_| thread_time());
    let clock = cost(|| queued_loop(hsm, key, batch)).clock;
    let spent = on_session(hsm, |_| thread_time()).saturating_sub(before);
    Cost { processor: each(spent), clock }
}

/// Keeps 64 jobs submitted, less those of the batch that is not noticed yet. Every job reports its
/// completion; whoever waits is woken when a batch is complete.
fn queued_loop(hsm: &Pkcs11Hsm, key: &Arc<BackingKey>, batch: usize) {
    let (done, completions) = mpsc::channel();
    let submit = |number: usize| {
        let (key, done) = (Arc::clone(key), done.clone());
        hsm.submit(Box::new(move |session| {
            let mac = session.expect("a session").mac(&key, &INPUT).expect("a mac");
            seal(&mac);
            if number.is_multiple_of(batch) {
                done.send(()).expect("the bench waits");
            }
        }));
    };
    (1..=QUEUED).for_each(submit);
    for first in (QUEUED + 1..=OPERATIONS).step_by(batch) {
        completions.recv().expect("a completion");
        (first..first + batch).for_each(submit);
    }
    for _ in 0..QUEUED / batch {
        completions.recv().expect("a completion");
    }
}

fn seal(key: &[u8; 32]) {
    let mut data_key = [0x17; 32];
    let tag = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&[7; 12].into(), &INPUT, data_key.as_mut_slice().into())
        .expect("a short plaintext");
    std::hint::black_box((data_key, tag));
}

/// What `work`, which does all operations on this thread, costs for each.
fn cost(work: impl FnOnce()) -> Cost {
    let (clock, processor) = (Instant::now(), thread_time());
    work();
    Cost { processor: each(thread_time().saturating_sub(processor)), clock: each(clock.elapsed()) }
}

fn each(all: Duration) -> Duration {
    all / u32::try_from(OPERATIONS).expect("a small number")
}

/// How long this thread has been running on a processor.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("time is positive");
    Duration::new(seconds, u32::try_from(time.tv_nsec).expect("below one second"))
}

fn median(mut costs: Vec<Cost>) -> Cost {
    let middle = costs.len() / 2;
    *costs.select_nth_unstable_by_key(middle, |cost| cost.processor).1
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
