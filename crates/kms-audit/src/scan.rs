//! Walks the bytes of one segment: which lines are whole, whether they fit together, where they end.

use crate::{
    intents::OpenIntents,
    line::{self, Line, ParseError},
    segment::{self, LARGEST_COMMIT},
};

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
}

/// The end of a segment, as the next one must continue it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// The place of the line that follows.
    pub(crate) next: u64,
    /// SHA-256 of the last line.
    pub(crate) hash: [u8; 32],
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

/// Walks the segment `first`, which continues `previous`.
///
/// Accepts what a crash can leave at its end. `previous` is absent only for the first segment.
pub(crate) fn scan(bytes: &[u8], first: u64, previous: Option<End>) -> Result<Scanned, Fault> {
    let fault = |offset: usize, sequence: u64, problem: Problem| Fault {
        segment: first,
        offset: offset as u64,
        sequence,
        problem,
    };
    let mut lines = WholeLines::new(bytes);
    let header = lines.next().ok_or_else(|| fault(0, first, Problem::HeaderMissing))?;
    let mut open_intents =
        check_header(header.1, first, previous).map_err(|problem| fault(0, first, problem))?;
    let (mut next, mut last_line) = (first + 1, header.1);
    for (offset, line) in &mut lines {
        follow(line, next, &mut open_intents).map_err(|problem| fault(offset, next, problem))?;
        (next, last_line) = (next + 1, line);
    }
    let length = lines.offset;
    let torn = torn_length(&bytes[length..]).map_err(|problem| fault(length, next, problem))?;
    let end = End { next, hash: line::hash(last_line) };
    Ok(Scanned { end, last_line: last_line.to_vec(), length, torn, open_intents })
}

fn check_header(bytes: &[u8], first: u64, previous: Option<End>) -> Result<OpenIntents, Problem> {
    let Line::Header(header) = Line::parse(bytes)? else { return Err(Problem::HeaderMissing) };
    if header.seq != first {
        return Err(Problem::Sequence(header.seq));
    }
    match previous {
        None if first > 0 => return Err(Problem::PreviousMissing),
        Some(end) if end.next != first => return Err(Problem::PreviousMissing),
        previous if header.previous != previous.map(|end| end.hash) => return Err(Problem::PreviousDiffers),
        _ => {}
    }
    Ok(OpenIntents::from_header(&header.open_intents))
}

fn follow(bytes: &[u8], expected: u64, open_intents: &mut OpenIntents) -> Result<(), Problem> {
    match Line::parse(bytes)? {
        line if line.sequence() != expected => Err(Problem::Sequence(line.sequence())),
        Line::Header(_) => Err(Problem::HeaderMisplaced),
        Line::Record(record) => {
            open_intents.note_line(&record);
            Ok(())
        }
    }
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
        let length = rest.iter().position(|byte| matches!(byte, b'\n' | 0))?;
        if rest[length] == 0 {
            return None;
        }
        let offset = self.offset;
        self.offset += length + 1;
        Some((offset, &rest[..length]))
    }
}
