//! Walks the bytes of one segment: which lines are whole, whether they fit together, where they end.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    num::NonZeroUsize,
    sync::Mutex,
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use memchr::memchr2;

use crate::{
    glance::Glance,
    intents::OpenIntents,
    line::{self, Line, ParseError, SegmentHeader},
    parts::{Parts, Tail},
    retrace::Position,
    segment::{self, LARGEST_COMMIT},
};

/// So many parts for each thread may be read that were not taken yet.
const AHEAD: usize = 6;

/// The first place where the log is not what the writer makes or a crash leaves.
#[derive(Debug, thiserror::Error)]
#[error("{}, byte {offset}, line {sequence}: {problem}", segment::file_name(*.segment))]
pub struct Fault {
    /// The segment, by the place of its header.
    pub segment: u64,
    /// Where in its file the bad line begins.
    pub offset: u64,
    /// The place in the log that the line should have.
    pub sequence: u64,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a line or a segment.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The line cannot be read.
    #[error(transparent)]
    Line(#[from] ParseError),
    /// Lines are missing, doubled or out of order.
    #[error("has the sequence number {0}")]
    Sequence(u64),
    /// The segment does not begin with a header line.
    #[error("the segment's header is missing")]
    HeaderMissing,
    /// A header amid a segment.
    #[error("a header that does not begin a segment")]
    HeaderMisplaced,
    /// Lines are missing at the end of a segment, or whole segments after it.
    #[error("the lines from this one to before {next} are missing")]
    Missing {
        /// The next line that is there.
        next: u64,
    },
    /// The segments before this one are missing.
    #[error("the segment before is missing")]
    PreviousMissing,
    /// The header names another last line of the segment before.
    #[error("does not continue the segment before: the hash of its last line differs")]
    PreviousDiffers,
    /// The header lists other open intents than the records before it leave open.
    #[error("lists other open intents than the segments before leave")]
    OpenIntentsDiffer,
    /// A segment that others follow ends with zeros or a piece of a line.
    #[error("a closed segment does not end with a whole line")]
    Unfinished,
    /// Zeros lie before data that no crash can have left there.
    #[error("data lies behind a hole of zeros")]
    Hole,
    /// A line is longer than any that is read.
    #[error("this line has no end")]
    Endless,
    /// The line is not the one that was there when the checkpoint was signed.
    #[error(
        "this line was altered, or is not the one that stood here: the checkpoint of {size} lines does not cover it"
    )]
    Altered {
        /// The size of the checkpoint.
        size: u64,
    },
    /// A line up to here is not the one that was there, and the tiles do not tell which: they were altered, too.
    #[error(
        "a line at or before this one was altered, and the tiles with it: the checkpoint of {size} lines has another root"
    )]
    RootDiffers {
        /// The size of the checkpoint.
        size: u64,
    },
    /// Lines are missing at the end of the log.
    #[error("the log ends here, but a checkpoint covers {size} lines: what followed was cut off")]
    CutOff {
        /// The size of the checkpoint.
        size: u64,
    },
    /// A tile is not that of the lines, which are those of the checkpoint, or is missing.
    #[error("a tile over this line was altered or is missing; the line was not")]
    TileDiffers,
    /// Lines at the beginning are gone, and nobody says that they were archived.
    #[error(
        "the lines before this one are not there, and no record that a checkpoint covers says that they are archived"
    )]
    NotArchived,
    /// Lines at the beginning are gone, and so are the tiles that stand for them.
    #[error("the lines before this one are not there, nor are the tiles with their hashes: {0}")]
    BeginningMissing(String),
}

/// The end of a segment, as the next one must continue it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// The place of the line that follows.
    pub(crate) next: u64,
    /// SHA-256 of the last line.
    pub(crate) hash: [u8; 32],
}

/// What lies before a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Before {
    /// Nothing: it is the first.
    Nothing,
    /// Segments that were archived: only their hashes are there.
    Archived,
    /// A segment that ends so.
    Segment(End),
}

impl Before {
    /// What lies before `first`, the first segment that is there, if the hashes of `archived` lines are.
    pub(crate) fn first(first: u64, archived: u64) -> Self {
        if first > 0 && first <= archived { Self::Archived } else { Self::Nothing }
    }
}

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// Its first line.
    pub(crate) header: SegmentHeader,
    /// Its end, for the next one.
    pub(crate) end: End,
    /// The last line, without newline.
    pub(crate) last_line: Vec<u8>,
    /// How many of the bytes are whole lines.
    pub(crate) length: usize,
    /// What lies behind them.
    pub(crate) tail: Tail,
    /// Intents open after the last line.
    pub(crate) open_intents: OpenIntents,
}

