//! sled: a log of changes in one file, `db`, in a directory of its own; and the sync that sled leaves out.
//!
//! sled's `flush` ends in `sync_file_range`, which makes neither the file's length nor the places of its
//! blocks durable. So each commit ends in an fdatasync of that file, and until then no read sees it.
//! The rest of the directory is settled before the database is used: `conf` never changes again,
//! `snap.*` is written while it opens, and `blobs/` stays empty, because segments are large enough for
//! any page of records.
//!
//! One tree: `r` key → revision (8 bytes, big-endian) ‖ value; `m` name → number (8 bytes, big-endian),
//! with the names `format` and `revision`.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    io::{self, BufReader, BufWriter, ErrorKind, Read as _, Seek as _, Write as _},
    ops::Bound,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    thread,
    time::Duration,
};

use kms_core::ports::{BoxFuture, Revision, Snapshot, StoreError, StoreKey, Transaction, Versioned};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use sled::{Config, Db, Mode};

use super::{
    Batch, Engine, FORMAT, Failure, Fault, TOO_SHORT,
    apply::{Records, apply},
    decode, guarded,
    rouser::Rouser,
};
use crate::files::{Files, Identity, SLED_DATA_FILE};

const RECORD: u8 = b'r';
const FORMAT_KEY: &[u8] = b"mformat";
const REVISION_KEY: &[u8] = b"mrevision";
/// sled's own cache of pages, beneath the read cache.
const PAGE_CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// A page holds up to 26 records, and one longer than a quarter of a segment would go to a file of its
/// own, which sled does not sync.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// sled's threads let go of its lock a little after the database was closed.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// An open database.
pub(crate) struct Sled {
    /// Closed first, then `data`.
    database: Option<Db>,
    /// For every call that writes. Ended before the database is closed.
    rouser: Option<Rouser>,
    data: File,
    identity: Identity,
    /// Held by whoever changes the database, and by whoever needs it unchanged for long.
    changing: Mutex<()>,
    /// Held for writing from the first change of a commit until it is durable.
    durable: RwLock<Durability>,
}

/// Whether all that the database shows is durable.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Durability {
    #[default]
    Certain,
    /// A commit failed, and sled shows its changes none the less. The file tells, once it is opened again.
    Unknown,
}

impl Sled {
    pub(super) fn open(path: &Path, identity: Identity) -> Result<Self, Fault> {
        let database = open_database(path)?;
        let data = File::options().write(true).open(path.join(SLED_DATA_FILE))?;
        data.sync_data()?;
        File::open(path)?.sync_all()?; // the names of the snapshots
        let rouser = Rouser::new(&database)?;
        Ok(Self {
            database: Some(database),
            rouser: Some(rouser),
            data,
            identity,
            changing: Mutex::default(),
            durable: RwLock::default(),
        })
    }

    fn database(&self) -> Result<&Db, Fault> {
        self.database.as_ref().ok_or_else(|| Fault::GaveUp("it is closed".into()))
    }

    fn meta(&self, key: &[u8]) -> Result<u64, Fault> {
        let number = self.database()?.get(key)?.and_then(|number| (&*number).try_into().ok());
        number
            .map(u64::from_be_bytes)
            .ok_or_else(|| Fault::Damaged(format!("no {} in it", String::from_utf8_lossy(&key[1..]))))
    }

    fn apply(&self, transactions: &[&Transaction]) -> Result<(sled::Batch, Batch), Fault> {
        let mut changes = Changes { database: self.database()?, changed: HashMap::new() };
        let batch = apply(&mut changes, transactions, self.meta(REVISION_KEY)?)?;
        let mut all = sled::Batch::default();
        all.insert(REVISION_KEY, &batch.last.to_be_bytes());
        for (key, stored) in changes.changed {
            match stored {
                Some(stored) => all.insert(key, stored),
                None => all.remove(key),
            }
        }
        Ok((all, batch))
    }

