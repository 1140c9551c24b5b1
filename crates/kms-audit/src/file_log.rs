//! The log as the service uses it: a queue and the one thread that writes.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use kms_core::{
    Record,
    ports::{Acknowledge, AuditError, AuditLog},
};
use parking_lot::Mutex;

use crate::{
    cosigning::Cosigning,
    counters::{Counters, Coverage, Health, Statistics},
    journal::{Journal, Pending, RETRY_PAUSE},
    memory::Memory,
    notary::{Notarization, Notary, Progress},
    note::VerifierKey,
    queue::{Patience, Queue},
    recovery::{Kept, OpenError, Opened, open},
    storage::{Directory, Storage},
};

/// How the log lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment that has grown to this size, in bytes, is followed by another.
    pub segment_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20 }
    }
}

/// The audit log in a directory. Records are grouped: one write and one fdatasync for all that wait.
pub struct FileLog {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    /// Absent without notarization.
    notarized: Option<Notarized>,
    /// The writer, then the notary, which ends after it.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What is there besides if the log is signed.
struct Notarized {
    progress: Arc<Progress>,
    key: VerifierKey,
    /// Its directory and the lock on it, for cosignatures; until the shutdown.
    held: Mutex<Option<(PathBuf, File)>>,
}

impl FileLog {
    /// Opens the log in `directory`, or begins one (directory 0700, files 0600).
    ///
    /// Reads the last segment and the last line of the one before; cuts off what a crash has left, but nothing that
    /// a checkpoint covers. One log at a time may be open in a directory.
    ///
    /// With `notarization`, the tree is kept and checkpoints are signed; then the lines since the tiles were last
    /// made durable, as a rule those of the last segment, are hashed and held against the newest checkpoint.
    /// Without, the tree waits for the next time.
    pub fn open(
        directory: &Path,
        config: LogConfig,
        notarization: Option<Notarization>,
    ) -> Result<(Self, Opened), OpenError> {
        let storage = Directory::lock(directory).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse,
            _ => OpenError::Io { what: "lock the log's directory", source },
        })?;
        let memory = Memory::read(directory)?;
        let Some(notarization) = notarization else {
            return Self::start(storage, config, memory.kept());
        };
        let (memory, key) = memory.with_key(&notarization)?;
        let hold =
            || storage.hold().map_err(|source| OpenError::Io { what: "hold the log's directory", source });
        let (held, held_by_notary) = (hold()?, hold()?);
        let (mut journal, opened) = open(storage, config.segment_bytes, memory.kept())?;
        let retraced = memory.retrace(journal.next_sequence())?;
        memory.put_back()?;
        let known = (memory.signed_by(&key), memory.kept().hashed);
        let notary = Notary::new(directory, retraced, known, key.clone(), notarization);
        let progress = notary.progress();
        let (follower, notary) = notary
            .start(held_by_notary)
            .map_err(|source| OpenError::Io { what: "start the notary", source })?;
        journal.followed_by(follower);
        let held = Mutex::new(Some((directory.to_owned(), held)));
        let log = Self::run(journal, Some(Notarized { progress, key, held }))?;
        log.threads.lock().push(notary);
        Ok((log, opened))
    }

    pub(crate) fn start<S: Storage + 'static>(
        storage: S,
        config: LogConfig,
        kept: Kept,
    ) -> Result<(Self, Opened), OpenError> {
        let (journal, opened) = open(storage, config.segment_bytes, kept)?;
        Ok((Self::run(journal, None)?, opened))
    }

    fn run<S: Storage + 'static>(
        journal: Journal<S>,
        notarized: Option<Notarized>,
    ) -> Result<Self, OpenError> {
        let queue = Arc::new(Queue::default());
        let counters = journal.counters();
        let guard = Closing { queue: Arc::clone(&queue), counters: Arc::clone(&counters) };
        let writer = thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn(move || write(journal, &guard))
            .map_err(|source| OpenError::Io { what: "start the writer", source })?;
        Ok(Self { queue, counters, notarized, threads: Mutex::new(vec![writer]) })
    }

    /// Whether records are taken.
    pub fn healthy(&self) -> bool {
        self.health() == Health::Working
    }

    /// Whether records are taken, and if not, why.
    pub fn health(&self) -> Health {
        match self.counters.health() {
            Health::Working
                if self.notarized.as_ref().is_some_and(|one| one.progress.trouble().is_some()) =>
            {
                Health::Failed
            }
            health => health,
        }
    }

    /// How far the tree and its checkpoints have come; nothing without notarization.
    pub fn coverage(&self) -> Option<Coverage> {
        self.notarized.as_ref().map(|notarized| notarized.progress.coverage())
    }

    /// The key that signs its checkpoints; nothing without notarization.
    pub fn key(&self) -> Option<&VerifierKey> {
        self.notarized.as_ref().map(|notarized| &notarized.key)
    }

    /// What a witness' line is put into the newest checkpoint by; nothing without notarization or after the shutdown.
    pub fn cosigning(&self) -> io::Result<Option<Cosigning>> {
        let Some(Notarized { progress, held, .. }) = &self.notarized else { return Ok(None) };
        let held = held.lock();
        let Some((directory, lock)) = &*held else { return Ok(None) };
        Ok(Some(Cosigning::new(directory, Arc::clone(progress), lock.try_clone()?)))
    }

    /// Counts since the log was opened, for metrics; takes no lock.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.counters.statistics();
        statistics.failures += self.coverage().map_or(0, |coverage| coverage.failures);
        statistics
    }

    /// Writes what is queued, cuts the zeros off the last segment, has a last checkpoint signed and unlocks the
    /// directory.
    ///
    /// Later records are refused. Dropping the log does the same.
    pub fn shutdown(&self) {
        self.queue.close();
        if let Some(notarized) = &self.notarized {
            drop(notarized.held.lock().take());
        }
        // An acknowledgement may drop the log: the writer cannot wait for itself, nor for the notary, which ends
        // after it.
        let threads = std::mem::take(&mut *self.threads.lock());
        let this = thread::current().id();
        if threads.iter().any(|thread| thread.thread().id() == this) {
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("the audit writer or its notary panicked");
            }
        }
    }
}

