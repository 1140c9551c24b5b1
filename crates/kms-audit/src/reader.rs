//! Walks a log, line by line, without any state of its writer.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    vec::IntoIter,
};

use crate::{
    line::{Line, ParseError},
    parts::Parts,
    scan::WholeLines,
    segment::file_name,
    storage::list,
};

/// One line and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The segment, by the place of its header.
    pub segment: u64,
    /// Where in the segment's file the line begins.
    pub offset: u64,
    /// The line without its newline: the bytes that a Merkle leaf hashes.
    pub bytes: Vec<u8>,
    /// The line.
    pub line: Line,
}

/// Why a log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A whole line is none of the log.
    #[error("{}, byte {offset}: {source}", file_name(*.segment))]
    Line {
        /// The segment, by the place of its header.
        segment: u64,
        /// Where in its file the line begins.
        offset: u64,
        /// What is wrong with it.
        source: ParseError,
    },
}

/// Reads the log in `directory`: all whole lines of its segments in order.
///
/// A segment is read up to its first zero byte, and a last line without newline is not given: the
/// log may be in use. Nothing is compared between lines; that is [`verify`](crate::verify)'s part.
pub fn read(directory: &Path) -> Result<Reader, ReadError> {
    let segments = list(directory).map_err(|source| ReadError::Io { path: directory.to_owned(), source })?;
    Ok(Reader::of(directory, segments, 0))
}

/// The same from the line with this sequence number on, without a look at the lines before it; from the log's
/// first line, if it begins later.
pub fn read_from(directory: &Path, sequence: u64) -> Result<Reader, ReadError> {
    let mut segments =
        list(directory).map_err(|source| ReadError::Io { path: directory.to_owned(), source })?;
    let later = segments.partition_point(|first| *first <= sequence);
    segments.drain(..later.saturating_sub(1));
    Ok(Reader::of(directory, segments, sequence))
}

/// The sequence number of the first line that the log in `directory` holds.
pub fn first_sequence(directory: &Path) -> Result<u64, ReadError> {
    let segments = list(directory).map_err(|source| ReadError::Io { path: directory.to_owned(), source })?;
    Ok(segments.first().copied().unwrap_or_default())
}

/// The lines of a log, in order. Holds a part of a segment in memory.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    segments: IntoIter<u64>,
    current: u64,
    /// What is still to be read of the current segment.
    parts: Option<Parts<File>>,
    part: Vec<u8>,
    /// Where the part begins in its segment, and the next line in the part.
    start: usize,
    offset: usize,
    /// How many lines of the first segment are passed over.
    skipped: u64,
}

impl Reader {
    fn of(directory: &Path, segments: Vec<u64>, sequence: u64) -> Self {
        // Each line counts one, so a place in the log is a number of lines.
        let skipped = segments.first().map_or(0, |first| sequence.saturating_sub(*first));
        Self {
            directory: directory.to_owned(),
            segments: segments.into_iter(),
            current: 0,
            parts: None,
            part: Vec::new(),
            start: 0,
            offset: 0,
            skipped,
        }
    }

    /// Reads the next part of the current segment, or begins the next segment; nothing at the end of the log.
    fn go_on(&mut self) -> Option<io::Result<()>> {
        self.offset = 0;
        if let Some(mut parts) = self.parts.take() {
            self.start = parts.offset();
            let found = parts.next(&mut self.part);
            if found.is_err() {
                self.part.clear();
            }
            return Some(found.map(|is_there| self.parts = is_there.then_some(parts)));
        }
        self.current = self.segments.next()?;
        let file = File::open(self.directory.join(file_name(self.current)));
        Some(file.map(|file| self.parts = Some(Parts::new(file))))
    }

    fn parse(&self, start: usize, line: Vec<u8>) -> Result<Entry, ReadError> {
        let (segment, offset) = (self.current, start as u64);
        match Line::parse(&line) {
            Ok(parsed) => Ok(Entry { segment, offset, bytes: line, line: parsed }),
            Err(source) => Err(ReadError::Line { segment, offset, source }),
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut lines = WholeLines { bytes: &self.part, offset: self.offset };
            if let Some((start, line)) = lines.next() {
                self.offset = lines.offset;
                if self.skipped > 0 {
                    self.skipped -= 1;
                    continue;
                }
                let line = line.to_vec();
                return Some(self.parse(self.start + start, line));
            }
            if let Err(source) = self.go_on()? {
                let path = self.directory.join(file_name(self.current));
                return Some(Err(ReadError::Io { path, source }));
            }
        }
    }
}
