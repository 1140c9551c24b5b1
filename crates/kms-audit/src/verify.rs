//! Checks a whole log from its files alone.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use kms_core::{OpenIntent, Verdict, operation::OperationName};
use rustix::fs::Advice;

use crate::{
    cosignature::CosignerKey,
    glance::Glance,
    intents::OpenIntents,
    memory::{hashed_lines, open_by_any, parse_keys, past_checkpoints, read_if_there},
    merkle::{self, leaf_hash},
    notary::{CHECKPOINT, KEYS},
    note::{Checkpoint, NoteError, SignedCheckpoint, VerifierKey},
    retrace::{Position, Retrace},
    scan::{Before, End, Fault, Problem, ScanError, Scanned, scan},
    segment::file_name,
    storage::list,
    tiles::{Tiles, Tree},
};

/// What a log is held against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The log's key, from a place that whoever can write the log cannot reach. Without one, the key that lies beside
    /// the log is believed.
    pub key: Option<VerifierKey>,
    /// Checkpoints from such a place, as the notes that they are. The one that lies beside the log is always held
    /// against it.
    pub checkpoints: Vec<String>,
    /// Who must have cosigned the checkpoint that lies beside the log. While the log is in use, its newest checkpoint
    /// is without a cosignature for a moment.
    pub witnesses: Vec<CosignerKey>,
    /// Whether segments at the beginning may be missing although no record that a checkpoint covers says that they
    /// were archived. That they hashed to what the checkpoints say is proved all the same.
    pub archived: bool,
}

/// What a sound log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segment files.
    pub segments: u64,
    /// Lines: records and headers. Those of archived segments are counted.
    pub lines: u64,
    /// Records that are there.
    pub records: u64,
    /// Lines at the beginning that are not there, because their segments were archived; their hashes are.
    pub archived: u64,
    /// Lines that the largest checkpoint covers.
    pub covered: u64,
    /// Checkpoints that the log was held against.
    pub checkpoints: u64,
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
    /// A checkpoint or a key does not hold.
    #[error("{file}: {source}")]
    Note {
        /// Which one.
        file: String,
        /// What is wrong with it.
        source: NoteError,
    },
    /// There is a key, but no checkpoint under it: nothing shows that the lines are those that were written.
    #[error(
        "no {CHECKPOINT} lies beside the log, and none was given: a log has one a second after its first record, so unless \
         this one is younger, it was removed"
    )]
    NoCheckpoint,
    /// A file cannot be read.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
}

/// Checks the log in `directory` against the key and the checkpoint that lie beside it, if there are any.
pub fn verify(directory: &Path) -> Result<Summary, VerifyError> {
    verify_against(directory, &Expected::default(), |_| ())
}

/// Checks that the log in `directory` begins with line 0, or later if a record that a checkpoint covers says that the
/// lines before were archived and the tiles have their hashes, that no line is missing, doubled or malformed, that all are canonical, that each header continues the segment before, and that the
/// lines are those of every checkpoint. Reports how many bytes it has read.
///
/// What lies behind the largest checkpoint may have been altered or cut off by whoever can write the log.
pub fn verify_against(
    directory: &Path,
    expected: &Expected,
    mut read: impl FnMut(u64),
) -> Result<Summary, VerifyError> {
    // The checkpoint first: a log that is in use grows.
    let checkpoints = checkpoints(directory, expected)?;
    let covered = checkpoints.iter().map(|checkpoint| checkpoint.size).max().unwrap_or(0);
    let mut verifier = Verifier::begin(directory, &checkpoints, covered)?;
    let segments = verifier.segments.clone();
    for (index, first) in (1..).zip(&segments) {
        let file = File::open(directory.join(file_name(*first)))?;
        // Whether the system reads ahead, and why not, is of no consequence.
        rustix::fs::fadvise(&file, 0, None, Advice::Sequential).ok();
        read(verifier.segment(*first, file, index == segments.len())?);
    }
    let mut summary = verifier.end(expected.archived)?;
    summary.checkpoints = checkpoints.len() as u64;
    Ok(summary)
}

/// How many bytes [`verify_against`] is going to read.
pub fn bytes_to_read(directory: &Path) -> io::Result<u64> {
    let lengths = list(directory)?.into_iter().map(|first| fs::metadata(directory.join(file_name(first))));
    lengths.map(|metadata| metadata.map(|metadata| metadata.len())).sum()
}

/// All checkpoints, each opened with the key.
fn checkpoints(directory: &Path, expected: &Expected) -> Result<Vec<Checkpoint>, VerifyError> {
    let wrong = |file: &str| {
        let file = file.to_owned();
        move |source| VerifyError::Note { file, source }
    };
    let keys = match &expected.key {
        Some(key) => vec![key.clone()],
        None => {
            parse_keys(&read_if_there(&directory.join(KEYS))?.unwrap_or_default()).map_err(wrong(KEYS))?
        }
    };
    let newest = read_if_there(&directory.join(CHECKPOINT))?;
    for witness in &expected.witnesses {
        witness.check(newest.as_deref().unwrap_or_default()).map_err(wrong(CHECKPOINT))?;
    }
    let mut found = Vec::new();
    let open = |note: &str| open_by_any(note, &keys).map(|SignedCheckpoint { checkpoint, .. }| checkpoint);
    let has_been_signed = expected.key.is_some() || !past_checkpoints(directory)?.is_empty();
    if newest.is_none() && expected.checkpoints.is_empty() && has_been_signed && !list(directory)?.is_empty()
    {
        return Err(VerifyError::NoCheckpoint);
    }
    if let Some(note) = newest {
        found.push(open(&note).map_err(wrong(CHECKPOINT))?);
    }
    for (number, note) in (1..).zip(&expected.checkpoints) {
        found.push(open(note).map_err(wrong(&format!("the checkpoint number {number} that was given")))?);
    }
    Ok(found)
}

