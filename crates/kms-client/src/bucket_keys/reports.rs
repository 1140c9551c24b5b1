//! Tells the service how many objects hang on a bucket key, when that is known: off the path of requests.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU64},
};

use tokio::sync::mpsc;
use tonic::Code;

use super::{KeySource, Requester, counters::count};
use crate::Error;

/// How many reports may wait: more wait only if the service is away for long.
const MOST_WAITING: usize = 4096;

/// What is to be told of one bucket key.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) requester: Requester,
    pub(super) receipt: Vec<u8>,
    pub(super) uses: u64,
}

/// What became of reports.
#[derive(Debug, Default)]
pub(super) struct ReportCounts {
    pub(super) told: AtomicU64,
    pub(super) lost: AtomicU64,
}

/// Takes reports from wherever a bucket key ends. It never waits.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    queue: mpsc::Sender<Report>,
    counts: Arc<ReportCounts>,
}

impl Reporter {
    pub(super) fn take(&self, report: Report) {
        if self.queue.try_send(report).is_err() {
            count(&self.counts.lost);
        }
    }
}

/// The other end: what was taken, and what could not be told yet.
pub(super) struct Outbox {
    queue: mpsc::Receiver<Report>,
    waiting: VecDeque<Report>,
    counts: Arc<ReportCounts>,
}

impl Outbox {
    pub(super) fn new(counts: Arc<ReportCounts>) -> (Reporter, Self) {
        let (sender, queue) = mpsc::channel(MOST_WAITING);
        (Reporter { queue: sender, counts: counts.clone() }, Self { queue, waiting: VecDeque::new(), counts })
    }

    /// Waits for the next report; `false`: nobody is left who could take one.
    pub(super) async fn receive(&mut self) -> bool {
        match self.queue.recv().await {
            Some(report) => {
                self.keep(report);
                true
            }
            None => false,
        }
    }

    fn keep(&mut self, report: Report) {
        if self.waiting.len() == MOST_WAITING {
            self.waiting.pop_front();
            count(&self.counts.lost);
        }
        self.waiting.push_back(report);
    }

    /// Tells what waits, up to the first report that the service cannot take now; what it refuses is given up.
    pub(super) async fn deliver(&mut self, source: &dyn KeySource) {
        while let Some(report) = self.waiting.pop_front() {
            match source.report(&report.requester, &report.receipt, report.uses).await {
                Ok(()) => count(&self.counts.told),
                Err(error) if may_pass(&error) => return self.waiting.push_front(report),
                Err(_) => count(&self.counts.lost),
            }
        }
    }

    /// Takes what is there and nothing after it.
    pub(super) fn close(&mut self) {
        self.queue.close();
        while let Ok(report) = self.queue.try_recv() {
            self.keep(report);
        }
    }

    /// Gives up what still waits.
    pub(super) fn give_up(&mut self) {
        self.waiting.drain(..).for_each(|_| count(&self.counts.lost));
    }
}

/// Whether a further attempt may succeed.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Transport { .. } | Error::Deadline => true,
        Error::Refused(refusal) => matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted),
        _ => false,
    }
}
