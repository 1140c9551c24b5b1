//! The worker's memory over the run, and progress on stderr.

use std::{fs, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{ledger::Ledger, site::Site};

/// How often the memory is looked at.
const ROUND: Duration = Duration::from_secs(1);
/// After so many rounds a line on stderr.
const TELL: u64 = 15;
/// Into so many equal parts a worker's life is divided.
const PARTS: usize = 4;
/// How much more the last part may have than the second one.
const TOLERANCE: f64 = 1.05;
/// And so much beside that, in MiB: what SoftHSM2 leaks before it is renewed.
const LEAK: f64 = 2.0;

/// What a worker had at some time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    worker: i32,
    /// RssAnon in MiB: what the process has allocated. The pages of its own program come and go with the machine.
    resident: f64,
}

/// The memory of all workers.
#[derive(Debug, Default)]
pub(crate) struct Memory(Vec<Sample>);

/// Watches until told to stop.
pub(crate) async fn run(site: Arc<Site>, ledger: Arc<Ledger>, begun: Instant) -> Memory {
    let mut memory = Memory::default();
    let mut rounds = 0;
    while ledger.runs() {
        sleep(ROUND).await;
        memory.0.extend(sample(&site));
        rounds += 1;
        if rounds % TELL == 0 {
            let calls = ledger.calls.load(std::sync::atomic::Ordering::Relaxed);
            let resident = memory.0.last().map_or(0.0, |sample| sample.resident);
            let failed = ledger.failures().len();
            eprintln!(
                "{:>5} s: {calls} calls, {failed} failed, {} violations; the worker has {resident:.1} MiB",
                begun.elapsed().as_secs(),
                ledger.violations().len(),
            );
        }
    }
    memory
}

fn sample(site: &Site) -> Option<Sample> {
    let worker = site.supervised.worker_now()?.as_raw_pid();
    let status = fs::read_to_string(format!("/proc/{worker}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u32 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(Sample { worker, resident: f64::from(kib) / 1024.0 })
}

impl Memory {
    /// The medians of the equal parts of the longest life, in MiB, and how long it was, in seconds.
    pub(crate) fn of_longest_life(&self) -> (Vec<f64>, usize) {
        let lives = self.0.chunk_by(|one, next| one.worker == next.worker);
        let longest = lives.max_by_key(|life| life.len()).unwrap_or_default();
        let parts = longest.chunks(longest.len().div_ceil(PARTS).max(1)).map(median);
        (parts.collect(), longest.len())
    }

    /// How many workers were seen.
    pub(crate) fn workers(&self) -> usize {
        self.0.chunk_by(|one, next| one.worker == next.worker).count()
    }
}

/// Whether memory does not grow. The first part does not count: caches fill.
pub(crate) fn is_flat(parts: &[f64]) -> bool {
    match parts {
        [_, second, .., last] => *last <= second * TOLERANCE + LEAK,
        _ => false,
    }
}

fn median(samples: &[Sample]) -> f64 {
    let mut values: Vec<_> = samples.iter().map(|sample| sample.resident).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
