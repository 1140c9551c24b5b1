//! redb: one file, copy on write, and a sync with each commit.
//!
//! Table `records`: key → revision (8 bytes, big-endian) ‖ value.
//! Table `meta`: `format` → number of this layout; `revision` → the last revision given out.

use std::{
    fs::File,
    io::ErrorKind,
    ops::Bound,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Weak},
};

use kms_core::ports::{BoxFuture, Revision, Snapshot, StoreError, StoreKey, Transaction, Versioned};
use parking_lot::Mutex;
use redb::{
    Builder, Database, Durability, Error, ReadOnlyTable, ReadableDatabase as _, ReadableTable, Table,
    TableDefinition, backends::FileBackend,
};

use super::{
    Batch, Engine, FORMAT, Failure, Fault, REVISION_BYTES, TOO_SHORT,
    apply::{Records, apply},
    decode,
};
use crate::files::{Files, Identity};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const REVISION_KEY: &str = "revision";
/// redb's own cache of pages, beneath the read cache.
const PAGE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The records at one moment. `None` once the database was closed: the file cannot be opened again
/// while one is left.
type Frozen = Mutex<Option<ReadOnlyTable<&'static [u8], &'static [u8]>>>;

/// An open database.
#[derive(Debug)]
pub(crate) struct Redb {
    database: Database,
    identity: Identity,
    snapshots: Mutex<Vec<Weak<Frozen>>>,
}

impl Redb {
    pub(super) fn open(path: &Path, identity: Identity) -> Result<Self, Fault> {
        let database = builder().open(path).map_err(Error::from)?;
        Ok(Self { database, identity, snapshots: Mutex::default() })
    }

    fn meta(&self, key: &str) -> Result<u64, Error> {
        read_meta(&self.database.begin_read()?.open_table(META)?, key)
    }

    fn values(&self, keys: &[StoreKey]) -> Result<(Revision, Vec<Option<Versioned>>), Error> {
        let transaction = self.database.begin_read()?;
        let revision = read_meta(&transaction.open_table(META)?, REVISION_KEY)?;
        let records = transaction.open_table(RECORDS)?;
        let value = |key: &StoreKey| {
            let stored = records.get(key.as_slice())?;
            stored.map(|stored| decode(stored.value()).ok_or_else(too_short)).transpose()
        };
        Ok((revision, keys.iter().map(value).collect::<Result<_, Error>>()?))
    }

    fn apply(&self, transactions: &[&Transaction]) -> Result<(redb::WriteTransaction, Batch), Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        // Each commit leaves what an open needs: without it, one after a crash would read the whole file.
        write.set_quick_repair(true);
        let batch = {
            let mut meta = write.open_table(META)?;
            let previous = read_meta(&meta, REVISION_KEY)?;
            let batch = apply(&mut write.open_table(RECORDS)?, transactions, previous)?;
            meta.insert(REVISION_KEY, batch.last)?;
            batch
        };
        Ok((write, batch))
    }

    fn freeze(&self) -> Result<RedbSnapshot, Error> {
        let transaction = self.database.begin_read()?;
        let revision = read_meta(&transaction.open_table(META)?, REVISION_KEY)?;
        let records = Arc::new(Mutex::new(Some(transaction.open_table(RECORDS)?)));
        let mut snapshots = self.snapshots.lock();
        snapshots.retain(|snapshot| snapshot.strong_count() > 0);
        snapshots.push(Arc::downgrade(&records));
        Ok(RedbSnapshot { revision, records, after: None })
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        for snapshot in self.snapshots.lock().iter().filter_map(Weak::upgrade) {
            *snapshot.lock() = None;
        }
    }
}

impl Engine for Redb {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn format(&self) -> Result<u64, Fault> {
        Ok(self.meta(FORMAT_KEY)?)
    }

    fn last_revision(&self) -> Result<Revision, Fault> {
        Ok(self.meta(REVISION_KEY)?)
    }

    fn read_many(&self, keys: &[StoreKey]) -> Result<(Revision, Vec<Option<Versioned>>), Fault> {
        Ok(self.values(keys)?)
    }

    fn read_range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(StoreKey, Versioned)>, Fault> {
        let opened = || Ok::<_, Error>(self.database.begin_read()?.open_table(RECORDS)?);
        Ok(range(&opened()?, prefix, after, limit)?)
    }