    /// Keeps commits away while something is read, which shows nothing that may be lost.
    fn durable(&self) -> Result<RwLockReadGuard<'_, Durability>, Fault> {
        let durability = self.durable.read();
        match *durability {
            Durability::Certain => Ok(durability),
            Durability::Unknown => {
                Err(Fault::GaveUp("a commit failed, and it was not opened again yet".into()))
            }
        }
    }

    /// From here on the changes may have happened.
    fn make_durable(&self, changes: sled::Batch) -> Result<(), Fault> {
        let database = self.database()?;
        let _attended = self.rouser.as_ref().map(Rouser::attend);
        database.apply_batch(changes)?;
        database.flush()?;
        Ok(self.data.sync_data()?)
    }

    /// Copies all records to an unnamed file, because sled cannot read at an older revision. Commits wait
    /// meanwhile, reads do not.
    fn spool(&self, path: &Path) -> Result<SledSnapshot, Fault> {
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        fs::remove_file(path)?;
        let mut out = BufWriter::new(&file);
        let _unchanged = self.changing.lock();
        drop(self.durable()?); // and no commit begins now
        let revision = self.meta(REVISION_KEY)?;
        for entry in self.database()?.scan_prefix([RECORD]) {
            let (key, stored) = entry?;
            for part in [&key[1..], &stored] {
                let length = u32::try_from(part.len()).map_err(io::Error::other)?;
                out.write_all(&length.to_be_bytes())?;
                out.write_all(part)?;
            }
        }
        out.flush()?;
        drop(out);
        file.rewind()?;
        Ok(SledSnapshot { revision, entries: BufReader::new(file) })
    }
}

impl std::fmt::Debug for Sled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // sled's own would print its pages.
        f.debug_struct("Sled").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        let (database, rouser) = (self.database.take(), self.rouser.take());
        // sled panics if its last sync fails; what was acknowledged is durable without it.
        drop(guarded(|| {
            if let (Some(database), Some(rouser)) = (&database, rouser) {
                flush(database, &rouser)?; // nobody looks after the flush of the close itself
            }
            drop(database);
            Ok(())
        }));
    }
}

impl Engine for Sled {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn format(&self) -> Result<u64, Fault> {
        self.meta(FORMAT_KEY)
    }

    fn last_revision(&self) -> Result<Revision, Fault> {
        self.meta(REVISION_KEY)
    }

    fn read_many(&self, keys: &[StoreKey]) -> Result<(Revision, Vec<Option<Versioned>>), Fault> {
        let _durable = self.durable()?;
        let (revision, database) = (self.meta(REVISION_KEY)?, self.database()?);
        let value =
            |key: &StoreKey| database.get(record_key(key))?.map(|stored| versioned(&stored)).transpose();
        Ok((revision, keys.iter().map(value).collect::<Result<_, Fault>>()?))
    }

    fn read_range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(StoreKey, Versioned)>, Fault> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(record_key(after)),
            _ => Bound::Included(record_key(prefix)),
        };
        let _durable = self.durable()?;
        let entries = self.database()?.range((start, Bound::Unbounded)).take(limit);
        let mut found = Vec::new();
        for entry in entries {
            let (key, stored) = entry?;
            let Some(key) = key.strip_prefix(&[RECORD]).filter(|key| key.starts_with(prefix)) else {
                break;
            };
            found.push((key.to_vec(), versioned(&stored)?));
        }
        Ok(found)
    }

    fn commit(&self, transactions: &[&Transaction]) -> Result<Batch, Failure> {
        let _changing = self.changing.lock();
        let applied = guarded(|| self.apply(transactions));
        let (changes, batch) = applied.map_err(|fault| Failure::Before(fault.to_string()))?;
        if batch.last == batch.previous {
            return Ok(batch);
        }
        let mut durability = self.durable.write();
        match guarded(|| self.make_durable(changes)) {
            Ok(()) => Ok(batch),
            Err(fault) => {
                *durability = Durability::Unknown;
                Err(Failure::During(fault.to_string(), batch))
            }
        }
    }

    fn snapshot(&self, files: &Files) -> Result<Box<dyn Snapshot>, Fault> {
        Ok(Box::new(self.spool(&files.spool_path())?))
    }
}

/// The changes of a commit over the database that they are made to.
struct Changes<'a> {
    database: &'a Db,
    /// By the keys of the database; `None` is a deletion.
    changed: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Records for Changes<'_> {
    type Error = Fault;

    fn revision(&self, key: &[u8]) -> Result<Option<Revision>, Fault> {
        let key = record_key(key);
        let revision_of = |stored: &[u8]| {
            let revision = stored.first_chunk().ok_or_else(|| Fault::Damaged(TOO_SHORT.into()))?;
            Ok(Revision::from_be_bytes(*revision))
        };
        match self.changed.get(&key) {
            Some(changed) => changed.as_deref().map(revision_of).transpose(),
            None => self.database.get(key)?.as_deref().map(revision_of).transpose(),
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], revision: Revision) -> Result<(), Fault> {
        let stored = [&revision.to_be_bytes()[..], value].concat();
        self.changed.insert(record_key(key), Some(stored));
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Fault> {
        self.changed.insert(record_key(key), None);
        Ok(())
    }
}

