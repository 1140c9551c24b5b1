//! Files that appear whole or not at all, readable by their owner only.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::Problem;

/// A file under a name of its own until it is whole; removed if it never becomes that.
pub(super) struct NewFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// Begins the file that will be `path`. What an interruption left under the temporary name is removed.
    pub(super) fn begin(path: &Path) -> Result<Self, Problem> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".unfinished");
        let temporary = PathBuf::from(temporary);
        match fs::remove_file(&temporary) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
                return Err(error(&temporary, &problem));
            }
            _ => {}
        }
        let made = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = made.map_err(|problem| error(&temporary, &problem))?;
        Ok(Self { file, temporary, path: path.to_owned() })
    }

    pub(super) fn writer(&self) -> &File {
        &self.file
    }

    /// Writes out what was written to it.
    pub(super) fn sync(&self) -> Result<(), Problem> {
        self.file.sync_all().map_err(|problem| error(&self.temporary, &problem))
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<(), Problem> {
        fs::rename(&self.temporary, &self.path).map_err(|problem| error(&self.path, &problem))?;
        sync_directory_of(&self.path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary); // not there any more, if it was finished
    }
}

/// Writes a small file whole, in place of one that may be there.
pub(super) fn write_anew(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    let file = NewFile::begin(path)?;
    file.writer().write_all(bytes).map_err(|problem| error(path, &problem))?;
    file.sync()?;
    file.finish()
}

/// Makes a new name in a directory last.
pub(super) fn sync_directory_of(path: &Path) -> Result<(), Problem> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or_else(|| Path::new("."));
    File::open(directory).and_then(|open| open.sync_all()).map_err(|problem| error(directory, &problem))
}

pub(super) fn error(path: &Path, error: &io::Error) -> Problem {
    Problem::Io { path: path.to_owned(), error: io::Error::new(error.kind(), error.to_string()) }
}