/// Why a segment could not be walked to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    /// The first bad line.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Walks the segment `first`.
///
/// Accepts what a crash can leave at its end. Lines are read by all processors at once, and `digest` makes of each one,
/// and of what it says if it is a record, what `visit` is shown then, in order, with the place where the line lies.
pub(crate) fn scan<T: Send>(
    source: impl Read + Send,
    first: u64,
    before: Before,
    digest: impl Fn(&[u8], Option<&Glance>) -> T + Sync,
    mut visit: impl FnMut(Position, T) -> Result<(), Fault>,
) -> Result<Scanned, ScanError> {
    let fault = |offset: usize, sequence: u64, problem: Problem| Fault {
        segment: first,
        offset: offset as u64,
        sequence,
        problem,
    };
    let mut begun: Option<(SegmentHeader, OpenIntents)> = None;
    let (mut next, mut length, mut last_line) = (first, 0, Vec::new());
    let tail = read_all(source, &digest, |read| {
        for ReadLine { offset, end, content, digest } in read.lines {
            match (&mut begun, content) {
                (None, Content::Header(header)) => {
                    let open_intents = check_header(&header, first, before);
                    begun = Some((*header, open_intents.map_err(|problem| fault(0, first, problem))?));
                }
                (None, Content::Record(_)) => return Err(fault(0, first, Problem::HeaderMissing)),
                (Some((_, open_intents)), Content::Record(record)) if record.sequence == next => {
                    open_intents.follow(record.phase, record.intent());
                }
                (Some(_), Content::Header(header)) if header.seq == next => {
                    return Err(fault(offset, next, Problem::HeaderMisplaced));
                }
                (Some(_), Content::Record(Glance { sequence, .. })) => {
                    return Err(fault(offset, next, Problem::Sequence(sequence)));
                }
                (Some(_), Content::Header(header)) => {
                    return Err(fault(offset, next, Problem::Sequence(header.seq)));
                }
            }
            visit(Position { segment: first, offset: offset as u64, sequence: next }, digest)?;
            (next, length) = (next + 1, end);
        }
        last_line = read.last_line;
        match read.error {
            Some((offset, problem)) => Err(fault(offset, next, problem)),
            None => Ok(()),
        }
    })?;
    let (header, open_intents) = begun.ok_or_else(|| fault(0, first, Problem::HeaderMissing))?;
    if tail.is_endless {
        return Err(fault(length, next, Problem::Endless).into());
    }
    // A commit's pages reach the disk in any order, so zeros may lie before data that a crash left; but all of it is of
    // the one commit that was not durable.
    if tail.torn > LARGEST_COMMIT {
        return Err(fault(length, next, Problem::Hole).into());
    }
    let end = End { next, hash: line::hash(&last_line) };
    Ok(Scanned { header, end, last_line, length, tail, open_intents })
}

/// A line that was read.
struct ReadLine<T> {
    offset: usize,
    /// Where the next one begins.
    end: usize,
    content: Content,
    digest: T,
}

enum Content {
    Record(Glance),
    Header(Box<SegmentHeader>),
}

/// The lines of a part of a segment, up to the first that is none.
struct ReadPart<T> {
    lines: Vec<ReadLine<T>>,
    last_line: Vec<u8>,
    /// Where the next part begins.
    end: usize,
    error: Option<(usize, Problem)>,
}

/// Reads the lines of a segment; `take` gets them in order. What lies behind them.
fn read_all<T: Send>(
    source: impl Read + Send,
    digest: &(impl Fn(&[u8], Option<&Glance>) -> T + Sync),
    mut take: impl FnMut(ReadPart<T>) -> Result<(), Fault>,
) -> Result<Tail, ScanError> {
    let mut parts = Parts::new(source);
    let mut part = Vec::new();
    if parts.next(&mut part)? {
        take(read_part(&part, 0, digest))?;
    }
    if parts.tail().is_none() {
        read_together(&mut parts, digest, take)?;
    }
    Ok(parts.tail().unwrap_or_default())
}