    fn commit(&self, transactions: &[&Transaction]) -> Result<Batch, Failure> {
        let (write, batch) = self.apply(transactions).map_err(|error| Failure::Before(error.to_string()))?;
        if batch.last == batch.previous {
            write.abort().map_err(|error| Failure::Before(error.to_string()))?;
            return Ok(batch);
        }
        match write.commit() {
            Ok(()) => Ok(batch),
            // The engine has rolled it back.
            Err(error @ redb::CommitError::TransactionPoisoned) => Err(Failure::Before(error.to_string())),
            Err(error) => Err(Failure::During(error.to_string(), batch)),
        }
    }

    fn snapshot(&self, _: &Files) -> Result<Box<dyn Snapshot>, Fault> {
        Ok(Box::new(self.freeze()?))
    }
}

/// A read transaction that stays open. What is deleted meanwhile keeps its place in the file.
struct RedbSnapshot {
    revision: Revision,
    records: Arc<Frozen>,
    /// The last key of the page before.
    after: Option<StoreKey>,
}

impl RedbSnapshot {
    fn next(&mut self, limit: usize) -> Result<Vec<(StoreKey, Versioned)>, StoreError> {
        let unavailable = |detail: String| StoreError::Unavailable { detail };
        let records = self.records.lock();
        let records =
            records.as_ref().ok_or_else(|| unavailable("the database was closed meanwhile".into()))?;
        let page = range(records, b"", self.after.as_deref(), limit);
        let page = page.map_err(|error| unavailable(error.to_string()))?;
        self.after = page.last().map(|(key, _)| key.clone()).or(self.after.take());
        Ok(page)
    }
}

impl Snapshot for RedbSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn page(&mut self, limit: usize) -> BoxFuture<'_, Result<Vec<(StoreKey, Versioned)>, StoreError>> {
        Box::pin(async move { self.next(limit) })
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => Self::InUse,
            Error::Io(source)
                if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Self::GaveUp(source.to_string())
            }
            Error::Io(source) => Self::Io(source),
            Error::Corrupted(detail) => Self::Damaged(detail),
            other => Self::GaveUp(other.to_string()),
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(PAGE_CACHE_BYTES);
    builder
}

/// Makes an empty database.
pub(super) fn initialize(path: &Path) -> Result<(), Fault> {
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    Ok(fill(file)?)
}

fn fill(file: File) -> Result<(), Error> {
    let database = builder().create_with_backend(FileBackend::new(file)?)?;
    let write = database.begin_write()?;
    {
        let mut meta = write.open_table(META)?;
        meta.insert(FORMAT_KEY, FORMAT)?;
        meta.insert(REVISION_KEY, 0)?;
        write.open_table(RECORDS)?;
    }
    write.commit()?;
    Ok(database.close()?)
}

impl Records for Table<'_, &'static [u8], &'static [u8]> {
    type Error = Error;

    fn revision(&self, key: &[u8]) -> Result<Option<Revision>, Error> {
        let Some(stored) = self.get(key)? else { return Ok(None) };
        let (revision, _) = stored.value().split_first_chunk().ok_or_else(too_short)?;
        Ok(Some(Revision::from_be_bytes(*revision)))
    }

    fn put(&mut self, key: &[u8], value: &[u8], revision: Revision) -> Result<(), Error> {
        let mut stored = self.insert_reserve(key, REVISION_BYTES + value.len())?;
        let (head, tail) = stored.as_mut().split_at_mut(REVISION_BYTES);
        head.copy_from_slice(&revision.to_be_bytes());
        tail.copy_from_slice(value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.remove(key)?;
        Ok(())
    }
}

fn range(
    records: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(StoreKey, Versioned)>, Error> {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut found = Vec::new();
    for entry in records.range::<&[u8]>((start, Bound::Unbounded))?.take(limit) {
        let (key, stored) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        found.push((key.value().to_vec(), decode(stored.value()).ok_or_else(too_short)?));
    }
    Ok(found)
}

fn read_meta(meta: &impl ReadableTable<&'static str, u64>, key: &str) -> Result<u64, Error> {
    match meta.get(key)? {
        Some(number) => Ok(number.value()),
        None => Err(Error::Corrupted(format!("no {key} in the meta table"))),
    }
}

fn too_short() -> Error {
    Error::Corrupted(TOO_SHORT.into())
}
