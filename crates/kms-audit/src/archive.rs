//! The archive: another place, where closed segments lie before they may go from the log.
//!
//! It is a log of its own that ends earlier: segments, tiles, keys and the checkpoint of exactly its lines, so that it
//! verifies by itself. Its checkpoint is written last, and what lies behind that is copied again: whatever moment a
//! crash comes at, it holds what its checkpoint says.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, fadvise};

use crate::{
    memory::{Memory, Retraced, past_checkpoints},
    notary::{CHECKPOINT, HASHED, KEYS, replace},
    note::SignedCheckpoint,
    recovery::OpenError,
    segment::file_name,
    storage::list,
    tiles::Tiles,
};

/// Where the closed segments of one log are copied to.
#[derive(Debug, Clone)]
pub struct Archive {
    log: PathBuf,
    place: PathBuf,
}

/// Why segments are not archived, or not removed. Nothing was lost, and a further attempt goes on where this one ended.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The log's keys or checkpoints cannot be read or believed.
    #[error("the log: {0}")]
    Log(#[source] OpenError),
    /// What lies in the archive is not what was archived: it was altered, or its device does not keep what is written.
    #[error("the archive: {0}")]
    Archive(#[source] OpenError),
    /// The archive is not the beginning of this log.
    #[error("the archive holds {held} lines, and no segment of the log goes on from there")]
    Gap {
        /// How many lines the archive holds.
        held: u64,
    },
    /// A segment in the archive is not that of the log, which therefore stays.
    #[error("{} in the archive is not what it is in the log", file_name(*.segment))]
    Differs {
        /// The segment, by the place of its header.
        segment: u64,
    },
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ArchiveError {
    move |source| ArchiveError::Io { what, source }
}

impl Archive {
    /// The archive of the log in `log`, in a directory of the log's name inside `place`, which must exist.
    pub fn new(log: &Path, place: &Path) -> Self {
        Self { log: log.to_owned(), place: place.to_owned() }
    }

    /// Copies the closed segments that the archive does not hold yet, up to the last one at whose end a checkpoint was
    /// made; reads them back, and holds them against that checkpoint. Answers how many lines the archive holds, from
    /// line 0 on.
    pub fn copy(&self) -> Result<u64, ArchiveError> {
        let log = Memory::read(&self.log).map_err(ArchiveError::Log)?;
        let directory = self.directory(&log)?;
        let archived = Memory::read(&directory).map_err(ArchiveError::Archive)?;
        let held = archived.kept().covered;
        let mut segments = list(&self.log).map_err(failed("list the segments"))?;
        let begin = segments.binary_search(&held).map_err(|_| ArchiveError::Gap { held })?;
        segments.drain(..begin);
        let Some(checkpoint) = self.last_at_an_end(&log, &segments)? else { return Ok(held) };
        let size = checkpoint.checkpoint.size;
        segments.retain(|first| *first < size);
        for first in &segments {
            self.copy_segment(*first, &directory).map_err(failed("copy a segment"))?;
        }
        let keys = fs::read(self.log.join(KEYS)).map_err(failed("read the keys of the log"))?;
        replace(&directory, KEYS, &keys).map_err(failed("write the keys of the log"))?;
        let note = checkpoint.note.clone();
        let Retraced { tree, fresh, .. } =
            archived.grown_by(&segments, held, checkpoint).map_err(ArchiveError::Archive)?;
        let tiles = Tiles::new(&directory);
        for fresh in &fresh {
            tiles.settle(fresh).map_err(failed("write a tile"))?;
            tiles.remove_partials(fresh.tile, 0).map_err(failed("write a tile"))?;
        }
        for (tile, hashes) in tree.edges() {
            let written = tiles.write(tile, hashes).and_then(|()| tiles.sync(tile));
            written.and_then(|()| tiles.remove_partials(tile, 0)).map_err(failed("write a tile"))?;
        }
        replace(&directory, HASHED, size.to_string().as_bytes())
            .map_err(failed("write how far the tiles are durable"))?;
        replace(&directory, CHECKPOINT, note.as_bytes()).map_err(failed("write the checkpoint"))?;
        Ok(size)
    }

    /// How many lines at the beginning of the log may go if it keeps `keep` closed segments, the active one, and all
    /// lines from `below` on. Nothing if no segment may go.
    pub fn removable(&self, below: u64, keep: usize) -> Result<Option<u64>, ArchiveError> {
        let segments = list(&self.log).map_err(failed("list the segments"))?;
        let most = segments.len().saturating_sub(keep + 1);
        let ends = segments.iter().copied().skip(1).take(most);
        Ok(ends.take_while(|end| *end <= below).last())
    }

    /// Removes the segments that end with the first `lines` lines, oldest first, each after a last look at its copy.
    /// The log must have told before that these lines are archived. Answers how many segments it removed.
    pub fn remove(&self, lines: u64) -> Result<u64, ArchiveError> {
        let log = Memory::read(&self.log).map_err(ArchiveError::Log)?;
        let directory = self.directory(&log)?;
        let segments = list(&self.log).map_err(failed("list the segments"))?;
        let gone = segments.windows(2).take_while(|pair| pair[1] <= lines);
        let mut count = 0;
        for segment in gone.map(|pair| pair[0]) {
            let path = self.log.join(file_name(segment));
            let here = fs::read(&path).map_err(failed("read a segment"))?;
            let there = fs::read(directory.join(file_name(segment))).map_err(failed("read a copy"))?;
            if here != there {
                return Err(ArchiveError::Differs { segment });
            }
            fs::remove_file(path).map_err(failed("remove a segment"))?;
            // One after the other: no crash leaves an older one without the one that follows it.
            sync_directory(&self.log).map_err(failed("remove a segment"))?;
            count += 1;
        }
        Ok(count)
    }

    /// The log's own directory inside the archive's.
    fn directory(&self, log: &Memory) -> Result<PathBuf, ArchiveError> {
        let made = |path: &Path| match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Err(_) => Ok(()),
            Ok(()) => sync_directory(&self.place),
        };
        let own = self.place.join(log.name().replace('/', "_"));
        made(&own).map_err(failed("make the log's directory in the archive"))?;
        Ok(own)
    }

    /// The largest checkpoint that ends with the line before one of `segments`, but the first of them.
    fn last_at_an_end(
        &self,
        log: &Memory,
        segments: &[u64],
    ) -> Result<Option<SignedCheckpoint>, ArchiveError> {
        let ends = segments.get(1..).unwrap_or_default();
        if ends.is_empty() {
            return Ok(None);
        }
        let past = past_checkpoints(&self.log).map_err(failed("read the checkpoints of the past"))?;
        let fits = |checkpoint: &String| {
            let size = checkpoint.lines().nth(1).and_then(|size| size.parse::<u64>().ok());
            size.is_some_and(|size| ends.binary_search(&size).is_ok() && size <= log.kept().hashed)
        };
        let last = past.into_iter().rfind(fits);
        last.map(|note| log.open_note(&note)).transpose().map_err(ArchiveError::Log)
    }

    fn copy_segment(&self, first: u64, directory: &Path) -> io::Result<()> {
        let name = file_name(first);
        let bytes = fs::read(self.log.join(&name))?;
        let unfinished = directory.join("segment.tmp");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // What is read back shall come from the device.
        fadvise(&file, 0, None, Advice::DontNeed)?;
        fs::rename(unfinished, directory.join(name))?;
        sync_directory(directory)
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