/// A copy in a file that has no name.
struct SledSnapshot {
    revision: Revision,
    entries: BufReader<File>,
}

impl SledSnapshot {
    fn entry(&mut self) -> Result<Option<(StoreKey, Versioned)>, Fault> {
        let Some(key) = self.part()? else { return Ok(None) };
        let stored = self.part()?.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        Ok(Some((key, versioned(&stored)?)))
    }

    fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        match self.entries.read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut part = vec![0; usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?];
        self.entries.read_exact(&mut part)?;
        Ok(Some(part))
    }
}

impl Snapshot for SledSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn page(&mut self, limit: usize) -> BoxFuture<'_, Result<Vec<(StoreKey, Versioned)>, StoreError>> {
        Box::pin(async move {
            let entries = std::iter::from_fn(|| self.entry().transpose()).take(limit);
            let page: Result<_, Fault> = entries.collect();
            page.map_err(|fault| StoreError::Unavailable { detail: fault.to_string() })
        })
    }
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) => Self::Io(source),
            sled::Error::Corruption { .. } => Self::Damaged(error.to_string()),
            other => Self::GaveUp(other.to_string()),
        }
    }
}

fn flush(database: &Db, rouser: &Rouser) -> Result<(), Fault> {
    let _attended = rouser.attend();
    database.flush()?;
    Ok(())
}

/// Makes an empty database.
pub(super) fn initialize(path: &Path) -> Result<(), Fault> {
    DirBuilder::new().mode(0o700).create(path)?;
    let database = open_database(path)?;
    database.insert(FORMAT_KEY, &FORMAT.to_be_bytes())?;
    database.insert(REVISION_KEY, &Revision::MIN.to_be_bytes())?;
    flush(&database, &Rouser::new(&database)?)?;
    drop(database);
    Ok(sync_all(path)?)
}

/// Makes a directory durable, with all that is in it.
fn sync_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

/// Opens it, having removed what sled would take for a snapshot and refuse as a damaged one: what a crash
/// or a full disk left of one.
fn open_database(path: &Path) -> Result<Db, Fault> {
    for entry in fs::read_dir(path)? {
        let left = entry?.path();
        if left.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(left)?;
        }
    }
    let config = Config::new()
        .path(path)
        .mode(Mode::HighThroughput)
        .cache_capacity(PAGE_CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    for _ in 0..LOCK_ATTEMPTS {
        match config.open() {
            Err(sled::Error::Io(error)) if is_lock(&error) => thread::sleep(LOCK_INTERVAL),
            opened => return Ok(opened?),
        }
    }
    Err(Fault::InUse)
}

/// sled tells that the database is locked by these words only.
fn is_lock(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Other && error.to_string().starts_with("could not acquire lock")
}

fn record_key(key: &[u8]) -> Vec<u8> {
    [&[RECORD], key].concat()
}

fn versioned(stored: &[u8]) -> Result<Versioned, Fault> {
    decode(stored).ok_or_else(|| Fault::Damaged(TOO_SHORT.into()))
}

#[cfg(test)]
mod tests {
    use kms_core::ports::{Condition, Mutation};

    use super::*;

    fn put(key: &[u8]) -> Transaction {
        let absent = Condition::Absent(key.to_vec());
        Transaction {
            conditions: vec![absent],
            mutations: vec![Mutation::Put(key.to_vec(), b"value"[..].into())],
        }
    }

    #[test]
    fn what_a_failed_commit_left_is_not_shown_before_the_file_was_asked() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("database");
        initialize(&path).expect("a new database");
        let mut sled = Sled::open(&path, (0, 0)).expect("it opens");
        sled.commit(&[&put(b"first")]).expect("durable");
        sled.data = File::open("/dev/null").expect("it is there"); // cannot be synced
        assert!(matches!(sled.commit(&[&put(b"second")]), Err(Failure::During(..))));
        let keys = [b"first".to_vec(), b"second".to_vec()];
        let gave_up = |fault| matches!(fault, Fault::GaveUp(_));
        assert!(sled.read_many(&keys).is_err_and(gave_up));
        assert!(sled.read_range(b"", None, 10).is_err_and(gave_up));
        assert!(sled.spool(&directory.path().join("spool")).is_err_and(gave_up));
        drop(sled);
        let sled = Sled::open(&path, (0, 0)).expect("it opens again");
        let (revision, values) = sled.read_many(&keys).expect("readable");
        assert!(values[0].is_some() && values[1].is_some() == (revision > Revision::MIN + 1));
    }
}
