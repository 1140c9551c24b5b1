//! What is in the database file, and how it is read and changed.
//!
//! Table `records`: key → revision (8 bytes, big-endian) ‖ value.
//! Table `meta`: `format` → number of this layout; `revision` → the last revision given out.

use std::{
    fs::File,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
};

use kms_core::ports::{Condition, Mutation, Revision, StoreError, StoreKey, Transaction, Versioned};
use redb::{
    Builder, Database, Durability, Error, ReadableDatabase as _, ReadableTable, Table, TableDefinition,
    backends::FileBackend,
};

use crate::{
    OpenError,
    files::{Files, Identity, from_redb},
};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const REVISION_KEY: &str = "revision";

/// The layout that this version writes and reads.
const FORMAT: u64 = 1;
const REVISION_BYTES: usize = size_of::<Revision>();
/// redb's own cache of pages, beneath the read cache.
const PAGE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// An open database.
#[derive(Debug)]
pub(crate) struct Engine {
    database: Database,
    identity: Identity,
}

/// What happened to each transaction of a commit.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The last revision before the commit.
    pub(crate) previous: Revision,
    /// The last revision after it; the same if nothing was changed.
    pub(crate) last: Revision,
    /// In the order of the transactions.
    pub(crate) outcomes: Vec<Result<Revision, StoreError>>,
}

/// Why a batch was not committed; the text is for the operator.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The commit was not begun: nothing is changed.
    Before(String),
    /// The commit failed: all of it happened, or nothing.
    During(String, Batch),
}

/// Values in the order of their keys, and the revision of the snapshot they were read from.
pub(crate) type Snapshot = (Revision, Vec<Option<Versioned>>);

impl Engine {
    /// Opens the file, making it first if there is none.
    pub(crate) fn create_or_open(files: &Files) -> Result<Self, OpenError> {
        files.create_if_missing(initialize)?;
        Self::open(files)
    }

    /// Opens the file, which must exist: it is never replaced by an empty one.
    pub(crate) fn open(files: &Files) -> Result<Self, OpenError> {
        // The engine trusts a file that was closed cleanly, and may panic if something else has
        // altered it since. Nothing outlives the call in that case, so unwinding is safe.
        catch_unwind(AssertUnwindSafe(|| Self::open_checked(files))).unwrap_or_else(|_| {
            Err(OpenError::Damaged { path: files.path().into(), detail: "the engine gave up on it".into() })
        })
    }

    fn open_checked(files: &Files) -> Result<Self, OpenError> {
        let failed = |error| from_redb(files.path(), error);
        let database = builder().open(files.path()).map_err(|error| failed(error.into()))?;
        let engine = Self { database, identity: files.identity()? };
        let found = engine.meta(FORMAT_KEY).map_err(failed)?;
        if found != FORMAT {
            return Err(OpenError::Format { path: files.path().into(), found, expected: FORMAT });
        }
        engine.last_revision().map_err(failed)?;
        Ok(engine)
    }

    /// Whether the open file still is the one that has its name: what is written to a file that
    /// was deleted or replaced is lost with this process.
    pub(crate) fn is_in_place(&self, files: &Files) -> bool {
        files.identity().is_ok_and(|identity| identity == self.identity)
    }

    /// The revision of the last commit.
    pub(crate) fn last_revision(&self) -> Result<Revision, Error> {
        self.meta(REVISION_KEY)
    }

    fn meta(&self, key: &str) -> Result<u64, Error> {
        read_meta(&self.database.begin_read()?.open_table(META)?, key)
    }

    /// All of `keys` from one snapshot.
    pub(crate) fn read_many(&self, keys: &[StoreKey]) -> Result<Snapshot, Error> {
        let transaction = self.database.begin_read()?;
        let revision = read_meta(&transaction.open_table(META)?, REVISION_KEY)?;
        let records = transaction.open_table(RECORDS)?;
        let values = keys.iter().map(|key| read(&records, key)).collect::<Result<_, _>>()?;
        Ok((revision, values))
    }

