//! What happens when a log is opened: the last segment is read, checked and repaired.

use std::io;

use kms_core::OpenIntent;

use crate::{
    intents::OpenIntents,
    journal::{Active, Failure, Journal},
    line::{Line, hash},
    note::NoteError,
    parts::Tail,
    scan::{Before, End, Fault, Problem, ScanError, Scanned, scan},
    segment::file_name,
    storage::{Contents, LogFile, Storage},
};

/// What was found when the log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Changes whose outcome is not in the log.
    pub open_intents: Vec<OpenIntent>,
    /// What a crash had left behind the last whole line, now cut off.
    pub repaired: Option<Repaired>,
}

/// The trace of a commit that a crash interrupted: never of an acknowledged record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The file's name.
    pub segment: String,
    /// Where the cut was made.
    pub offset: u64,
    /// How many bytes were cut off, zeros at the end not counted.
    pub bytes: u64,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, writes this log.
    #[error("the audit log in this directory is in use")]
    InUse,
    /// The file system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The log is not what a crash can leave: it was tampered with or damaged.
    #[error("the audit log is damaged: {0}")]
    Damaged(#[from] Fault),
    /// The log's checkpoint or the list of its keys was altered.
    #[error("the audit log's {file} cannot be trusted: {source}")]
    Note {
        /// The file's name.
        file: &'static str,
        /// What is wrong with it.
        source: NoteError,
    },
    /// The token has another key than the one that signed before.
    #[error(
        "the audit log's checkpoints were signed by {signed}, which is not the key of this token: give the service \
         its token back; after a move to another token, `dewpoint restore` goes on with the new key"
    )]
    OtherKey {
        /// The key that signed.
        signed: String,
    },
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(what, source) => Self::Io { what, source },
            Failure::Lost(detail) => Self::Io { what: "open the segment", source: io::Error::other(detail) },
        }
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { what, source }
}

/// What was kept of a log beside its segments, when it is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept {
    /// How many lines the newest checkpoint covers: they must all be there.
    pub(crate) covered: u64,
    /// How many lines have their hashes in tiles on stable storage: of those, segments may be gone.
    pub(crate) hashed: u64,
}

/// Opens the log in `storage`, or begins one where no segment is.
pub(crate) fn open<S: Storage>(
    storage: S,
    segment_bytes: u64,
    kept: Kept,
) -> Result<(Journal<S>, Opened), OpenError> {
    let segments = storage.segments().map_err(failed("list the segments"))?;
    match *segments.as_slice() {
        [] if kept.covered > 0 => Err(cut_off(0, 0, 0, kept.covered)),
        [] => begin(storage, segment_bytes),
        [only] => resume(storage, segment_bytes, only, Before::first(only, kept.hashed), kept.covered),
        [.., before, last] => {
            let before = Before::Segment(end_of(&storage, before)?);
            resume(storage, segment_bytes, last, before, kept.covered)
        }
    }
}

/// Lines that a checkpoint covers are not there.
fn cut_off(segment: u64, offset: u64, sequence: u64, size: u64) -> OpenError {
    Fault { segment, offset, sequence, problem: Problem::CutOff { size } }.into()
}

fn begin<S: Storage>(storage: S, segment_bytes: u64) -> Result<(Journal<S>, Opened), OpenError> {
    let none = OpenIntents::default();
    let active = Active::prepare(&storage, 0, None, &none)?;
    storage.publish(0).map_err(failed("publish a segment"))?;
    let opened = Opened { open_intents: Vec::new(), repaired: None };
    Ok((Journal::new(storage, segment_bytes, active, 1, none), opened))
}

fn resume<S: Storage>(
    storage: S,
    segment_bytes: u64,
    first: u64,
    before: Before,
    covered: u64,
) -> Result<(Journal<S>, Opened), OpenError> {
    let file = storage.open(first).map_err(failed("open the last segment"))?;
    let status = file.status().map_err(failed("look at the last segment"))?;
    let content = Contents::new(&file, status.length);
    let scanned = scan(content, first, before, |_, _| (), |_, ()| Ok(()));
    let Scanned { end, last_line, length, tail: Tail { torn, .. }, open_intents, .. } =
        scanned.map_err(|error| match error {
            ScanError::Fault(fault) => fault.into(),
            ScanError::Io(error) => failed("read the last segment")(error),
        })?;
    let durable = length as u64;
    // Before anything is cut: what lies below a checkpoint was acknowledged.
    if end.next < covered {
        return Err(cut_off(first, durable, end.next, covered));
    }
    let mut allocated = status.length;
    if torn > 0 {
        file.cut(durable).map_err(failed("cut the last segment"))?;
        allocated = durable;
    }
    // Lines that were written but not synced before a crash are accepted here, so they are made
    // durable here; so is the segment's name.
    file.sync().map_err(failed("sync the last segment"))?;
    storage.sync_names().map_err(failed("sync the log's directory"))?;
    let repaired =
        (torn > 0).then(|| Repaired { segment: file_name(first), offset: durable, bytes: torn as u64 });
    let opened = Opened { open_intents: open_intents.to_vec(), repaired };
    let active = Active { first, file, identity: status.identity, durable, allocated, last_line };
    Ok((Journal::new(storage, segment_bytes, active, end.next, open_intents), opened))
}

/// The end of a closed segment, from its last line alone.
fn end_of<S: Storage>(storage: &S, first: u64) -> Result<End, OpenError> {
    let read = failed("read the segment before the last");
    let (offset, tail) = last_line(storage, first).map_err(read)?;
    let fault = |problem| Fault { segment: first, offset, sequence: first, problem };
    let Some(line) = tail.strip_suffix(b"\n") else { return Err(fault(Problem::Unfinished).into()) };
    let parsed = Line::parse(line).map_err(|error| fault(error.into()))?;
    Ok(End { next: parsed.sequence() + 1, hash: hash(line) })
}

/// What follows the last newline but one, and where it begins.
fn last_line<S: Storage>(storage: &S, first: u64) -> io::Result<(u64, Vec<u8>)> {
    let file = storage.open(first)?;
    let length = file.status()?.length;
    let mut window = 4096.min(length);
    loop {
        let start = length - window;
        let bytes = file.read_at(start, usize::try_from(window).unwrap_or(usize::MAX))?;
        let body = bytes.len().saturating_sub(1);
        match bytes[..body].iter().rposition(|byte| *byte == b'\n') {
            Some(at) => return Ok((start + at as u64 + 1, bytes[at + 1..].to_vec())),
            None if start == 0 => return Ok((0, bytes)),
            None => window = (window * 2).min(length),
        }
    }
}
