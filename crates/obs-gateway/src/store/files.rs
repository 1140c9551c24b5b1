//! Files that are there as a whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::Error;

/// What the name of a record that is still being written ends with.
const UNFINISHED: &str = "new";

/// Replaces a record: it survives a power cut when this returns, and until then the old one does.
pub(super) fn write_record(path: &Path, record: &impl Serialize) -> Result<(), Error> {
    let unfinished = path.with_extension(UNFINISHED);
    let mut file = File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec(record).map_err(io::Error::from)?)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_parent(path)
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

/// The directory entry of a file survives a power cut when this returns.
pub(super) fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("."));
    Ok(File::open(parent)?.sync_all()?)
}

/// Makes a directory with its parents; the last entry survives a power cut.
pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path)?;
    sync_parent(path)
}
