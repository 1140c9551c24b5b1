//! The store's place on disk: one locked directory with one file.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, fadvise};

use crate::OpenError;

const FILE_NAME: &str = "keys.redb";
/// Where a new file is made ready before it gets its name: a crash leaves no half-made store.
const NEW_FILE_NAME: &str = "keys.redb.new";

/// Device and inode.
pub(crate) type Identity = (u64, u64);

/// The directory, locked for as long as this lives.
///
/// The lock is on the directory and not on the file, so that it also covers the moments in which
/// the database is closed.
#[derive(Debug)]
pub(crate) struct Files {
    directory: File,
    path: PathBuf,
    new_path: PathBuf,
}

impl Files {
    /// Takes the lock, or answers [`OpenError::InUse`].
    pub(crate) fn lock(directory: &Path) -> Result<Self, OpenError> {
        let handle = File::open(directory).map_err(|source| at(directory, source))?;
        match handle.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: directory.into() }),
            Err(TryLockError::Error(source)) => return Err(at(directory, source)),
        }
        let path = directory.join(FILE_NAME);
        let new_path = directory.join(NEW_FILE_NAME);
        Ok(Self { directory: handle, path, new_path })
    }

    /// The file of the database.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode of the file that has the database's name now.
    pub(crate) fn identity(&self) -> Result<Identity, OpenError> {
        let metadata = fs::metadata(&self.path).map_err(|source| at(&self.path, source))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Makes the file if there is none: `initialize` fills it, and only then does it get its name.
    pub(crate) fn create_if_missing(
        &self,
        initialize: impl FnOnce(File) -> Result<(), redb::Error>,
    ) -> Result<(), OpenError> {
        if self.path.try_exists().map_err(|source| at(&self.path, source))? {
            return Ok(());
        }
        let file = self.new_file().map_err(|source| at(&self.new_path, source))?;
        initialize(file).map_err(|error| from_redb(&self.new_path, error))?;
        fs::rename(&self.new_path, &self.path).map_err(|source| at(&self.path, source))?;
        // Without this a loss of power could take the name away again.
        self.directory.sync_all().map_err(|source| at(&self.path, source))
    }

    fn new_file(&self) -> io::Result<File> {
        match fs::remove_file(&self.new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::options().read(true).write(true).create_new(true).mode(0o600).open(&self.new_path),
        }
    }

    /// Makes what can be read from the file the same as what is on the disk.
    ///
    /// After a failed sync the kernel may keep pages in memory that never reached the disk, and
    /// reading those would take a lost commit for a durable one. So: sync what can still be synced,
    /// then drop every page, so that the next read comes from the disk.
    pub(crate) fn settle(&self) -> Result<(), OpenError> {
        let settle = || {
            let file = File::options().read(true).write(true).open(&self.path)?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed).map_err(io::Error::from)
        };
        settle().map_err(|source| at(&self.path, source))
    }
}

fn at(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.into(), source }
}

/// Tells apart what the operator can do something about.
pub(crate) fn from_redb(path: &Path, error: redb::Error) -> OpenError {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            OpenError::InUse { path: path.into() }
        }
        redb::Error::Io(source) if !matches!(source.kind(), InvalidData | UnexpectedEof) => at(path, source),
        other => OpenError::Damaged { path: path.into(), detail: other.to_string() },
    }
}
