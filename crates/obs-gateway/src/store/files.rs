//! Files that are there as a whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

use super::Error;

/// What the name of a record that is still being written ends with.
const UNFINISHED: &str = "new";

/// The directory of an entry that changes. It is open before the change, so that after it only the disk can fail.
#[derive(Debug)]
#[must_use = "the change may be lost until its directory is synchronized"]
pub(super) struct Parent(File);

impl Parent {
    /// Opens the directory of `path`.
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(Self(File::open(parent.unwrap_or(Path::new(".")))?))
    }

    /// The change survives a power cut when this returns. If it fails, what is there after a power cut is not known:
    /// nothing may be removed that the directory named before the change or names after it.
    pub(super) fn sync(self) -> Result<(), Error> {
        #[cfg(test)]
        failure::injected()?;
        Ok(self.0.sync_all()?)
    }
}

/// Replaces a record. If this fails, the old one is there and no other; when it returns, the new one is in its place,
/// for good once the directory is synchronized.
pub(super) fn place_record(path: &Path, record: &impl Serialize) -> Result<Parent, Error> {
    let parent = Parent::of(path)?;
    let unfinished = path.with_extension(UNFINISHED);
    let mut file = File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec(record).map_err(io::Error::from)?)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    Ok(parent)
}

/// Writes a record in whose place nothing else was: it survives a power cut when this returns.
pub(super) fn write_record(path: &Path, record: &impl Serialize) -> Result<(), Error> {
    place_record(path, record)?.sync()
}

/// Reads a record. [`Error::DamagedRecord`] if it is none.
pub(super) fn read_record<Record: DeserializeOwned>(path: &Path) -> Result<Record, Error> {
    let damaged = |reason: String| Error::DamagedRecord { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(|error| damaged(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
}

/// The records of a directory; those that were not finished are removed.
pub(super) fn records(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.extension() {
            Some(extension) if extension == "json" => found.push(path),
            Some(extension) if extension == UNFINISHED => fs::remove_file(path)?,
            _ => {}
        }
    }
    Ok(found)
}

/// Removes a file or directory with all in it, if it is there.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Removes a stream that no record names; what stays is removed at the next start. This is called where streams are
/// dropped, which may be anywhere: a thread that answers requests hands these over first.
pub(super) fn discard(path: &Path) {
    let remove = || drop(fs::remove_file(path));
    let runtime = Handle::try_current().map(|handle| handle.runtime_flavor());
    match runtime {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(remove),
        _ => remove(),
    }
}

/// The directory entry of a file survives a power cut when this returns.
pub(super) fn sync_parent(path: &Path) -> Result<(), Error> {
    Parent::of(path)?.sync()
}

/// Makes a directory with its parents; every entry that is made survives a power cut.
pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    if !path.is_dir() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir());
        if let Some(parent) = parent {
            make_directory(parent)?;
        }
        fs::create_dir(path)?;
    }
    sync_parent(path)
}

/// Whether a text is an id as this program makes them for streams and uploads: 32 hexadecimal digits, so never a path.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Refuses a record that says something of itself that its place does not.
pub(super) fn must_belong(path: &Path, is_own: bool) -> Result<(), Error> {
    let reason = "what it names is not its own";
    if is_own {
        Ok(())
    } else {
        Err(Error::DamagedRecord { path: path.to_owned(), reason: reason.to_owned() })
    }
}

/// Directories that fail when they are synchronized.
#[cfg(test)]
pub(super) mod failure {
    use std::{cell::Cell, io};

    thread_local! { static AFTER: Cell<Option<u32>> = const { Cell::new(None) } }

    /// On this thread, `count` more directories are synchronized, and then one fails.
    pub(in crate::store) fn after(count: u32) {
        AFTER.set(Some(count));
    }

    pub(super) fn injected() -> io::Result<()> {
        let left = AFTER.get();
        AFTER.set(left.and_then(|left| left.checked_sub(1)));
        if left == Some(0) { Err(io::Error::other("injected")) } else { Ok(()) }
    }
}
