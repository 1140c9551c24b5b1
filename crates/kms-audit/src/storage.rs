//! The few file operations that the log needs, and their real form: one directory.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{Advice, FlockOperation, fadvise, flock},
    io::Errno,
};

use crate::segment::{UNFINISHED, file_name, parse_name};

/// Which file a name stands for, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStatus {
    /// The device and the inode.
    pub(crate) identity: (u64, u64),
    /// The length in bytes.
    pub(crate) length: u64,
}

/// The directory of the log. Segments are named by the place of their header.
pub(crate) trait Storage: Send {
    /// An open segment.
    type File: LogFile;

    /// The segments that exist, in order.
    fn segments(&self) -> io::Result<Vec<u64>>;
    /// Opens a segment, such that what is read comes from the device.
    fn open(&self, first: u64) -> io::Result<Self::File>;
    /// Makes an empty file that is no segment yet; replaces one that was not published.
    fn prepare(&self) -> io::Result<Self::File>;
    /// Makes the prepared file the segment `first`, durably.
    fn publish(&self, first: u64) -> io::Result<()>;
    /// Removes the segment `first` and the prepared file, durably, where they exist.
    fn withdraw(&self, first: u64) -> io::Result<()>;
    /// Makes the names of all segments durable.
    fn sync_names(&self) -> io::Result<()>;
    /// The file that a segment's name stands for now.
    fn status(&self, first: u64) -> io::Result<FileStatus>;
    /// Whether the directory's name still stands for the directory that is locked.
    fn is_locked(&self) -> io::Result<bool>;
}

/// An open segment.
pub(crate) trait LogFile: Send + Sync {
    /// Which file it is, and how long.
    fn status(&self) -> io::Result<FileStatus>;
    /// Reads exactly `length` bytes at `offset`.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file.
    fn cut(&self, length: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
}

/// The first bytes of a segment, one after the other.
pub(crate) struct Contents<'a, F> {
    file: &'a F,
    offset: u64,
    length: u64,
}

impl<'a, F: LogFile> Contents<'a, F> {
    pub(crate) fn new(file: &'a F, length: u64) -> Self {
        Self { file, offset: 0, length }
    }
}

impl<F: LogFile> Read for Contents<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length - self.offset).unwrap_or(usize::MAX);
        let bytes = self.file.read_at(self.offset, left.min(buffer.len()))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }
}

/// A lock that was given up is still held for a moment if this process was just forked: by the child, up to its exec.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A directory of the file system, locked for one process.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Open for its lock and for making its entries durable.
    handle: File,
}

impl Directory {
    /// Makes the directory if it is missing (mode 0700) and locks it.
    ///
    /// `WouldBlock` means that another process, or another log of this one, holds the lock.
    pub(crate) fn lock(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            if let Some(parent) = path.canonicalize()?.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let path = path.canonicalize()?;
        let handle = File::open(&path)?;
        // The lock lies on the directory itself, so that there is no lock file to be deleted.
        let mut attempts = 0;
        while let Err(error) = flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            attempts += 1;
            if attempts > LOCK_ATTEMPTS || error != Errno::WOULDBLOCK {
                return Err(error.into());
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Ok(Self { path, handle })
    }

    /// Keeps the directory locked as long as it lives, whatever becomes of this one.
    pub(crate) fn hold(&self) -> io::Result<File> {
        self.handle.try_clone()
    }

    fn segment(&self, first: u64) -> PathBuf {
        self.path.join(file_name(first))
    }
}

/// The segments in a directory, in order.
pub(crate) fn list(path: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        found.extend(entry?.file_name().to_str().and_then(parse_name));
    }
    found.sort_unstable();
    Ok(found)
}

fn status(metadata: &std::fs::Metadata) -> FileStatus {
    FileStatus { identity: (metadata.dev(), metadata.ino()), length: metadata.len() }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Storage for Directory {
    type File = File;

    fn segments(&self) -> io::Result<Vec<u64>> {
        list(&self.path)
    }

    fn open(&self, first: u64) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).open(self.segment(first))?;
        // After a failed write-back the cache may hold, marked clean, what the device does not.
        // Whatever is dirty goes down first; then the cache of this file is dropped.
        file.sync_data()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        Ok(file)
    }

    fn prepare(&self) -> io::Result<File> {
        let path = self.path.join(UNFINISHED);
        remove_if_there(&path)?;
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    fn publish(&self, first: u64) -> io::Result<()> {
        std::fs::rename(self.path.join(UNFINISHED), self.segment(first))?;
        self.handle.sync_all()
    }

    fn withdraw(&self, first: u64) -> io::Result<()> {
        remove_if_there(&self.path.join(UNFINISHED))?;
        remove_if_there(&self.segment(first))?;
        self.handle.sync_all()
    }

    fn sync_names(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn status(&self, first: u64) -> io::Result<FileStatus> {
        Ok(status(&std::fs::symlink_metadata(self.segment(first))?))
    }

    fn is_locked(&self) -> io::Result<bool> {
        let found = std::fs::symlink_metadata(&self.path)?;
        Ok(status(&found).identity == status(&self.handle.metadata()?).identity)
    }
}

impl LogFile for File {
    fn status(&self) -> io::Result<FileStatus> {
        Ok(status(&self.metadata()?))
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
