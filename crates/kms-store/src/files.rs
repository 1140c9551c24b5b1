//! The store's place on disk: one locked directory with one database.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use rustix::fs::{Advice, fadvise};

use crate::{
    OpenError,
    engine::{EngineKind, Fault},
};

/// In the directory that is a database of sled: all of its records.
pub(crate) const SLED_DATA_FILE: &str = "db";

/// A lock that was given up is still held for a moment if this process was just forked: by the child, up to its exec.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Device and inode.
pub(crate) type Identity = (u64, u64);

/// The directory, locked for as long as this lives.
///
/// The lock is on the directory and not on the database, so that it also covers the moments in which
/// the database is closed.
#[derive(Debug)]
pub(crate) struct Files {
    directory: File,
    kind: EngineKind,
    path: PathBuf,
}

impl Files {
    /// Takes the lock, or answers [`OpenError::InUse`].
    pub(crate) fn lock(directory: &Path, kind: EngineKind) -> Result<Self, OpenError> {
        let handle = File::open(directory).map_err(|source| at(directory, source))?;
        let mut attempts = 1;
        while let Err(error) = handle.try_lock() {
            match error {
                TryLockError::WouldBlock if attempts < LOCK_ATTEMPTS => sleep(LOCK_PAUSE),
                TryLockError::WouldBlock => return Err(OpenError::InUse { path: directory.into() }),
                TryLockError::Error(source) => return Err(at(directory, source)),
            }
            attempts += 1;
        }
        for other in EngineKind::ALL.into_iter().filter(|other| *other != kind) {
            let path = directory.join(name(other));
            if path.try_exists().map_err(|source| at(&path, source))? {
                return Err(OpenError::OtherEngine { path, found: other, expected: kind });
            }
        }
        Ok(Self { directory: handle, kind, path: directory.join(name(kind)) })
    }

    /// The database: a file, or for sled a directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a new database is made ready before it gets its name: a crash leaves no half-made store.
    fn new_path(&self) -> PathBuf {
        self.beside("new")
    }

    /// Where a snapshot may be put that its engine cannot keep.
    pub(crate) fn spool_path(&self) -> PathBuf {
        self.beside("snapshot")
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.path.with_file_name(format!("{}.{extension}", name(self.kind)))
    }

    /// The file that holds the records.
    fn data_path(&self) -> PathBuf {
        match self.kind {
            EngineKind::Redb => self.path.clone(),
            EngineKind::Sled => self.path.join(SLED_DATA_FILE),
        }
    }

    /// Device and inode of the file that has the name of the records' file now.
    pub(crate) fn identity(&self) -> Result<Identity, OpenError> {
        let path = self.data_path();
        let metadata = fs::metadata(&path).map_err(|source| at(&path, source))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Makes the database if there is none: `initialize` makes it, and only then does it get its name.
    pub(crate) fn create_if_missing(
        &self,
        initialize: impl FnOnce(&Path) -> Result<(), Fault>,
    ) -> Result<(), OpenError> {
        if self.path.try_exists().map_err(|source| at(&self.path, source))? {
            return Ok(());
        }
        let new_path = self.new_path();
        remove(&new_path).map_err(|source| at(&new_path, source))?;
        initialize(&new_path).map_err(|fault| fault.at(&new_path))?;
        fs::rename(&new_path, &self.path).map_err(|source| at(&self.path, source))?;
        // Without this a loss of power could take the name away again.
        self.directory.sync_all().map_err(|source| at(&self.path, source))
    }

    /// Makes what can be read from the database the same as what is on the disk.
    ///
    /// After a failed sync the kernel may keep pages in memory that never reached the disk, and
    /// reading those would take a lost commit for a durable one. So: sync what can still be synced,
    /// then drop every page, so that the next read comes from the disk.
    pub(crate) fn settle(&self) -> Result<(), OpenError> {
        let path = self.data_path();
        let settle = || {
            let file = File::options().read(true).write(true).open(&path)?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed).map_err(io::Error::from)
        };
        settle().map_err(|source| at(&path, source))
    }
}

/// Whether `directory` holds a database of any kind. One that was not finished has no name yet.
pub(crate) fn holds_database(directory: &Path) -> bool {
    EngineKind::ALL.into_iter().any(|kind| directory.join(name(kind)).exists())
}

fn name(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Redb => "keys.redb",
        EngineKind::Sled => "keys.sled",
    }
}

/// Removes a file, or a directory with all that is in it.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

fn at(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.into(), source }
}
