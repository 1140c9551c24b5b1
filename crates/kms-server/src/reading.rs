//! The log, read while it is written: only what is durable, by few readers at once, off the runtime's threads.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use kms_audit::{
    Found, ProofError, ReadError, RecordLine, Search, end,
    metering::{Meter, count},
    search,
};
use kms_core::{
    Error,
    error::Field,
    ports::{AuditError, AuditLog},
    reading::{RecordFacts, Selection},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    task::spawn_blocking,
};

use crate::announced::AnnouncedLog;

/// How many searches go on at once; further ones wait. One may keep a processor busy for a good part of a second.
const READERS: usize = 2;

/// The log as its readers know it.
#[derive(Debug, Clone)]
pub(crate) struct ReadableLog {
    directory: PathBuf,
    /// The place behind the last durable line.
    durable: watch::Receiver<u64>,
    readers: Arc<Semaphore>,
}

impl ReadableLog {
    /// The log in `directory`, which `log` has opened and written nothing to yet: what lies there is durable. What is
    /// written from now on is to go by the second one that this gives, which tells the first what became durable.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub(crate) fn of(directory: PathBuf, log: Arc<dyn AuditLog>) -> Result<(Self, AnnouncedLog), ReadError> {
        let (announce, durable) = watch::channel(end(&directory)?);
        let readers = Arc::new(Semaphore::new(READERS));
        let announced = AnnouncedLog::new(log, announce, Handle::current());
        Ok((Self { directory, durable, readers }, announced))
    }

    /// The place behind the last durable line, as it changes.
    pub(crate) fn durable(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }

    /// Looks for the records of a selection; `wanted` names no place that is not durable.
    pub(crate) async fn search(
        &self,
        wanted: Search,
        selection: Arc<Selection>,
    ) -> Result<Found, AuditError> {
        let unreadable = |detail: String| AuditError { detail };
        let permit = self.readers.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| unreadable(closed.to_string()))?;
        let directory = self.directory.clone();
        let searching = spawn_blocking(move || {
            let _permit = permit;
            search(&directory, &wanted, |record| selection.admits(&facts(record)))
        });
        let found = searching.await.map_err(|error| unreadable(error.to_string()))?;
        found.map_err(|error| unreadable(error.to_string()))
    }
}

impl ReadableLog {
    /// Lets `meter` count records that it has not counted yet, as many as one search looks at.
    pub(crate) async fn count(&self, meter: Arc<Mutex<Meter>>) -> Result<Counted, AuditError> {
        let unreadable = |detail: String| AuditError { detail };
        let permit = self.readers.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| unreadable(closed.to_string()))?;
        let (directory, end) = (self.directory.clone(), *self.durable.borrow());
        let counting = spawn_blocking(move || {
            let _permit = permit;
            let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
            count(&mut meter, &directory, end).map(|is_all| Counted { next: meter.next(), is_all })
        });
        let counted = counting.await.map_err(|error| unreadable(error.to_string()))?;
        counted.map_err(|error| unreadable(error.to_string()))
    }

    /// The meter that was kept in `file`, if it has counted lines of this log; otherwise one that has counted nothing.
    pub(crate) async fn resume(&self, file: PathBuf) -> Meter {
        let directory = self.directory.clone();
        let resuming = spawn_blocking(move || match Meter::resume(&directory, &file) {
            Ok(meter) => meter,
            Err(error) => {
                let path = file.display();
                tracing::warn!(%path, %error, "what was kept for metering is not used: the log is counted anew");
                None
            }
        });
        resuming.await.ok().flatten().unwrap_or_default()
    }

    /// Keeps in `file` what `meter` has counted of this log; answers how many lines that are.
    pub(crate) async fn keep(&self, meter: Arc<Mutex<Meter>>, file: PathBuf) -> Result<u64, AuditError> {
        let directory = self.directory.clone();
        let keeping = spawn_blocking(move || {
            let meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
            meter.keep(&directory, &file).map(|()| meter.next()).map_err(|error| error.to_string())
        });
        let kept = keeping.await.unwrap_or_else(|error| Err(error.to_string()));
        kept.map_err(|problem| AuditError { detail: format!("what was counted cannot be kept: {problem}") })
    }

    /// Reads the log's tree.
    pub(crate) async fn prove<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Path) -> Result<T, ProofError> + Send + 'static,
    ) -> Result<T, Error> {
        let unreadable = |detail: String| Error::AuditUnavailable(AuditError { detail });
        let directory = self.directory.clone();
        let proved = spawn_blocking(move || read(&directory)).await;
        proved.map_err(|error| unreadable(error.to_string()))?.map_err(|error| match error {
            ProofError::NotCovered(_) => {
                Error::invalid(Field::Size, "must be covered by the newest checkpoint")
            }
            ProofError::OutOfRange => Error::invalid(Field::Seq, "must be a place in a tree of that size"),
            error => unreadable(error.to_string()),
        })
    }
}

/// How far a meter has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// The place behind the last line that was counted.
    pub(crate) next: u64,
    /// Whether that is the end of what was durable.
    pub(crate) is_all: bool,
}

fn facts<'a>(line: &'a RecordLine<'_>) -> RecordFacts<'a> {
    RecordFacts {
        time: line.time,
        account: line.account.as_deref(),
        user: line.user.as_deref(),
        key_id: line.key_id,
        source_key_id: line.source_key_id,
        operation: line.operation,
        verdict: line.verdict,
        reason: line.reason.as_deref(),
        request_id: line.request_id,
        context: &line.context,
        source_context: &line.source_context,
    }
}
