//! What billing would need, counted from the log while it grows, so that no call reads more of it than is new.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use kms_audit::metering::{Asked, Meter, Metered};
use kms_core::{Timestamp, ports::AuditError};
use tokio::{sync::watch, task::spawn_blocking, time::interval};

use crate::{
    reading::{Counted, ReadableLog},
    server::stopped,
};

/// How often what is new in the log is counted when nobody asks.
const COUNT_INTERVAL: Duration = Duration::from_secs(30);
/// How many steps of 32 MiB a call waits for: a second or two. It is refused if that does not reach the log's end.
const MOST_STEPS: usize = 8;

/// The sums of the log, and how far they have come.
#[derive(Debug)]
pub(crate) struct Metering {
    log: ReadableLog,
    meter: Arc<Mutex<Meter>>,
    /// The place behind the last line that was counted.
    next: AtomicU64,
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
    /// Nothing is counted yet.
    pub(crate) fn new(log: ReadableLog) -> Self {
        Self { log, meter: Arc::default(), next: 0.into() }
    }

    /// The place in the log from which on it will be counted.
    pub(crate) fn counted_up_to(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Counts as much as one step does; answers whether that was all.
    async fn step(&self) -> Result<bool, AuditError> {
        let Counted { next, is_all } = self.log.count(self.meter.clone()).await?;
        self.next.fetch_max(next, Relaxed);
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

/// Counts the log, and from then on what is new in it, until the service stops.
pub(crate) async fn drive(metering: Arc<Metering>, mut stop: watch::Receiver<bool>) {
    let (mut ticks, mut ailing) = (interval(COUNT_INTERVAL), false);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut stop) => return,
        }
        loop {
            match metering.step().await {
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
