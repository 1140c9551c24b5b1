//! Floods of refusals, summed up before they fill the log.
//!
//! The first refusals of a kind are recorded one by one. Once one of them is durable, further ones are counted, and
//! answered with its receipt; when the kind's window ends, one record tells of all that were counted (docs/adr/0017).

mod kind;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kms_core::{
    Record,
    ports::{Acknowledge, AuditError, AuditLog, Clock, Receipt},
};
use parking_lot::Mutex;
use tokio::{sync::watch, time::interval};

use crate::server::stopped;
use kind::{Kind, Origin};

/// For how long refusals of a kind are counted before they are recorded.
const WINDOW: Duration = Duration::from_secs(10);
/// How often windows that have ended are looked for: so much longer may one last.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How many refusals of a kind are at least recorded one by one in each window.
const EXACT: u64 = 10;
/// How many kinds one origin may have at a time until what a caller varies at will makes no kind any more.
const KINDS: usize = 64;

/// A log before the log, which sums up refusals.
pub(crate) struct SummingLog {
    log: Arc<dyn AuditLog>,
    works: Box<dyn Fn() -> bool + Send + Sync>,
    clock: Arc<dyn Clock>,
    table: Arc<Table>,
}

impl SummingLog {
    /// Before `log`; `works` tells whether that takes records, as far as is known without trying. Windows go by the
    /// monotonic time of `clock`.
    pub(crate) fn new(
        log: Arc<dyn AuditLog>,
        works: impl Fn() -> bool + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { log, works: Box::new(works), clock, table: Arc::default() }
    }

    /// How many refusals were counted instead of being recorded one by one.
    pub(crate) fn summed(&self) -> u64 {
        self.table.summed.load(Ordering::Relaxed)
    }

    /// Records the sums whose window has ended, and those that could not be recorded before.
    pub(crate) fn sweep(&self) {
        let ended = self.clock.monotonic().checked_sub(WINDOW);
        let sums = self.table.state.lock().take(|window| ended.is_some_and(|ended| window.opened <= ended));
        self.record(sums);
    }

    /// Records all sums. From now on every refusal is recorded by itself.
    pub(crate) fn close(&self) {
        let sums = {
            let mut state = self.table.state.lock();
            state.closed = true;
            state.take(|_| true)
        };
        self.record(sums);
    }

    fn record(&self, sums: Vec<Record>) {
        for sum in sums {
            let (table, again) = (self.table.clone(), sum.clone());
            let acknowledge = move |answer: Result<Receipt, AuditError>| {
                if let Err(error) = answer {
                    table.owe(again, &error);
                }
            };
            self.log.append(sum, Box::new(acknowledge));
        }
    }
}

impl AuditLog for SummingLog {
    fn append(&self, record: Record, acknowledge: Acknowledge) {
        let Some((origin, mut kind)) = kind::of(&record) else {
            return self.log.append(record, acknowledge);
        };
        let now = self.clock.monotonic();
        if let Some(receipt) = self.table.count(&origin, &mut kind, &record, now, (self.works)()) {
            return acknowledge(Ok(receipt));
        }
        let table = self.table.clone();
        let noted = move |answer: Result<Receipt, AuditError>| {
            table.note(&origin, &kind, answer.as_ref().ok());
            acknowledge(answer);
        };
        self.log.append(record, Box::new(noted));
    }
}

impl Drop for SummingLog {
    fn drop(&mut self) {
        self.close();
    }
}

/// What is counted. Its lock is never held while the log is called, for that may acknowledge at once.
#[derive(Default)]
struct Table {
    state: Mutex<State>,
    summed: AtomicU64,
}

#[derive(Default)]
struct State {
    windows: HashMap<Origin, HashMap<Kind, Window>>,
    /// Sums that the log has refused. While there are any, nothing is counted.
    owed: Vec<Record>,
    closed: bool,
}

struct Window {
    opened: Duration,
    /// How many were recorded one by one.
    recorded: u64,
    /// Of the last of those, if it is durable.
    receipt: Option<Receipt>,
    /// The first refusal that was counted, with how many there were.
    sum: Option<Record>,
}

impl Table {
    /// Counts a refusal, if it may be, and answers the receipt of another of its kind; `None`: it has to be recorded by
    /// itself. `kind` becomes the kind that it is taken for.
    fn count(
        &self,
        origin: &Origin,
        kind: &mut Kind,
        record: &Record,
        now: Duration,
        works: bool,
    ) -> Option<Receipt> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let may_count = works && state.owed.is_empty();
        let kinds = state.windows.entry(origin.clone()).or_default();
        if kinds.len() >= KINDS && !kinds.contains_key(kind) {
            kind.coarsen();
        }
        let new = || Window { opened: now, recorded: 0, receipt: None, sum: None };
        let window = kinds.entry(kind.clone()).or_insert_with(new);
        let receipt = window.receipt.filter(|_| may_count && window.recorded >= EXACT);
        if receipt.is_none() {
            window.recorded += 1;
            return None;
        }
        match &mut window.sum {
            Some(sum) => sum.count += record.count,
            none => *none = Some(kind.outline(record)),
        }
        self.summed.fetch_add(record.count, Ordering::Relaxed);
        receipt
    }

    /// Says what became of a refusal that was recorded by itself.
    fn note(&self, origin: &Origin, kind: &Kind, receipt: Option<&Receipt>) {
        let mut state = self.state.lock();
        if let Some(window) = state.windows.get_mut(origin).and_then(|kinds| kinds.get_mut(kind)) {
            window.receipt = receipt.copied();
        }
    }

    /// Keeps a sum that could not be recorded for the next sweep.
    fn owe(&self, sum: Record, error: &AuditError) {
        let mut state = self.state.lock();
        if state.closed {
            tracing::error!(count = sum.count, %error, "refusals that were summed up could not be recorded");
        } else {
            state.owed.push(sum);
        }
    }
}

impl State {
    /// Ends windows; answers what is to be recorded.
    fn take(&mut self, ended: impl Fn(&Window) -> bool) -> Vec<Record> {
        let mut sums = std::mem::take(&mut self.owed);
        self.windows.retain(|_, kinds| {
            sums.extend(kinds.extract_if(|_, window| ended(window)).filter_map(|(_, window)| window.sum));
            !kinds.is_empty()
        });
        sums
    }
}

/// Sweeps until the service stops; what is left then is recorded at the very end.
pub(crate) async fn drive(log: Arc<SummingLog>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => log.sweep(),
            () = stopped(&mut stop) => return,
        }
    }
}
