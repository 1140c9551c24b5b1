//! Copies closed segments of the audit log to its archive, and removes from the log what it need not keep.
//!
//! In this order, so that no moment of a crash loses a segment: the copy is proved; the log tells of it; a checkpoint
//! covers what it tells; the segment goes. Each pass takes up what the one before could not do.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use kms_audit::{Archive, ArchiveError, FileLog};
use kms_core::Service;
use tokio::{sync::watch, time::sleep};

use crate::{config::ArchiveConfig, metering::Metering, server::stopped};

/// How often it is looked for closed segments.
const LOOK: Duration = Duration::from_secs(5);
/// The longest wait after failures; it doubles from the first one.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The archiver of this process's log, as metrics see it.
#[derive(Debug)]
pub(crate) struct Archiver {
    archive: Archive,
    /// How many closed segments stay in the log, if not all.
    keep: Option<usize>,
    /// How many lines of the log are in the archive; 0 until it was looked at.
    pub(crate) lines: AtomicU64,
    /// Segments that were removed from the log since the start.
    pub(crate) removed: AtomicU64,
    /// Passes that failed.
    pub(crate) failures: AtomicU64,
}

/// What the log tells of lines that may go.
#[derive(Debug, Clone, Copy)]
struct Noted {
    lines: u64,
    /// Where the record stands.
    sequence: u64,
}

impl Archiver {
    /// The archiver of the log in the directory `log`.
    pub(crate) fn new(log: &Path, config: &ArchiveConfig) -> Self {
        Self {
            archive: Archive::new(log, &config.directory),
            keep: config.keep_segments,
            lines: 0.into(),
            removed: 0.into(),
            failures: 0.into(),
        }
    }

    async fn pass(
        &self,
        service: &Service,
        metering: &Metering,
        log: &FileLog,
        noted: &mut Option<Noted>,
    ) -> Result<(), String> {
        let held = self.blocking(Archive::copy).await?;
        self.lines.store(held, Relaxed);
        let signed = log.coverage().map_or(0, |coverage| coverage.signed);
        if let Some(Noted { lines, .. }) = noted.filter(|noted| noted.sequence < signed) {
            let count = self.blocking(move |archive| archive.remove(lines)).await?;
            self.removed.fetch_add(count, Relaxed);
            *noted = None;
        }
        let Some(keep) = self.keep.filter(|_| noted.is_none()) else { return Ok(()) };
        metering.catch_up().await.map_err(|error| error.detail)?;
        // From there on a restart counts the uses of keys, and what is metered.
        let below = held.min(service.counted_up_to()).min(metering.counted_up_to());
        if let Some(lines) = self.blocking(move |archive| archive.removable(below, keep)).await? {
            metering.keep(lines).await.map_err(|error| error.detail)?;
            let told = service.note_archived(lines).await.map_err(|refused| {
                let error = refused.error();
                error.operator_detail().unwrap_or_else(|| error.to_string())
            })?;
            *noted = Some(Noted { lines, sequence: told.receipt().sequence() });
        }
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Archive) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, String> {
        let archive = self.archive.clone();
        let done = tokio::task::spawn_blocking(move || work(&archive)).await;
        done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

/// Archives until the service stops.
pub(crate) async fn drive(
    archiver: Arc<Archiver>,
    service: Arc<Service>,
    metering: Arc<Metering>,
    log: Arc<FileLog>,
    mut stop: watch::Receiver<bool>,
) {
    let (mut wait, mut noted, mut ailing) = (LOOK, None, false);
    loop {
        match archiver.pass(&service, &metering, &log, &mut noted).await {
            Ok(()) => {
                if ailing {
                    tracing::info!("the audit log is archived again");
                }
                (wait, ailing) = (LOOK, false);
            }
            Err(problem) => {
                archiver.failures.fetch_add(1, Relaxed);
                if !ailing {
                    tracing::error!(problem, "the audit log is not archived, and nothing of it is removed");
                }
                wait = if ailing { (2 * wait).min(LONGEST_WAIT) } else { LOOK };
                ailing = true;
            }
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = sleep(wait) => {}
        }
    }
}