/// Reads the parts by as many threads as there are processors, and one more, as one may wait for the disk; `take` gets
/// them in order, while the next ones are being read.
fn read_together<T: Send>(
    parts: &mut Parts<impl Read + Send>,
    digest: &(impl Fn(&[u8], Option<&Glance>) -> T + Sync),
    mut take: impl FnMut(ReadPart<T>) -> Result<(), Fault>,
) -> Result<(), ScanError> {
    let threads = 1 + thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let ahead = threads * AHEAD;
    let mut next = parts.offset();
    let parts = Mutex::new(parts);
    let parts = &parts;
    thread::scope(|scope| {
        // A permit for each part that was not taken yet. All ends of channels fall with this closure, or with the threads.
        let (permit, permits) = bounded(ahead);
        let (sender, receiver) = bounded(ahead);
        let (mut started, mut failed) = (0, None);
        for _ in 0..threads {
            let (permits, sender) = (permits.clone(), sender.clone());
            let read = move || read_parts(parts, &permits, &sender, digest);
            match thread::Builder::new().spawn_scoped(scope, read) {
                Ok(_) => started += 1,
                Err(error) => failed = Some(error),
            }
        }
        drop(sender);
        if let Some(error) = failed.filter(|_| started == 0) {
            return Err(error.into());
        }
        for _ in 0..ahead {
            permit.send(()).ok();
        }
        let mut waiting = BTreeMap::new();
        for (offset, read) in receiver {
            waiting.insert(offset, read);
            while let Some(read) = waiting.remove(&next) {
                let part: ReadPart<T> = read?;
                next = part.end;
                take(part)?;
                permit.send(()).ok();
            }
        }
        Ok(())
    })
}

/// What a thread does: reads parts, each with a permit, and sends what they hold with where they begin.
fn read_parts<T>(
    parts: &Mutex<&mut Parts<impl Read>>,
    permits: &Receiver<()>,
    sender: &Sender<(usize, io::Result<ReadPart<T>>)>,
    digest: impl Fn(&[u8], Option<&Glance>) -> T,
) {
    let mut part = Vec::new();
    while permits.recv().is_ok() {
        // Only a thread that panicked leaves it poisoned, and then the scope panics, too.
        let Ok(mut parts) = parts.lock() else { return };
        let offset = parts.offset();
        let found = parts.next(&mut part);
        drop(parts);
        let read = match found {
            Ok(true) => Ok(read_part(&part, offset, &digest)),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        if sender.send((offset, read)).is_err() {
            return;
        }
    }
}

fn read_part<T>(bytes: &[u8], start: usize, digest: impl Fn(&[u8], Option<&Glance>) -> T) -> ReadPart<T> {
    let end = start + bytes.len();
    let mut read = ReadPart { lines: Vec::new(), last_line: Vec::new(), end, error: None };
    let mut lines = WholeLines::new(bytes);
    let mut last_line = &[][..];
    while let Some((offset, line)) = lines.next() {
        let offset = start + offset;
        match read_line(line) {
            Ok(content) => {
                let record = match &content {
                    Content::Record(record) => Some(record),
                    Content::Header(_) => None,
                };
                let digest = digest(line, record);
                read.lines.push(ReadLine { offset, end: start + lines.offset, content, digest });
                last_line = line;
            }
            Err(error) => {
                read.error = Some((offset, error.into()));
                break;
            }
        }
    }
    read.last_line = last_line.to_vec();
    read
}

fn read_line(line: &[u8]) -> Result<Content, ParseError> {
    if let Some(glance) = Glance::of(line) {
        return Ok(Content::Record(glance));
    }
    Ok(match Line::parse(line)? {
        Line::Header(header) => Content::Header(Box::new(header)),
        Line::Record(record) => Content::Record((&*record).into()),
    })
}

fn check_header(header: &SegmentHeader, first: u64, before: Before) -> Result<OpenIntents, Problem> {
    if header.seq != first {
        return Err(Problem::Sequence(header.seq));
    }
    match before {
        Before::Nothing if first > 0 => return Err(Problem::PreviousMissing),
        Before::Nothing if header.previous.is_some() => return Err(Problem::PreviousDiffers),
        Before::Archived if header.previous.is_none() => return Err(Problem::PreviousDiffers),
        Before::Segment(end) if end.next != first => return Err(Problem::PreviousMissing),
        Before::Segment(end) if header.previous != Some(end.hash) => return Err(Problem::PreviousDiffers),
        _ => {}
    }
    Ok(OpenIntents::from_header(&header.open_intents))
}

/// The whole lines of a segment up to its first zero byte, each with its offset.
#[derive(Debug)]
pub(crate) struct WholeLines<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where the next line begins.
    pub(crate) offset: usize,
}

impl<'a> WholeLines<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }
}

impl<'a> Iterator for WholeLines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.offset..];
        let length = memchr2(b'\n', 0, rest)?;
        if rest[length] == 0 {
            return None;
        }
        let offset = self.offset;
        self.offset += length + 1;
        Some((offset, &rest[..length]))
    }
}