    /// At most `limit` entries of `prefix` after `after`, in key order.
    pub(crate) fn read_range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(StoreKey, Versioned)>, Error> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
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
            found.push((key.value().to_vec(), decode(stored.value())?));
        }
        Ok(found)
    }

    /// Commits `transactions` one after the other in one durable step: each sees those before it,
    /// and one whose conditions do not hold changes nothing.
    pub(crate) fn commit<'a>(
        &self,
        transactions: impl Iterator<Item = &'a Transaction>,
    ) -> Result<Batch, Failure> {
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

    fn apply<'a>(
        &self,
        transactions: impl Iterator<Item = &'a Transaction>,
    ) -> Result<(redb::WriteTransaction, Batch), Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        // Each commit leaves what an open needs: without it, one after a crash would read the whole file.
        write.set_quick_repair(true);
        let batch = {
            let mut meta = write.open_table(META)?;
            let mut records = write.open_table(RECORDS)?;
            let previous = read_meta(&meta, REVISION_KEY)?;
            let mut last = previous;
            let mut outcomes = Vec::new();
            for transaction in transactions {
                outcomes.push(apply_one(&mut records, transaction, last + 1)?);
                last += u64::from(matches!(outcomes.last(), Some(Ok(_))));
            }
            meta.insert(REVISION_KEY, last)?;
            Batch { previous, last, outcomes }
        };
        Ok((write, batch))
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(PAGE_CACHE_BYTES);
    builder
}

fn initialize(file: File) -> Result<(), Error> {
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

type Records<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// Applies one transaction as `revision`; the inner error is a conflict, which changes nothing.
fn apply_one(
    records: &mut Records<'_>,
    transaction: &Transaction,
    revision: Revision,
) -> Result<Result<Revision, StoreError>, Error> {
    for (index, condition) in transaction.conditions.iter().enumerate() {
        if !holds(records, condition)? {
            return Ok(Err(StoreError::Conflict { index }));
        }
    }
    for mutation in &transaction.mutations {
        match mutation {
            Mutation::Put(key, value) => put(records, key, value, revision)?,
            Mutation::Delete(key) => drop(records.remove(key.as_slice())?),
        }
    }
    Ok(Ok(revision))
}

fn holds(records: &Records<'_>, condition: &Condition) -> Result<bool, Error> {
    Ok(match condition {
        Condition::Absent(key) => records.get(key.as_slice())?.is_none(),
        Condition::Revision(key, revision) => match records.get(key.as_slice())? {
            Some(stored) => split(stored.value())?.0 == *revision,
            None => false,
        },
    })
}

fn put(records: &mut Records<'_>, key: &[u8], value: &[u8], revision: Revision) -> Result<(), Error> {
    let mut stored = records.insert_reserve(key, REVISION_BYTES + value.len())?;
    let (head, tail) = stored.as_mut().split_at_mut(REVISION_BYTES);
    head.copy_from_slice(&revision.to_be_bytes());
    tail.copy_from_slice(value);
    Ok(())
}

fn read(
    records: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Versioned>, Error> {
    records.get(key)?.map(|stored| decode(stored.value())).transpose()
}

fn read_meta(meta: &impl ReadableTable<&'static str, u64>, key: &str) -> Result<u64, Error> {
    match meta.get(key)? {
        Some(number) => Ok(number.value()),
        None => Err(Error::Corrupted(format!("no {key} in the meta table"))),
    }
}

fn decode(stored: &[u8]) -> Result<Versioned, Error> {
    let (revision, value) = split(stored)?;
    Ok(Versioned { revision, value: value.into() })
}

fn split(stored: &[u8]) -> Result<(Revision, &[u8]), Error> {
    match stored.split_first_chunk::<REVISION_BYTES>() {
        Some((revision, value)) => Ok((Revision::from_be_bytes(*revision), value)),
        None => Err(Error::Corrupted("a record is shorter than its revision".into())),
    }
}
