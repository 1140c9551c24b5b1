//! Walks the bytes of one segment: which lines are whole, whether they fit together, where they end.

use crate::{
    intents::OpenIntents,
    line::{self, Line, ParseError, RecordLine},
    retrace::Position,
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
/// Accepts what a crash can leave at its end. `visit` is shown every line that fits and where it lies; and what it
/// says, unless it is the header.
pub(crate) fn scan(
    bytes: &[u8],
    first: u64,
    before: Before,
    mut visit: impl FnMut(Position, &[u8], Option<&RecordLine<'_>>) -> Result<(), Fault>,
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
    visit(Position { segment: first, offset: 0, sequence: first }, header.1, None)?;
    let (mut next, mut last_line) = (first + 1, header.1);
    for (offset, line) in &mut lines {
        let record = follow(line, next, &mut open_intents).map_err(|problem| fault(offset, next, problem))?;
        visit(Position { segment: first, offset: offset as u64, sequence: next }, line, Some(&record))?;
        (next, last_line) = (next + 1, line);
    }
    let length = lines.offset;
    let torn = torn_length(&bytes[length..]).map_err(|problem| fault(length, next, problem))?;
    let end = End { next, hash: line::hash(last_line) };
    Ok(Scanned { end, last_line: last_line.to_vec(), length, torn, open_intents })
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

fn follow(
    bytes: &[u8],
    expected: u64,
    open_intents: &mut OpenIntents,
) -> Result<Box<RecordLine<'static>>, Problem> {
    match Line::parse(bytes)? {
        line if line.sequence() != expected => Err(Problem::Sequence(line.sequence())),
        Line::Header(_) => Err(Problem::HeaderMisplaced),
        Line::Record(record) => {
            open_intents.note_line(&record);
            Ok(record)
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
