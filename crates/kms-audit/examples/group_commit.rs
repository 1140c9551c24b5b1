//! Measures the log under closed-loop callers: records a second, records a commit, latency, CPU.
//!
//! `group_commit DIRECTORY [MICROSECONDS-OF-WORK]`: two threads stand for the RPC runtime; each call
//! costs one of them that much CPU, and then waits for its record. With `WITHOUT_TREE` in the environment, neither
//! tree nor checkpoints are kept.
#![allow(clippy::print_stdout, reason = "a measuring program prints its results")]
#![allow(clippy::disallowed_methods, reason = "a measuring program asks the machine's clock")]
#![allow(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use kms_audit::{FileLog, LogConfig, RecordLine, testing::SoftwareSigner};
use kms_core::{
    Phase, Record,
    identity::{AccountId, Caller, Credential, ProjectId, Region, UserId},
    key::KeyId,
    operation::{OperationName, Permissions},
    ports::AuditLog,
    testing::audit::sample_record,
};
use parking_lot::{Condvar, Mutex};

const THREADS: usize = 2;
const SECONDS: u64 = 3;

/// A thread of the runtime: its calls that may go on, and the condvar on which it sleeps.
#[derive(Default)]
struct Inbox {
    ready: Mutex<Vec<Instant>>,
    arrived: Condvar,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().expect("a directory");
    let work = arguments.next().map_or(15, |text| text.parse().expect("microseconds"));
    measure_encoding();
    for callers in [1, 2, 16, 64, 256] {
        let path = Path::new(&directory).join(callers.to_string());
        measure(&path, callers, Duration::from_micros(work));
    }
}

fn record() -> Record {
    let caller = Caller {
        account: AccountId::parse("0b1c7a8f2f6d4f0f8f0c4f5b6a7d8e9f").expect("a name"),
        user: UserId::parse("7a8f2f6d4f0f8f0c4f5b6a7d8e9f0b1c").expect("a name"),
        project: ProjectId::parse("2f6d4f0f8f0c4f5b6a7d8e9f0b1c7a8f").expect("a name"),
        region: Region::parse("cn-north-4").expect("a name"),
        projects: Arc::new([]),
        acting_service: None,
        permissions: Permissions::NONE,
        credential: Credential::Certificate([7; 32]),
        source: ([127, 0, 0, 1], 40_000).into(),
    };
    Record {
        operation: OperationName::GenerateDataKey,
        caller: Some(caller),
        key_id: Some(KeyId::from_uuid(uuid::Uuid::from_u128(9))),
        key_version: Some(1),
        context: [("bucket".to_owned(), "ab".repeat(32))].into(),
        ..sample_record(1, Phase::Complete)
    }
}

fn measure_encoding() {
    const COUNT: u32 = 1_000_000;
    let record = record();
    let mut buffer = Vec::new();
    let began = Instant::now();
    for sequence in 0..COUNT {
        buffer.clear();
        serde_json::to_writer(&mut buffer, &RecordLine::new(sequence.into(), &record)).expect("a line");
    }
    println!("encoding: {} bytes, {:?} a record", buffer.len(), began.elapsed() / COUNT);
    let began = Instant::now();
    for _ in 0..COUNT / 10 {
        kms_audit::Line::parse(&buffer).expect("a line");
    }
    println!("parsing: {:?} a record", began.elapsed() / (COUNT / 10));
}

fn measure(path: &Path, callers: usize, work: Duration) {
    let tree = std::env::var_os("WITHOUT_TREE").is_none();
    let notarization = tree.then(|| SoftwareSigner::new([7; 32]).notarization());
    let (log, _) = FileLog::open(path, LogConfig::default(), notarization).expect("the log opens");
    let log = Arc::new(log);
    let inboxes: Vec<_> = (0..THREADS.min(callers)).map(|_| Arc::new(Inbox::default())).collect();
    for caller in 0..callers {
        inboxes[caller % inboxes.len()].ready.lock().push(Instant::now());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (cpu, began) = (cpu_time(), Instant::now());
    let threads: Vec<_> = inboxes
        .iter()
        .map(|inbox| {
            let (inbox, log, stop) = (Arc::clone(inbox), Arc::clone(&log), Arc::clone(&stop));
            thread::spawn(move || serve(&inbox, &log, work, &stop))
        })
        .collect();
    thread::sleep(Duration::from_secs(SECONDS));
    stop.store(true, Relaxed);
    let mut latencies: Vec<Duration> =
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
    let (cpu, took) = (cpu_time().saturating_sub(cpu), began.elapsed());
    latencies.sort_unstable();
    let statistics = log.statistics();
    let count = latencies.len();
    println!(
        "{callers:4} callers: {:7.0} records/s, {:5.1} a commit, p50 {:?}, p99 {:?}, CPU {:.1} us a record",
        count as f64 / took.as_secs_f64(),
        statistics.records as f64 / statistics.commits as f64,
        latencies[count / 2],
        latencies[count * 99 / 100],
        cpu.as_secs_f64() * 1e6 / count as f64,
    );
}

fn serve(inbox: &Arc<Inbox>, log: &FileLog, work: Duration, stop: &AtomicBool) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut calls = Vec::new();
    while !stop.load(Relaxed) {
        let mut ready = inbox.ready.lock();
        if ready.is_empty() {
            inbox.arrived.wait_for(&mut ready, Duration::from_millis(100));
        }
        std::mem::swap(&mut *ready, &mut calls);
        drop(ready);
        for appended in calls.drain(..) {
            latencies.push(appended.elapsed());
            let began = Instant::now();
            while began.elapsed() < work {}
            let (inbox, appended) = (Arc::clone(inbox), Instant::now());
            let acknowledge = move |answer: Result<_, _>| {
                answer.expect("the log works");
                let mut ready = inbox.ready.lock();
                ready.push(appended);
                if ready.len() == 1 {
                    inbox.arrived.notify_one();
                }
            };
            log.append(record(), Box::new(acknowledge));
        }
    }
    latencies
}

/// CPU time of the process, from the kernel's ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
    Duration::from_millis(ticks * 10)
}