impl From<ScanError> for VerifyError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Fault(fault) => fault.into(),
            ScanError::Io(error) => error.into(),
        }
    }
}

struct Verifier {
    segments: Vec<u64>,
    retrace: Retrace,
    /// How many lines are archived, by the records that a checkpoint covers.
    archived: u64,
    /// The segment before, and its name.
    before: Option<(u64, Scanned)>,
    summary: Summary,
}

impl Verifier {
    fn begin(directory: &Path, checkpoints: &[Checkpoint], covered: u64) -> Result<Self, VerifyError> {
        let segments = list(directory)?;
        let first = segments.first().copied().unwrap_or(0);
        let begin = Position { segment: first, offset: 0, sequence: first };
        let tiles = Tiles::new(directory);
        let missing = |error: io::Error| begin.fault(Problem::BeginningMissing(error.to_string()));
        let tree = Tree::read(&tiles, first).map_err(missing)?;
        for old in checkpoints.iter().filter(|old| old.size <= first) {
            if merkle::root(&tiles, old.size).map_err(missing)? != old.root {
                return Err(begin.fault(Problem::RootDiffers { size: old.size }).into());
            }
        }
        // Later tiles may be gone after a power cut, and are made anew at the next start.
        let hashed = Some(hashed_lines(directory)?).filter(|hashed| *hashed <= covered).unwrap_or(0);
        let retrace = Retrace::new(tiles, tree, checkpoints.to_vec(), 0).requiring(hashed);
        let summary = Summary { archived: first, lines: first, covered, ..Summary::default() };
        Ok(Self { segments, retrace, archived: 0, before: None, summary })
    }

    /// Checks a segment; how many bytes it has.
    fn segment(&mut self, first: u64, file: File, last: bool) -> Result<u64, VerifyError> {
        let before = match &self.before {
            Some((_, scanned)) => Before::Segment(scanned.end),
            None => Before::first(first, self.summary.archived),
        };
        if let Some((segment, before)) = self.before.as_ref().filter(|(_, before)| before.end.next < first) {
            let end = Position { segment: *segment, offset: before.length as u64, sequence: before.end.next };
            return Err(end.fault(Problem::Missing { next: first }).into());
        }
        let (archived, covered) = (&mut self.archived, self.summary.covered);
        let digest = |line: &[u8], record: Option<&Glance>| (leaf_hash(line), record.map_or(0, archived_by));
        let scanned = scan(file, first, before, digest, |position, (leaf, archived_lines)| {
            if position.sequence < covered {
                *archived = (*archived).max(archived_lines);
            }
            self.retrace.leaf(position, leaf)
        })?;
        self.retrace.forget_tiles();
        check_open_intents(&scanned, first, self.before.as_ref().map(|(_, scanned)| scanned))?;
        check_end(&scanned, first, last)?;
        self.summary.segments += 1;
        self.summary.lines = scanned.end.next;
        self.summary.torn_bytes = scanned.tail.torn as u64;
        let length = scanned.tail.length as u64;
        self.before = Some((first, scanned));
        Ok(length)
    }

    /// `trusting`: whatever is missing at the beginning is taken for archived.
    fn end(self, trusting: bool) -> Result<Summary, VerifyError> {
        let Self { mut retrace, archived, before, mut summary, .. } = self;
        let (segment, offset) =
            before.as_ref().map_or((0, 0), |(segment, scanned)| (*segment, scanned.length as u64));
        if let Some((size, altered)) = retrace.beyond() {
            let end = Position { segment, offset, sequence: summary.lines };
            let fault = altered.map_or_else(
                || end.fault(Problem::CutOff { size }),
                |line| line.fault(Problem::Altered { size }),
            );
            return Err(fault.into());
        }
        if let Some(position) = retrace.differs().or(retrace.damaged()) {
            return Err(position.fault(Problem::TileDiffers).into());
        }
        if summary.archived > archived && !trusting {
            let first = summary.archived;
            let begin = Position { segment: first, offset: 0, sequence: first };
            return Err(begin.fault(Problem::NotArchived).into());
        }
        summary.records = summary.lines - summary.archived - summary.segments;
        summary.open_intents = before.map(|(_, scanned)| scanned.open_intents.to_vec()).unwrap_or_default();
        Ok(summary)
    }
}

/// How many lines were archived by what a record says.
fn archived_by(record: &Glance) -> u64 {
    let tells = record.operation == OperationName::ArchiveSegment && record.verdict == Verdict::Succeeded;
    record.archived_lines.filter(|_| tells).unwrap_or(0)
}

/// A closed segment ends with its last whole line.
fn check_end(scanned: &Scanned, first: u64, last: bool) -> Result<(), Fault> {
    if last || scanned.length == scanned.tail.length {
        return Ok(());
    }
    let End { next: sequence, .. } = scanned.end;
    Err(Fault { segment: first, offset: scanned.length as u64, sequence, problem: Problem::Unfinished })
}

/// A header lists the intents that the records before it leave open; of archived ones it alone knows.
fn check_open_intents(scanned: &Scanned, first: u64, before: Option<&Scanned>) -> Result<(), Fault> {
    if first > 0 && before.is_none() {
        return Ok(());
    }
    let expected = before.map_or_else(OpenIntents::default, |before| before.open_intents.clone());
    if scanned.header.open_intents == expected.to_header() {
        return Ok(());
    }
    Err(Fault { segment: first, offset: 0, sequence: first, problem: Problem::OpenIntentsDiffer })
}
