//! What the service acknowledged, what it refused, and what it must never have done.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use kms_client::{Code, Error};
use tokio::time::Instant;

/// A call that was answered with an error.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) caller: Caller,
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    pub(crate) what: String,
}

/// How a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// By kms-client, with its retry.
    Retrying,
    /// By kms-client, but it changes a key and may be repeated only if nothing was done.
    Changing,
    /// By a generated client, once.
    Once,
}

/// What must be found in the log.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// Answers of which only the name in the context is known: at least so many records.
    pub(crate) named: HashMap<(Operation, u64), u32>,
    /// Answers of which the call is known: exactly one record that says success.
    pub(crate) requests: HashMap<String, Operation>,
    /// Calls that were refused: no record may say success.
    pub(crate) refused: HashSet<String>,
    /// Keys that were made.
    pub(crate) created: HashSet<String>,
    /// Changes of keys: at least so many outcomes that say success.
    pub(crate) changes: HashMap<(Operation, String), u32>,
    /// Creations that failed, each of which may have made a key all the same.
    pub(crate) failed_creations: usize,
}

/// The name of an operation in the log.
pub(crate) type Operation = &'static str;

/// What all tasks write into.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) calls: AtomicU64,
    pub(crate) stop: AtomicBool,
    acknowledged: Mutex<Acknowledged>,
    data_keys: Mutex<HashSet<[u8; 16]>>,
    failures: Mutex<Vec<Failure>>,
    violations: Mutex<Vec<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    pub(crate) fn acknowledged(&self) -> MutexGuard<'_, Acknowledged> {
        locked(&self.acknowledged)
    }

    pub(crate) fn failures(&self) -> Vec<Failure> {
        locked(&self.failures).clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        locked(&self.violations).clone()
    }

    pub(crate) fn runs(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Something happened that must not.
    pub(crate) fn violation(&self, what: String) {
        eprintln!("VIOLATION: {what}");
        locked(&self.violations).push(what);
    }

    /// A data key was handed out: it must be new.
    pub(crate) fn handed_out(&self, plaintext: &[u8]) {
        match plaintext.first_chunk() {
            Some(begin) if locked(&self.data_keys).insert(*begin) => {}
            Some(_) => self.violation("a data key was handed out twice".to_owned()),
            None => self.violation(format!("a data key of {} bytes", plaintext.len())),
        }
    }

    /// A call failed: that must be one of the ways in which calls may fail while there are faults.
    pub(crate) fn failed(&self, caller: Caller, begin: Instant, operation: Operation, error: &Error) {
        let id = error.refusal().and_then(|refusal| refusal.request_id.clone());
        self.acknowledged().refused.extend(id.filter(|_| error.reason() != Some("OUTCOME_UNKNOWN")));
        if !is_expected(caller, error) {
            self.violation(format!("{operation}: {error:?}"));
        }
        let what = match error {
            Error::Refused(refusal) => format!("{:?} {}", refusal.code, refusal.reason),
            Error::Transport { .. } => "connection lost".to_owned(),
            other => other.to_string(),
        };
        locked(&self.failures).push(Failure { caller, begin, end: Instant::now(), what });
    }

    /// How many calls failed, by how they were made and with what.
    pub(crate) fn counts(&self) -> BTreeMap<(Caller, String), usize> {
        let mut counts = BTreeMap::new();
        for failure in locked(&self.failures).iter() {
            *counts.entry((failure.caller, failure.what.clone())).or_default() += 1;
        }
        counts
    }
}

/// Whether faults of the HSM and deaths of the worker explain the error.
fn is_expected(caller: Caller, error: &Error) -> bool {
    match error {
        Error::Transport { .. } | Error::Deadline => true,
        Error::Refused(refusal) if refusal.code == Code::Unavailable => {
            let unknown = caller == Caller::Changing && refusal.reason == "OUTCOME_UNKNOWN";
            refusal.reason == "HSM_UNAVAILABLE" || unknown
        }
        _ => false,
    }
}
