//! The rows about a long log: how fast it is verified and counted against reading and hashing its bytes, and in how much
//! memory.
//!
//! The log is made by the service's own writer, once, and kept.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hint::black_box,
    io::Read as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

use dewpoint_tests::{binary, most_memory};
use ed25519_dalek::{Signer as _, SigningKey};
use kms_audit::{
    CheckpointSigner, FileLog, LogConfig, Notarization, SignatureDone, bytes_to_read, end,
    metering::{Meter, count},
    verify,
};
use kms_core::{
    Phase, Record, Timestamp, Verdict,
    identity::{AccountId, Caller, Credential, Permissions, ProjectId, Region, UserId},
    key::KeyId,
    operation::OperationName,
    ports::{AuditLog as _, BoxFuture, Clock},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::rows::{Bound, ROUNDS, Table, own_directory};

/// The size of the log, in MiB; by default 1024.
const VARIABLE: &str = "BENCH_LOG";
/// Names the directories: another one for each change of what lies in them.
const FORMAT: &str = "log-1";
/// In the directory: written last.
const WHOLE: &str = "whole";
/// Records that are written together.
const BATCH: u128 = 4096;
/// How many accounts, and keys of each, the records tell of.
const ACCOUNTS: u128 = 20;
const KEYS: u128 = 50;
/// So much is read at once where bytes are only read.
const BLOCK: usize = 1 << 20;

/// Measures them.
pub(crate) fn rows(table: &mut Table) {
    let size = std::env::var(VARIABLE).map_or(1024, |size| size.parse().expect("a number of MiB"));
    let directory = kept(size);
    let summary = verify(&directory).expect("the log is sound"); // from now on its pages are in memory
    assert_eq!(summary.covered, summary.lines, "a checkpoint covers all of it");
    let bytes = mebibytes(bytes_to_read(&directory).expect("it is there"));
    verification(table, &directory, bytes);
    counting(table, &directory, summary.records);
    memory(table, &directory);
}

/// `dewctl audit verify`, against reading the same bytes and hashing them by as many threads: once as they are, and as
/// the tree takes them, which is the least that any verifier has to compute.
fn verification(table: &mut Table, directory: &Path, bytes: f64) {
    let mut row = |name: &str, floor: &dyn Fn(), goal: &str, recorded: f64| {
        let (mut ratios, mut last) = (Vec::new(), String::new());
        for _ in 0..ROUNDS {
            let floor = timed(floor);
            let ours = timed(|| drop(verify(directory).expect("the log is sound")));
            ratios.push(floor / ours);
            last = format!("{:.0} MiB/s of {:.0} MiB/s, {bytes:.0} MiB", bytes / ours, bytes / floor);
        }
        table.row(name, &last, ratios, goal, Bound::AtLeast(recorded));
    };
    row("log: verification / hashing its tree", &|| hash_tree(directory), ">= 0.7", 0.6);
    row("log: verification / hashing its bytes", &|| hash_bytes(directory), ">= 0.3", 0.25);
}

/// `dewctl usage DIR`, against reading and hashing the same bytes; both by one thread.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52 records")]
fn counting(table: &mut Table, directory: &Path, records: u64) {
    let end = end(directory).expect("it is there");
    let (mut ratios, mut last) = (Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let floor = timed(|| segments(directory).iter().for_each(|path| hash_file(path)));
        let ours = timed(|| {
            let mut meter = Meter::default();
            while !count(&mut meter, directory, end).expect("the log is sound") {}
            black_box(meter);
        });
        ratios.push(floor / ours);
        last = format!("{:.0} records/s, {ours:.2} s of {floor:.2} s", records as f64 / ours);
    }
    table.row("log: counting for metering / hashing", &last, ratios, ">= 0.1", Bound::AtLeast(0.08));
}

/// The most memory that `dewctl audit verify` ever has.
fn memory(table: &mut Table, directory: &Path) {
    let mut dewctl = Command::new(binary().with_file_name("dewctl"));
    let dewctl = dewctl.args(["audit", "verify"]).arg(directory);
    let mut child = dewctl.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("dewctl starts");
    let mut most: f64 = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is a child") {
            break status;
        }
        most = most.max(most_memory(child.id()).unwrap_or_default());
        thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "the log is sound");
    assert!(most > 0.0, "it was seen while it ran");
    table.row("log: memory of its verification, MiB", "", vec![most], "<= 64", Bound::AtMost(64.0));
}

#[allow(clippy::disallowed_methods, reason = "measures real time")]
fn timed(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let paths =
        fs::read_dir(directory).expect("the log's directory").map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect()
}

fn read_all(path: &Path, mut take: impl FnMut(&[u8])) {
    let (mut file, mut block) = (File::open(path).expect("it is there"), vec![0; BLOCK]);
    loop {
        match file.read(&mut block).expect("it can be read") {
            0 => return,
            length => take(&block[..length]),
        }
    }
}

