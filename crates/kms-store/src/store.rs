//! The store as its callers see it.

use std::{
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use kms_core::ports::{
    BoxFuture, KeyStore, Revision, Snapshot, StoreError, StoreKey, Transaction, Versioned,
};
use parking_lot::{Mutex, RwLock};

use crate::{
    OpenError,
    cache::ReadCache,
    engine::{Engine, EngineKind, Fault, guarded},
    files::{self, Files},
    limits,
    queue::{Job, Queue},
    writer::Writer,
};

/// What callers and the writer's thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) kind: EngineKind,
    pub(crate) files: Files,
    /// `None` after a failure, until it could be opened again. Readers hold the lock for the whole
    /// read, so that closing waits for them.
    pub(crate) engine: RwLock<Option<Box<dyn Engine>>>,
    /// Locked after `engine` where both are held.
    pub(crate) cache: Mutex<ReadCache>,
    pub(crate) queue: Queue,
}

/// Key records in one embedded database, in a directory that one process at a time may open.
///
/// One thread commits for all callers: what is queued while a commit runs becomes the next commit.
/// Reads are answered on the calling thread, all keys of one call from one snapshot: from memory if
/// they were read before, else from the database.
///
/// After an I/O error the database is closed and opened again, at once, then with each transaction
/// and every second; until that works, all calls answer [`StoreError::Unavailable`].
///
/// Dropping the store commits what is queued and closes the database.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Whether `directory` holds a store, of whichever kind.
    pub fn exists(directory: &Path) -> bool {
        files::holds_database(directory)
    }

    /// Opens the store in `directory`, which must exist; makes the database if there is none. One of
    /// another kind is refused.
    pub fn open(directory: &Path, kind: EngineKind) -> Result<Self, OpenError> {
        let files = Files::lock(directory, kind)?;
        let engine = kind.create_or_open(&files)?;
        let shared = Arc::new(Shared {
            kind,
            files,
            engine: RwLock::new(None),
            cache: Mutex::new(ReadCache::new()),
            queue: Queue::default(),
        });
        let writer = Writer::start(Arc::clone(&shared), engine)?;
        let writer = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self { shared, writer: Some(writer) })
    }

    fn read_many(&self, keys: &[StoreKey]) -> Result<Vec<Option<Versioned>>, StoreError> {
        if let Some(values) = self.shared.cache.lock().lookup(keys) {
            return Ok(values);
        }
        self.read(|engine| {
            let (revision, values) = engine.read_many(keys)?;
            self.shared.cache.lock().fill(revision, keys, &values);
            Ok(values)
        })
    }

    fn read<T>(&self, read: impl FnOnce(&dyn Engine) -> Result<T, Fault>) -> Result<T, StoreError> {
        let engine = self.shared.engine.read();
        let Some(engine) = engine.as_ref() else {
            return Err(StoreError::Unavailable { detail: "closed after an I/O error".into() });
        };
        guarded(|| read(&**engine)).map_err(|error| {
            tracing::error!(%error, "a read from the key store failed");
            // Reopening helps against a disk that failed, not against damage.
            if !matches!(error, Fault::Damaged(_)) {
                self.shared.queue.request_reopen();
            }
            StoreError::Unavailable { detail: error.to_string() }
        })
    }
}

impl KeyStore for EmbeddedStore {
    fn get_many<'a>(
        &'a self,
        keys: &'a [StoreKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        Box::pin(async move { self.read_many(keys) })
    }

    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(StoreKey, Versioned)>, StoreError>> {
        Box::pin(async move { self.read(|engine| engine.read_range(prefix, after, limit)) })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, StoreError>> {
        Box::pin(async move { self.read(|engine| engine.snapshot(&self.shared.files)) })
    }

    fn transact(&self, transaction: Transaction) -> BoxFuture<'_, Result<Revision, StoreError>> {
        let queued = limits::check(&transaction).and_then(|()| {
            let (job, answer) = Job::new(transaction);
            self.shared.queue.push(job).map(|()| answer)
        });
        Box::pin(async move {
            queued?.await.unwrap_or_else(|_| {
                Err(StoreError::Unknown { detail: "the writer stopped before it answered".into() })
            })
        })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        let Some(writer) = self.writer.take() else { return };
        // A caller that the writer wakes may own the last handle, and no thread can join itself.
        if writer.thread().id() != thread::current().id() && writer.join().is_err() {
            tracing::error!("the key store's writer had panicked");
        }
    }
}
