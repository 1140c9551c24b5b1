//! The notary while a signature is under way, and how much of a first tree stays in memory.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use kms_core::{Phase, ports::AuditLog as _, testing::audit::sample_record};

use crate::{
    CheckpointSigner, FileLog, LogConfig, Notarization, SignatureDone,
    memory::{Memory, Retraced},
    retrace::MOST_FRESH,
    storage::list,
    testing::SoftwareSigner,
};

/// Far beyond the second between two checkpoints.
const PATIENCE: Duration = Duration::from_secs(60);

/// Hands each request for a signature to the test.
struct Forwarder(Mutex<Sender<(String, SignatureDone)>>);

impl CheckpointSigner for Forwarder {
    fn sign(&self, text: String, done: SignatureDone) {
        // Without a test that listens, there is no signature.
        drop(self.0.lock().expect("not poisoned").send((text, done)));
    }
}

fn notarization(key: &Arc<SoftwareSigner>) -> (Notarization, Receiver<(String, SignatureDone)>) {
    let (sender, requests) = channel();
    let signer = Arc::new(Forwarder(Mutex::new(sender)));
    (Notarization { signer, ..key.notarization() }, requests)
}

fn append(log: &FileLog) {
    let (sender, receiver) = channel();
    let acknowledge = Box::new(move |answer| sender.send(answer).expect("the test waits"));
    log.append(sample_record(1, Phase::Complete), acknowledge);
    receiver.recv().expect("an answer").expect("durable");
}

/// The line of a checkpoint that says how many lines it covers.
fn size(text: &str) -> u64 {
    text.lines().nth(1).and_then(|line| line.parse().ok()).expect("a checkpoint")
}

#[test]
fn tiles_may_fill_while_the_end_of_a_segment_is_signed() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = SoftwareSigner::new([7; 32]);
    let (notarization, requests) = notarization(&key);
    let config = LogConfig { segment_bytes: 20_000 };
    let (log, _) = FileLog::open(directory.path(), config, Some(notarization)).expect("it opens");
    while list(directory.path()).expect("a log").len() < 2 {
        append(&log);
    }
    let end = list(directory.path()).expect("a log")[1];
    let done = loop {
        let (text, done) = requests.recv().expect("the notary asks");
        if size(&text) == end {
            break (text, done);
        }
        done(Ok(key.sign_text(&text)));
    };
    // The partial tile that was written for this checkpoint gives way to a full one.
    while !directory.path().join("tile/0/000").exists() || directory.path().join("tile/0/000.p").exists() {
        append(&log);
    }
    let (text, done) = done;
    done(Ok(key.sign_text(&text)));
    while log.coverage().is_some_and(|coverage| coverage.failures == 0 && coverage.signed < end) {
        std::thread::yield_now();
    }
    assert_eq!(log.coverage().map(|coverage| coverage.failures), Some(0));
    let durable = fs::read_to_string(directory.path().join("tiles-durable")).expect("there");
    assert!(durable.parse::<u64>().expect("a number") >= end);
}

/// A job that panics on an HSM session is dropped with all that it holds.
#[test]
fn a_request_that_is_dropped_is_a_failure_and_the_next_checkpoint_is_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = SoftwareSigner::new([7; 32]);
    let (notarization, requests) = notarization(&key);
    let (log, _) =
        FileLog::open(directory.path(), LogConfig::default(), Some(notarization)).expect("it opens");
    append(&log);
    drop(requests.recv().expect("the notary asks"));
    append(&log);
    let (text, done) = requests.recv_timeout(PATIENCE).expect("the notary asks again");
    done(Ok(key.sign_text(&text)));
    let coverage = || log.coverage().expect("it is signed");
    while coverage().signed < size(&text) {
        std::thread::yield_now();
    }
    assert_eq!(coverage().failures, 1);
}

#[test]
fn of_a_first_tree_few_tiles_stay_in_memory_and_the_others_are_durable() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = LogConfig { segment_bytes: 30_000 };
    let (log, _) = FileLog::open(directory.path(), config, None).expect("it opens");
    (0..1000).for_each(|_| append(&log));
    drop(log);
    let last = *list(directory.path()).expect("a log").last().expect("a segment");
    let lines = 1000 + list(directory.path()).expect("a log").len() as u64;
    let Retraced { tree, begun, fresh } =
        Memory::read(directory.path()).expect("a log").retrace(lines).expect("a sound log");
    assert_eq!((tree.size(), begun.size()), (lines, last));
    assert!(last > 512, "two tiles and more are full before it");
    assert!(fresh.len() < MOST_FRESH && fresh.iter().all(|fresh| fresh.tile.index >= 2), "{}", fresh.len());
    assert!(directory.path().join("tile/0/001").exists());
}
