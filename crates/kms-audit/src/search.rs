//! Finds records in a log, from either end, without any state of its writer and in bounded memory.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crate::{
    line::{Line, RecordLine},
    reader::{Entry, ReadError},
    scan::WholeLines,
    segment::{LONGEST_LINE, file_name},
    storage::list,
};

/// How much of a segment is read at once: a line always has room in it.
const BLOCK: usize = if cfg!(test) { 4 << 10 } else { 2 * LONGEST_LINE };
/// How much is read to find out which lines lie somewhere, unless a line is longer.
const PROBE: usize = if cfg!(test) { 512 } else { 32 << 10 };
/// After so many bytes of lines a search ends, whatever it has found.
const MOST_LOOKED_AT: usize = if cfg!(test) { 16 << 10 } else { 32 << 20 };
/// After so many bytes of lines that it found, too: an answer holds each of them twice.
const MOST_FOUND: usize = if cfg!(test) { 4 << 10 } else { 1 << 20 };

/// In which order records are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they were written.
    OldestFirst,
    /// The other way.
    NewestFirst,
}

/// Where to look, and for how many records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The places to look at. Those before the log's first line are passed over; whoever reads a log that is in use sees
    /// to it that none of them is above the last durable line.
    pub places: Range<u64>,
    /// From which end.
    pub order: Order,
    /// The most records to find.
    pub limit: usize,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Records, in the order of the search. Fewer than were asked for, or none, do not mean that there are no more.
    pub entries: Vec<Entry>,
    /// The places that were not looked at, for the next search; empty if all were.
    pub left: Range<u64>,
}

/// The place behind the last whole line of the log in `directory`: where the next line will lie.
pub fn end(directory: &Path) -> Result<u64, ReadError> {
    match segments(directory)?.last() {
        Some(last) => Ok(Segment::open(directory, *last)?.seek(u64::MAX)?.place),
        None => Ok(0),
    }
}