impl AuditLog for FileLog {
    fn append(&self, record: Record, acknowledge: Acknowledge) {
        let pending = Pending { record, acknowledge: Some(acknowledge) };
        if let Some(Pending { acknowledge: Some(acknowledge), .. }) = self.queue.push(pending) {
            acknowledge(Err(closed()));
        }
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl std::fmt::Debug for FileLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileLog").field("health", &self.health()).finish_non_exhaustive()
    }
}

fn closed() -> AuditError {
    AuditError { detail: "the log is closed".to_owned() }
}

/// Refuses what is queued when the writer ends, however it ends.
struct Closing {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.queue.close();
        self.counters.set_health(Health::Closed);
        let mut left = Vec::new();
        self.queue.take(Patience { wanted: 1, at_most: Duration::ZERO, idle: None }, &mut left);
        for acknowledge in left.into_iter().filter_map(|pending| pending.acknowledge) {
            acknowledge(Err(closed()));
        }
    }
}

/// The longest wait for company, however slow the disk is.
const LONGEST_WAIT: Duration = Duration::from_millis(1);

/// The writer: takes what waits and commits it.
///
/// Callers who wait for their records come back with as many: so a commit waits for as many records
/// as the one before had, but no longer than that one took. A lone caller never waits.
fn write<S: Storage>(mut journal: Journal<S>, guard: &Closing) {
    let mut batch = Vec::new();
    let mut patience = Patience { wanted: 1, at_most: Duration::ZERO, idle: None };
    while guard.queue.take(patience, &mut batch) {
        patience.wanted = batch.len();
        journal.commit(&mut batch);
        patience.at_most = guard.counters.statistics().last_commit.min(LONGEST_WAIT);
        patience.idle = journal.awaits_repair().then_some(RETRY_PAUSE);
    }
    journal.close();
}
