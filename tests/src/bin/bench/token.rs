//! The token by itself: what loading a key costs, what SoftHSM2 leaks, and what a renewal of the module costs.
//!
//! Runs in a process of its own, because SoftHSM2 finds its token by the environment.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use dewpoint_tests::Serve;
use kms_core::{
    key::{BackingKey, BackingKind, KeyId, MaterialId},
    ports::{Hsm as _, HsmError, HsmSession},
};
use kms_hsm::{Pkcs11Config, Pkcs11Hsm};
use uuid::Uuid;

use crate::process;

/// Makes this program measure a token; module, PIN file, the number of loaded keys, the number of
/// destroyed objects between renewals and the number of renewals follow.
pub(crate) const ARGUMENT: &str = "--token";

/// Loads for the cost of one.
const LOADS: u32 = 20_000;
/// So many more keys than stay loaded, so that each use loads.
const MORE: usize = 3;
/// What the measured process says.
pub(crate) struct TokenFigures {
    /// Processor time of loading, and later destroying, one key, in µs.
    pub(crate) load: f64,
    /// Bytes that stay of each destroyed object.
    pub(crate) leak: f64,
    /// The longest time that one use took while the module was renewed, in ms.
    pub(crate) pause: f64,
    /// Own memory in MiB: at first, before the last renewal, after it.
    pub(crate) memory: [f64; 3],
    /// Loads per second.
    pub(crate) rate: f64,
}

/// Measures the token of a deployment that does not run.
pub(crate) fn measure(serve: &Serve, loaded: usize, renew_after: u64, renewals: u64) -> TokenFigures {
    let token = serve.token();
    let output = Command::new(std::env::current_exe().expect("a path"))
        .arg(ARGUMENT)
        .args([&token.module, &token.pin_file])
        .args([loaded.to_string(), renew_after.to_string(), renewals.to_string()])
        .envs(token.environment.iter().cloned())
        .output()
        .expect("this program runs again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("numbers");
    let mut numbers = text.split_whitespace().map(|number| number.parse::<f64>().expect("a number"));
    let mut next = || numbers.next().expect("seven numbers");
    TokenFigures { load: next(), leak: next(), pause: next(), memory: [next(), next(), next()], rate: next() }
}

/// The measured process.
#[allow(clippy::print_stdout, reason = "the result of the process")]
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) {
    let mut next = || arguments.next().expect("module, PIN file, number");
    let (module, pin_file) = (PathBuf::from(next()), PathBuf::from(next()));
    let loaded_keys = next().parse().expect("a number");
    let renew_after = next().parse().expect("a number");
    let renewals = next().parse().expect("a number");
    let config = Pkcs11Config {
        module,
        token_label: "dewpoint".to_owned(),
        pin_file,
        root_label: "dewpoint-root".to_owned(),
        workers: 1,
        loaded_keys,
        renew_after,
        sm4: None,
    };
    let hsm = Pkcs11Hsm::open(&config).expect("the token opens");
    let keys: Vec<_> = (0..loaded_keys + MORE).map(|_| Arc::new(new_key(&hsm))).collect();
    let Leaks { leak, pause, memory, rate } = leaks(&hsm, &keys, renewals);
    let load = load_cost(&hsm, &keys);
    println!("{load} {leak} {pause} {} {} {} {rate}", memory[0], memory[1], memory[2]);
}

/// What using keys in turn costs more than using one that is loaded, in µs of processor time.
fn load_cost(hsm: &Pkcs11Hsm, keys: &[Arc<BackingKey>]) -> f64 {
    for key in keys {
        mac(hsm, key); // in the end as many are loaded as may be
    }
    let cost = |keys: &[Arc<BackingKey>]| {
        let before = process::processor_time(std::process::id());
        for number in 0..LOADS as usize {
            mac(hsm, &keys[number % keys.len()]);
        }
        process::processor_time(std::process::id()).saturating_sub(before)
    };
    let (warm, cold) = (cost(&keys[..1]), cost(keys));
    (cold.as_secs_f64() - warm.as_secs_f64()) * 1e6 / f64::from(LOADS)
}

struct Leaks {
    leak: f64,
    pause: f64,
    memory: [f64; 3],
    rate: f64,
}

/// Loads keys until the module was renewed some times.
#[allow(clippy::disallowed_methods, reason = "measures real time")]
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn leaks(hsm: &Pkcs11Hsm, keys: &[Arc<BackingKey>], wanted: u64) -> Leaks {
    let memory = || process::own_memory(std::process::id());
    let (first, started, loads) = (memory(), Instant::now(), hsm.statistics().loads);
    let (mut before, mut pause, mut renewals) = (first, Duration::ZERO, 0);
    let destroyed = hsm.statistics().destroyed;
    let mut leak = 0.0;
    for number in (0..).take_while(|_| wanted > 0) {
        let begun = Instant::now();
        mac(hsm, &keys[number % keys.len()]);
        let took = begun.elapsed();
        if number % 512 != 0 && took < Duration::from_millis(2) {
            continue;
        }
        let statistics = hsm.statistics();
        if statistics.renewals > renewals {
            renewals = statistics.renewals;
            pause = pause.max(took);
            if renewals >= wanted {
                break;
            }
        } else {
            before = memory();
            // Later periods use again what the first one took.
            if renewals == 0 {
                let leaking = statistics.destroyed.saturating_sub(destroyed).max(1) as f64;
                leak = (before - first) * f64::from(1 << 20) / leaking;
            }
        }
    }
    let rate = (hsm.statistics().loads - loads) as f64 / started.elapsed().as_secs_f64();
    Leaks { leak, pause: pause.as_secs_f64() * 1e3, memory: [first, before, memory()], rate }
}

fn new_key(hsm: &Pkcs11Hsm) -> BackingKey {
    let wrapped = on_session(hsm, |session| session.generate_backing_key(BackingKind::Mac)).expect("made");
    let material = MaterialId::of(KeyId::from_uuid(Uuid::new_v4()));
    BackingKey { material, version: 1, kind: BackingKind::Mac, wrapped }
}

fn mac(hsm: &Pkcs11Hsm, key: &Arc<BackingKey>) {
    let key = Arc::clone(key);
    on_session(hsm, move |session| session.mac(&key, &[0x42; 60])).expect("computed");
}

fn on_session<T: Send + 'static>(
    hsm: &Pkcs11Hsm,
    work: impl FnOnce(&mut dyn HsmSession) -> Result<T, HsmError> + Send + 'static,
) -> Result<T, HsmError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    hsm.submit(Box::new(move |session| drop(sender.send(session.and_then(work)))));
    receiver.recv().expect("a job is answered")
}
