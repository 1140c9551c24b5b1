//! Walks the bytes of one segment: which lines are whole, whether they fit together, where they end.

use std::{num::NonZeroUsize, ops::Range, thread};

use crossbeam_channel::bounded;
use memchr::{memchr, memchr2, memrchr};

use crate::{
    glance::Glance,
    intents::OpenIntents,
    line::{self, Line, ParseError},
    retrace::Position,
    segment::{self, LARGEST_COMMIT},
};

/// So many bytes are read by one thread at a time; unit tests shall have several such parts.
const PART: usize = if cfg!(test) { 500 } else { 1 << 18 };
/// So many parts that a thread has read wait for the walk.
const AHEAD: usize = 2;

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
    /// A tile is not that of the lines, which are those of the checkpoint.
    #[error("the tile with the hash of this line was altered; the line was not")]
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
    /// Its end, for the next one.
    pub(crate) end: End,
    /// The last line, without newline.
    pub(crate) last_line: Vec<u8>,
    /// How many of the bytes are whole lines.
    pub(crate) length: usize,
    /// From `length` to the last byte that is not zero: a line cut short and what lies behind it.
    pub(crate) torn: usize,
    /// Intents open after the last line.
    pub(crate) open_intents: OpenIntents,
}

/// Walks the segment `first`.
///
/// Accepts what a crash can leave at its end. Lines are read by all processors at once, and `digest` makes of each one,
/// and of what it says if it is a record, what `visit` is shown then, in order, with the place where the line lies.
pub(crate) fn scan<T: Send>(
    bytes: &[u8],
    first: u64,
    before: Before,
    digest: impl Fn(&[u8], Option<&Glance>) -> T + Sync,
    mut visit: impl FnMut(Position, T) -> Result<(), Fault>,
) -> Result<Scanned, Fault> {
    let fault = |offset: usize, sequence: u64, problem: Problem| Fault {
        segment: first,
        offset: offset as u64,
        sequence,
        problem,
    };
    let mut lines = WholeLines::new(bytes);
    let header = lines.next().ok_or_else(|| fault(0, first, Problem::HeaderMissing))?;
    let mut open_intents =
        check_header(header.1, first, before).map_err(|problem| fault(0, first, problem))?;
    visit(Position { segment: first, offset: 0, sequence: first }, digest(header.1, None))?;
    let (mut next, mut length) = (first + 1, lines.offset);
    read_all(bytes, lines.offset, &digest, |read| {
        for ReadLine { offset, end, record, digest } in read.lines {
            let record = match record {
                Ok(record) if record.sequence == next => record,
                Err(header) if header == next => return Err(fault(offset, next, Problem::HeaderMisplaced)),
                Ok(Glance { sequence, .. }) | Err(sequence) => {
                    return Err(fault(offset, next, Problem::Sequence(sequence)));
                }
            };
            open_intents.follow(record.phase, record.intent());
            visit(Position { segment: first, offset: offset as u64, sequence: next }, digest)?;
            (next, length) = (next + 1, end);
        }
        match read.error {
            Some((offset, problem)) => Err(fault(offset, next, problem)),
            None => Ok(()),
        }
    })?;
    let torn = torn_length(&bytes[length..]).map_err(|problem| fault(length, next, problem))?;
    let last_line = last_line(&bytes[..length]).to_vec();
    let end = End { next, hash: line::hash(&last_line) };
    Ok(Scanned { end, last_line, length, torn, open_intents })
}

/// A line that was read.
struct ReadLine<T> {
    offset: usize,
    /// Where the next one begins.
    end: usize,
    /// The record that it is, or the place that it says it has as a header.
    record: Result<Glance, u64>,
    digest: T,
}

/// The lines of a part of a segment, up to the first that is none.
struct ReadPart<T> {
    lines: Vec<ReadLine<T>>,
    error: Option<(usize, Problem)>,
    /// Whether a line is cut short in this part: what follows is not of the log.
    is_last: bool,
}

/// Reads the whole lines from `start` on, by as many threads as there are processors; `take` gets them in order, while
/// the next ones are being read.
fn read_all<T: Send>(
    bytes: &[u8],
    start: usize,
    digest: &(impl Fn(&[u8], Option<&Glance>) -> T + Sync),
    mut take: impl FnMut(ReadPart<T>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let parts = &parts(bytes, start);
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(parts.len());
    thread::scope(|scope| {
        let read = |worker: usize| {
            let (sender, receiver) = bounded(AHEAD);
            scope.spawn(move || {
                let mut own = parts.iter().skip(worker).step_by(threads);
                // Nobody waits for more once the walk has ended.
                own.try_for_each(|part| sender.send(read_part(bytes, part.clone(), digest)))
            });
            receiver
        };
        let workers: Vec<_> = (0..threads).map(read).collect();
        for worker in workers.iter().cycle().take(parts.len()) {
            // A worker that panics makes the scope panic, too.
            let Ok(part) = worker.recv() else { break };
            let is_last = part.is_last;
            take(part)?;
            if is_last {
                break;
            }
        }
        Ok(())
    })
}

/// The bytes from `start` on, cut behind newlines.
fn parts(bytes: &[u8], start: usize) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut from = start;
    while from < bytes.len() {
        let earliest = (from + PART).min(bytes.len());
        let to = memchr(b'\n', &bytes[earliest..]).map_or(bytes.len(), |at| earliest + at + 1);
        parts.push(from..to);
        from = to;
    }
    parts
}

fn read_part<T>(
    bytes: &[u8],
    part: Range<usize>,
    digest: impl Fn(&[u8], Option<&Glance>) -> T,
) -> ReadPart<T> {
    let mut read = ReadPart { lines: Vec::new(), error: None, is_last: false };
    let mut lines = WholeLines { bytes: &bytes[..part.end], offset: part.start };
    while let Some((offset, line)) = lines.next() {
        match read_line(line) {
            Ok(record) => {
                let digest = digest(line, record.as_ref().ok());
                read.lines.push(ReadLine { offset, end: lines.offset, record, digest });
            }
            Err(error) => {
                read.error = Some((offset, error.into()));
                break;
            }
        }
    }
    read.is_last = lines.offset < part.end;
    read
}

/// The record that a line is, or the place that it says it has as a header.
fn read_line(line: &[u8]) -> Result<Result<Glance, u64>, ParseError> {
    if let Some(glance) = Glance::of(line) {
        return Ok(Ok(glance));
    }
    Ok(match Line::parse(line)? {
        Line::Header(header) => Err(header.seq),
        Line::Record(record) => Ok((&*record).into()),
    })
}

/// The last of whole lines, without its newline.
fn last_line(lines: &[u8]) -> &[u8] {
    let body = &lines[..lines.len().saturating_sub(1)];
    let start = memrchr(b'\n', body).map_or(0, |at| at + 1);
    &body[start..]
}

fn check_header(bytes: &[u8], first: u64, before: Before) -> Result<OpenIntents, Problem> {
    let Line::Header(header) = Line::parse(bytes)? else { return Err(Problem::HeaderMissing) };
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

/// How far the bytes behind the last whole line reach that a crash has left.
///
/// A commit's pages reach the disk in any order, so zeros may lie before data; but all of it is of
/// the one commit that was not durable.
fn torn_length(rest: &[u8]) -> Result<usize, Problem> {
    let torn = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if torn > LARGEST_COMMIT { Err(Problem::Hole) } else { Ok(torn) }
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