/// Looks for records that are `wanted`. Ends when it has found enough or looked long enough.
///
/// A place that no line lies at, or another line than its number says, is an error: such a log is not the writer's.
pub fn search(
    directory: &Path,
    search: &Search,
    wanted: impl FnMut(&RecordLine<'static>) -> bool,
) -> Result<Found, ReadError> {
    let catch = Catch { wanted, limit: search.limit, entries: Vec::new(), found: 0, looked_at: 0 };
    let segments = segments(directory)?;
    let first = segments.first().copied().unwrap_or_default();
    let places = search.places.start.max(first)..search.places.end;
    match search.order {
        Order::OldestFirst => forwards(directory, &segments, places, catch),
        Order::NewestFirst => backwards(directory, &segments, places, catch),
    }
}

fn forwards<W: FnMut(&RecordLine<'static>) -> bool>(
    directory: &Path,
    segments: &[u64],
    places: Range<u64>,
    mut catch: Catch<W>,
) -> Result<Found, ReadError> {
    let mut next = places.start;
    let begins = segments.partition_point(|first| *first <= next).saturating_sub(1);
    for first in &segments[begins..] {
        if next >= places.end {
            break;
        }
        let segment = Segment::open(directory, *first)?;
        let mut offset = segment.seek(next)?.offset;
        loop {
            let block = segment.read(offset, BLOCK)?;
            let mut lines = WholeLines::new(&block);
            for (start, line) in &mut lines {
                if next >= places.end || catch.is_full() {
                    return Ok(catch.found(next..places.end));
                }
                catch.look_at(&segment, offset + start as u64, line, next)?;
                next += 1;
            }
            if lines.offset == 0 {
                break;
            }
            offset += lines.offset as u64;
        }
    }
    if next < places.end {
        return Err(missing(directory, next));
    }
    Ok(catch.found(next..next))
}

fn backwards<W: FnMut(&RecordLine<'static>) -> bool>(
    directory: &Path,
    segments: &[u64],
    places: Range<u64>,
    mut catch: Catch<W>,
) -> Result<Found, ReadError> {
    // All places from here on were looked at.
    let mut reached = places.end;
    let ends = segments.partition_point(|first| *first < reached);
    for first in segments[..ends].iter().rev() {
        if reached <= places.start {
            break;
        }
        let segment = Segment::open(directory, *first)?;
        let position = segment.seek(reached)?;
        if position.place != reached {
            return Err(missing(directory, position.place));
        }
        let mut offset = position.offset;
        while offset > 0 {
            let (start, block) = segment.lines_before(offset)?;
            let lines: Vec<_> = WholeLines::new(&block).collect();
            for (at, line) in lines.into_iter().rev() {
                if reached <= places.start || catch.is_full() {
                    return Ok(catch.found(places.start..reached));
                }
                reached -= 1;
                catch.look_at(&segment, start + at as u64, line, reached)?;
            }
            offset = start;
        }
    }
    Ok(catch.found(places.start..places.start))
}

/// What a search has found so far, and how much it has looked at.
struct Catch<W> {
    wanted: W,
    limit: usize,
    entries: Vec<Entry>,
    found: usize,
    looked_at: usize,
}

impl<W: FnMut(&RecordLine<'static>) -> bool> Catch<W> {
    fn is_full(&self) -> bool {
        self.entries.len() >= self.limit || self.found >= MOST_FOUND || self.looked_at >= MOST_LOOKED_AT
    }

    fn look_at(&mut self, segment: &Segment, offset: u64, bytes: &[u8], place: u64) -> Result<(), ReadError> {
        let line = segment.parse(offset, bytes)?;
        if line.sequence() != place {
            return Err(segment.damaged("lines are missing, doubled or out of order"));
        }
        self.looked_at += bytes.len();
        if let Line::Record(record) = &line
            && (self.wanted)(record)
        {
            self.found += bytes.len();
            self.entries.push(Entry { segment: segment.first, offset, bytes: bytes.to_vec(), line });
        }
        Ok(())
    }

    fn found(self, left: Range<u64>) -> Found {
        Found { entries: self.entries, left }
    }
}

/// Where a line begins in its segment, and its place in the log.
#[derive(Debug, Clone, Copy)]
struct Position {
    offset: u64,
    place: u64,
}

/// A segment that is read in pieces.
struct Segment {
    path: PathBuf,
    file: File,
    first: u64,
    /// In bytes, when it was opened.
    length: u64,
}

impl Segment {
    fn open(directory: &Path, first: u64) -> Result<Self, ReadError> {
        let path = directory.join(file_name(first));
        let opened = File::open(&path).and_then(|file| {
            let length = file.metadata()?.len();
            Ok((file, length))
        });
        match opened {
            Ok((file, length)) => Ok(Self { path, file, first, length }),
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }

    /// Where the line at `place` begins; if the segment ends before it, where the whole lines end.
    fn seek(&self, place: u64) -> Result<Position, ReadError> {
        let mut low = Position { offset: 0, place: self.first };
        let mut high = self.length;
        // The line begins at `low` or later, and before `high` if it is there. Lines lie in the order of their places.
        while place > low.place && high > low.offset + BLOCK as u64 {
            let middle = low.offset + (high - low.offset) / 2;
            match self.line_after(middle)? {
                Some(line) if line.place <= place => low = line,
                _ => high = middle,
            }
        }
        while low.place < place {
            let block = self.read(low.offset, BLOCK)?;
            let mut lines = WholeLines::new(&block);
            let passed = (&mut lines).take(usize::try_from(place - low.place).unwrap_or(usize::MAX)).count();
            if passed == 0 {
                break;
            }
            low = Position { offset: low.offset + lines.offset as u64, place: low.place + passed as u64 };
        }
        Ok(low)
    }

    /// The first whole line that begins behind `offset`.
    fn line_after(&self, offset: u64) -> Result<Option<Position>, ReadError> {
        for length in [PROBE, BLOCK] {
            let bytes = self.read(offset, length)?;
            let mut lines = WholeLines::new(&bytes);
            // The first piece may be the end of a line.
            if lines.next().is_none() {
                continue;
            }
            if let Some((start, line)) = lines.next() {
                let offset = offset + start as u64;
                let place = self.parse(offset, line)?.sequence();
                return Ok(Some(Position { offset, place }));
            }
        }
        Ok(None)
    }

    /// The lines that end where another one begins, as many as a block holds, and where the first of them begins.
    fn lines_before(&self, offset: u64) -> Result<(u64, Vec<u8>), ReadError> {
        let start = offset.saturating_sub(BLOCK as u64);
        // The bound is that of a block.
        let mut block = self.read(start, usize::try_from(offset - start).unwrap_or(BLOCK))?;
        if start == 0 {
            return Ok((0, block));
        }
        match block.iter().position(|byte| *byte == b'\n') {
            Some(end) if end + 1 < block.len() => Ok((start + end as u64 + 1, block.split_off(end + 1))),
            _ => Err(self.damaged("a line is longer than any of the log's")),
        }
    }

    /// What lies at `offset`, at the most `length` bytes.
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { path: self.path.clone(), source }),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn parse(&self, offset: u64, bytes: &[u8]) -> Result<Line, ReadError> {
        Line::parse(bytes).map_err(|source| ReadError::Line { segment: self.first, offset, source })
    }

    fn damaged(&self, problem: &'static str) -> ReadError {
        ReadError::Io { path: self.path.clone(), source: io::Error::new(io::ErrorKind::InvalidData, problem) }
    }
}

fn segments(directory: &Path) -> Result<Vec<u64>, ReadError> {
    list(directory).map_err(|source| ReadError::Io { path: directory.to_owned(), source })
}

fn missing(directory: &Path, place: u64) -> ReadError {
    let problem = format!("line {place} is missing");
    ReadError::Io { path: directory.to_owned(), source: io::Error::new(io::ErrorKind::InvalidData, problem) }
}
