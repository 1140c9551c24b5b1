//! Counts in the store what the log tells of the use of keys: at start what is missing, then from time to time.

use std::{path::PathBuf, sync::Arc, time::Duration};

use kms_audit::{Entry, Line, ReadError, first_sequence, read_from};
use kms_core::{
    Moved, Service,
    usage::{Use, UseKind},
};
use tokio::{sync::watch, time::interval};

use crate::{serve_error::ServeError, server::stopped};

/// How often what was counted is written: a restart after a crash counts at most this long anew.
const FLUSH_INTERVAL: Duration = Duration::from_secs(2);

/// Counts what the log in `directory` tells and the store does not count yet. Before the first call.
pub(crate) async fn catch_up(service: &Service, directory: PathBuf) -> Result<(), ServeError> {
    let from = service.resume_usage().await.map_err(|error| failed(&error))?;
    let read = move || -> Result<_, ReadError> {
        let mut missed = Vec::new();
        for entry in read_from(&directory, from)? {
            missed.push(counted(&entry?));
        }
        Ok((first_sequence(&directory)?, missed))
    };
    let (begins, missed) = tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| ServeError::Reconcile(error.to_string()))?
        .map_err(|error| ServeError::Reconcile(error.to_string()))?;
    let count = service.count_missed(begins, missed).await.map_err(|error| failed(&error))?;
    if count > 0 {
        tracing::info!(count, "uses of keys that a crash had left uncounted were counted from the log");
    }
    Ok(())
}

/// What one line of the log counts as.
fn counted(entry: &Entry) -> (u64, Vec<Use>) {
    let sequence = entry.line.sequence();
    let Line::Record(line) = &entry.line else { return (sequence, Vec::new()) };
    let kind = UseKind::of(line.operation, line.phase, line.verdict, line.reason.as_deref());
    let one = kind.zip(line.key_id).zip(line.key_version).map(|((kind, key_id), version)| Use {
        key_id,
        version,
        kind,
        count: line.count,
        time: line.time,
        moved: line.from_version.zip(line.item).map(|(from_version, item)| Moved { from_version, item }),
    });
    let source = line.source_key_id.zip(line.source_key_version);
    (sequence, one.map(|one| one.and_opening(source)).unwrap_or_default())
}

/// Writes what was counted until the service stops; what is left then is written at the very end.
pub(crate) async fn drive(service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(FLUSH_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => flush(&service).await,
            () = stopped(&mut stop) => return,
        }
    }
}

/// Writes what was counted. A failure loses nothing: it is tried again, at the latest from the log at the next start.
pub(crate) async fn flush(service: &Service) {
    if let Err(error) = service.flush_usage().await {
        let detail = error.operator_detail().unwrap_or_else(|| error.to_string());
        tracing::warn!(reason = error.code(), detail, "the counts of uses could not be written");
    }
}

fn failed(error: &kms_core::Error) -> ServeError {
    ServeError::Reconcile(error.operator_detail().unwrap_or_else(|| error.to_string()))
}
