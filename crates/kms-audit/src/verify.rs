//! Checks a whole log from its files alone.

use std::{io, path::Path};

use kms_core::OpenIntent;

use crate::{
    intents::OpenIntents,
    line::{Line, SegmentHeader},
    scan::{End, Fault, Problem, Scanned, WholeLines, scan},
    segment::file_name,
    storage::list,
};

/// What a sound log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segment files.
    pub segments: u64,
    /// Lines: records and headers.
    pub lines: u64,
    /// Records.
    pub records: u64,
    /// Bytes behind the last whole line that are not zeros: a commit in the making, or one that a
    /// crash interrupted.
    pub torn_bytes: u64,
    /// Changes without an outcome.
    pub open_intents: Vec<OpenIntent>,
}

/// Why a log is not sound, or could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The first bad line.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A file cannot be read.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
}

/// Checks that the log in `directory` begins with line 0, that no line is missing, doubled or
/// malformed, that all are canonical, and that each header continues the segment before.
///
/// The end of the log may lie anywhere: that no lines were cut off there, and that no line was
/// replaced by another valid one, only a signed checkpoint can show.
pub fn verify(directory: &Path) -> Result<Summary, VerifyError> {
    let mut summary = Summary::default();
    let mut before: Option<Scanned> = None;
    let segments = list(directory)?;
    for (index, first) in segments.iter().copied().enumerate() {
        let bytes = std::fs::read(directory.join(file_name(first)))?;
        let scanned = scan(&bytes, first, before.as_ref().map(|scanned| scanned.end))?;
        check_open_intents(&bytes, first, before.as_ref())?;
        let last = index + 1 == segments.len();
        check_end(&bytes, first, &scanned, last)?;
        summary.segments += 1;
        summary.lines = scanned.end.next;
        summary.torn_bytes = scanned.torn as u64;
        before = Some(scanned);
    }
    summary.records = summary.lines - summary.segments;
    summary.open_intents = before.map(|scanned| scanned.open_intents.to_vec()).unwrap_or_default();
    Ok(summary)
}

/// A closed segment ends with its last whole line.
fn check_end(bytes: &[u8], first: u64, scanned: &Scanned, last: bool) -> Result<(), Fault> {
    if last || scanned.length == bytes.len() {
        return Ok(());
    }
    let End { next: sequence, .. } = scanned.end;
    Err(Fault { segment: first, offset: scanned.length as u64, sequence, problem: Problem::Unfinished })
}

/// A header lists the intents that the records before it leave open.
fn check_open_intents(bytes: &[u8], first: u64, before: Option<&Scanned>) -> Result<(), Fault> {
    let expected = before.map_or_else(OpenIntents::default, |scanned| scanned.open_intents.clone());
    match header(bytes) {
        Some(header) if header.open_intents == expected.to_header() => Ok(()),
        _ => Err(Fault { segment: first, offset: 0, sequence: first, problem: Problem::OpenIntentsDiffer }),
    }
}

fn header(bytes: &[u8]) -> Option<SegmentHeader> {
    match WholeLines::new(bytes).next().map(|(_, line)| Line::parse(line)) {
        Some(Ok(Line::Header(header))) => Some(header),
        _ => None,
    }
}
