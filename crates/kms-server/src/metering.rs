//! What billing would need, counted from the log while it grows, so that no call reads more of it than is new.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use kms_audit::metering::{Asked, Meter, Metered};
use kms_core::{Timestamp, ports::AuditError};
use tokio::{
    sync::{OnceCell, watch},
    task::spawn_blocking,
    time::interval,
};

use crate::{
    reading::{Counted, ReadableLog},
    server::stopped,
};

/// How often what is new in the log is counted when nobody asks.
const COUNT_INTERVAL: Duration = Duration::from_secs(30);
/// How many steps of 32 MiB a call waits for: a second or two. It is refused if that does not reach the log's end.
const MOST_STEPS: usize = 8;
/// After so many lines what was counted is kept, and after no fewer than there are keys: to keep a key costs about as
/// much as to count a line, and keeping is not to cost more than counting. A restart counts about as many anew, in a second
/// or two.
const KEPT_EVERY: u64 = 250_000;

/// The sums of the log, and how far they have come.
#[derive(Debug)]
pub(crate) struct Metering {
    log: ReadableLog,
    meter: Arc<Mutex<Meter>>,
    /// The place behind the last line that was counted.
    next: AtomicU64,
    /// Where what was counted is kept.
    file: PathBuf,
    /// Set when it was looked there for what an earlier process had counted.
    resumed: OnceCell<()>,
    /// How many lines are counted by what is kept.
    kept: AtomicU64,
}

/// A page of the sums.
#[derive(Debug)]
pub(crate) struct MeteringPage {
    /// No more than were asked for.
    pub(crate) metered: Vec<Metered>,
    /// Whether there may be more.
    pub(crate) is_full: bool,
    /// Up to when keys that live are counted.
    pub(crate) until: Timestamp,
    /// The place behind the last line that was counted.
    pub(crate) end: u64,
    /// Since when the sums are whole, if not from the beginning.
    pub(crate) whole_since: Option<Timestamp>,
}

impl Metering {
    /// Nothing is counted yet, but for what was kept in `file`.
    pub(crate) fn new(log: ReadableLog, file: PathBuf) -> Self {
        let (meter, resumed) = (Arc::default(), OnceCell::new());
        Self { log, meter, next: 0.into(), file, resumed, kept: 0.into() }
    }

    /// The place in the log from which on it will be counted.
    pub(crate) fn counted_up_to(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Counts as much as one step does; answers whether that was all.
    async fn step(&self) -> Result<bool, AuditError> {
        self.resumed.get_or_init(|| self.resume()).await;
        let Counted { next, is_all } = self.log.count(self.meter.clone()).await?;
        self.next.fetch_max(next, Relaxed);
        Ok(is_all)
    }

    /// Begins with what was kept, before anything is counted.
    async fn resume(&self) {
        let meter = self.log.resume(self.file.clone()).await;
        self.kept.store(meter.next(), Relaxed);
        *self.meter.lock().unwrap_or_else(PoisonError::into_inner) = meter;
    }

    /// Keeps what was counted, durably, if what is kept does not count `lines` lines.
    pub(crate) async fn keep(&self, lines: u64) -> Result<(), AuditError> {
        if self.kept.load(Relaxed) < lines {
            let kept = self.log.keep(self.meter.clone(), self.file.clone()).await?;
            self.kept.fetch_max(kept, Relaxed);
        }
        Ok(())
    }

    fn keys(&self) -> u64 {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).keys()
    }

    /// Counts as much as one step does, and keeps it now and then; answers whether that was all.
    async fn step_and_keep(&self) -> Result<bool, AuditError> {
        let is_all = self.step().await?;
        let counted = self.counted_up_to();
        let new = counted.saturating_sub(self.kept.load(Relaxed));
        if new >= KEPT_EVERY && new >= self.keys() {
            self.keep(counted).await?;
        }
        Ok(is_all)
    }

    /// Counts what is new, and reads a page of the sums.
    pub(crate) async fn read(&self, asked: Asked) -> Result<MeteringPage, AuditError> {
        self.catch_up().await?;
        let meter = self.meter.clone();
        let reading = spawn_blocking(move || {
            let meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
            let metered = meter.report(&asked);
            MeteringPage {
                is_full: metered.len() >= asked.limit,
                metered,
                until: meter.latest().map_or(asked.until, |latest| latest.max(asked.until)),
                end: meter.next(),
                whole_since: meter.whole_since(),
            }
        });
        reading.await.map_err(|error| AuditError { detail: error.to_string() })
    }

    /// Counts what is new, as far as a call waits for it.
    pub(crate) async fn catch_up(&self) -> Result<(), AuditError> {
        for _ in 0..MOST_STEPS {
            if self.step().await? {
                return Ok(());
            }
        }
        let detail = format!("the log is still being counted: {} lines so far", self.counted_up_to());
        Err(AuditError { detail })
    }
}

/// Counts the log, and from then on what is new in it, until the service stops. Not at once: a service that has just
/// started has calls to answer, and whoever asks has it counted.
pub(crate) async fn drive(metering: Arc<Metering>, mut stop: watch::Receiver<bool>) {
    let (mut ticks, mut ailing) = (interval(COUNT_INTERVAL), false);
    ticks.reset();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut stop) => return,
        }
        loop {
            match metering.step_and_keep().await {
                Ok(is_all) => {
                    ailing = false;
                    if is_all || *stop.borrow() {
                        break;
                    }
                }
                Err(AuditError { detail }) => {
                    if !ailing {
                        tracing::error!(detail, "the audit log cannot be counted for metering");
                    }
                    ailing = true;
                    break;
                }
            }
        }
    }
}
