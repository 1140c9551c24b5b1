//! The writer killed at points that nobody chose.

use std::{
    hash::{BuildHasher as _, RandomState},
    thread,
    time::Duration,
};

use kms_audit::{LogConfig, verify};
use tempfile::TempDir;

use crate::{
    burst::{Answers, Burst},
    open, segments,
};

/// How often the writer is killed, and how often in one directory.
const DIRECTORIES: usize = 16;
const ROUNDS: usize = 15;

/// Some thirty records long, so that many kills meet the change of segments.
const CONFIG: LogConfig = LogConfig { segment_bytes: 10_000 };

/// Another number at each call.
fn random(below: u64) -> u64 {
    RandomState::new().hash_one(()) % below
}

/// Every fourth kill comes in the first moments, when the log is opened and repaired; the others come between any two
/// answers.
fn killed_somewhere(directory: &TempDir) -> Answers {
    let mut burst = Burst::endless(directory.path(), CONFIG);
    if random(4) == 0 {
        thread::sleep(Duration::from_micros(random(15_000)));
    } else {
        burst.await_durable(usize::try_from(random(150)).expect("a small number"));
    }
    burst.kill()
}

#[test]
fn what_was_acknowledged_before_each_of_hundreds_of_kills_is_in_the_log() {
    for _ in 0..DIRECTORIES {
        let directory = TempDir::new().expect("a directory");
        let mut all = Answers::default();
        for round in 0..ROUNDS {
            all.durable.extend(killed_somewhere(&directory).durable);
            // As the kill left it: with a tail that may be torn, and before anybody repairs it.
            if !segments(directory.path()).is_empty() {
                verify(directory.path()).unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
            all.check(directory.path());
        }
        drop(open(directory.path()));
        let summary = verify(directory.path()).expect("a sound log");
        assert_eq!((summary.torn_bytes, summary.covered), (0, summary.lines));
        all.check(directory.path());
        assert!(segments(directory.path()).len() > 2, "the bursts have passed several segments");
    }
}