/// Hashes the bytes of all segments.
fn hash_bytes(directory: &Path) {
    for_each_segment(directory, hash_file);
}

fn hash_file(path: &Path) {
    let mut hash = Sha256::new();
    read_all(path, |bytes| hash.update(bytes));
    black_box(hash.finalize());
}

/// Hashes all lines as leaves of a tree of RFC 6962, and for each of them one node of two hashes: so many as a tree has.
/// Of a line that two blocks share both pieces are hashed, which is no less.
fn hash_tree(directory: &Path) {
    for_each_segment(directory, |path| {
        let mut node = [1; 65];
        read_all(path, |bytes| {
            for line in bytes.split(|byte| *byte == b'\n') {
                let leaf = Sha256::new().chain_update([0]).chain_update(line).finalize();
                node[1..33].copy_from_slice(&leaf);
                black_box(Sha256::digest(node));
            }
        });
    });
}

/// Takes the segments by as many threads as there are processors, each the next one.
fn for_each_segment(directory: &Path, take: impl Fn(&Path) + Sync) {
    let (paths, threads) =
        (segments(directory), thread::available_parallelism().map_or(1, NonZeroUsize::get));
    let (paths, next) = (&paths, AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    take(path);
                }
            });
        }
    });
}

/// The directory with a log of so many MiB, which is made if it is not there yet.
fn kept(size: u64) -> PathBuf {
    let directory = own_directory().join(FORMAT).join(size.to_string());
    if directory.join(WHOLE).exists() {
        return directory;
    }
    // What an interrupted run left is not whole.
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory).expect("the directory is ours");
    eprintln!("making a log of {size} MiB in {}", directory.display());
    let (log, _) =
        FileLog::open(&directory, LogConfig::default(), Some(notarization())).expect("a new log opens");
    let mut written = 0;
    while bytes_to_read(&directory).expect("it is there") < size << 20 {
        let (sender, receiver) = channel();
        for number in written..written + BATCH {
            let sender = sender.clone();
            let acknowledge = move |receipt| drop(sender.send(receipt));
            log.append(record(number), Box::new(acknowledge));
        }
        drop(sender);
        for receipt in receiver {
            receipt.expect("durable");
        }
        written += BATCH;
    }
    log.shutdown();
    fs::write(directory.join(WHOLE), []).expect("the directory is ours");
    directory
}

/// The call for a data key that a gateway makes.
fn record(number: u128) -> Record {
    let (account, key) = (number % ACCOUNTS, number / ACCOUNTS % KEYS);
    let name = format!("{:032x}", 0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_0000 + account);
    let numbered = |number: u128| Uuid::from_u128(0x0193_a000_0000_7000_8000_0000_0000_0000 + number);
    let [low, high, ..] = number.to_le_bytes();
    let moment = i64::try_from(number).expect("a small number");
    Record {
        time: Timestamp::from_micros(1_795_526_645_000_000 + 250 * moment),
        request_id: numbered(number),
        operation: OperationName::GenerateDataKey,
        phase: Phase::Complete,
        verdict: Verdict::Succeeded,
        caller: Some(Caller {
            account: AccountId::parse(&name).expect("a name"),
            user: UserId::parse("obs-gateway").expect("a name"),
            project: ProjectId::parse(&name).expect("a name"),
            region: Region::parse("cn-north-4").expect("a name"),
            projects: Arc::new([]),
            acting_service: None,
            permissions: Permissions::NONE,
            credential: Credential::Certificate([0xab; 32]),
            source: ([10, 0, high, low], 40_000 + u16::from(low)).into(),
        }),
        key_id: Some(KeyId::from_uuid(numbered(account << 64 | key))),
        key_version: Some(1),
        moved: None,
        bucket_key: None,
        reason: None,
        missing_action: None,
        grant_id: None,
        ruling: None,
        context: BTreeMap::from([("object".to_owned(), hex::encode(Sha256::digest(number.to_be_bytes())))]),
        stranger: None,
        source_key_id: None,
        source_key_version: None,
        source_context: BTreeMap::new(),
        state_digest: None,
        archived_lines: None,
        made: None,
        latency: Duration::from_micros(180 + u64::from(low)),
        count: 1,
    }
}

/// A key in memory: how fast the log is signed is not measured here.
struct OwnKey(SigningKey);

impl CheckpointSigner for OwnKey {
    fn sign(&self, text: String, done: SignatureDone) {
        done(Ok(self.0.sign(text.as_bytes()).to_bytes()));
    }
}

/// A time that stands.
struct NoClock;

impl Clock for NoClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_795_526_645_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn notarization() -> Notarization {
    let key = SigningKey::from_bytes(&[7; 32]);
    Notarization {
        origin: "dewpoint.example/bench".to_owned(),
        public_key: key.verifying_key().to_bytes(),
        new_key: false,
        signer: Arc::new(OwnKey(key)),
        clock: Arc::new(NoClock),
        published: Box::new(|_| ()),
    }
}
