//! What a log keeps beside its segments: its keys, its newest checkpoint, and how far its tiles are durable.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    merkle::{self, Hash, leaf_hash},
    notary::{CHECKPOINT, CHECKPOINTS, HASHED, KEYS, Notarization, replace},
    note::{NoteError, SignedCheckpoint, VerifierKey},
    parts::Parts,
    recovery::{Kept, OpenError},
    retrace::{Position, Retrace},
    scan::{Problem, WholeLines},
    segment::file_name,
    storage::list,
    tiles::{FreshTile, Tiles, Tree},
};

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { what, source }
}

fn mistrust(file: &'static str) -> impl FnOnce(NoteError) -> OpenError {
    move |source| OpenError::Note { file, source }
}

/// What the lines of a log make.
#[derive(Debug, Default)]
pub(crate) struct Retraced {
    /// The tree of all lines.
    pub(crate) tree: Tree,
    /// The tree of the lines before the last segment.
    pub(crate) begun: Tree,
    /// Full tiles that may not be on stable storage as they must be.
    pub(crate) fresh: Vec<FreshTile>,
}

/// What was found in a log's directory.
#[derive(Debug)]
pub(crate) struct Memory {
    directory: PathBuf,
    /// Oldest first.
    keys: Vec<VerifierKey>,
    checkpoint: Option<SignedCheckpoint>,
    hashed: u64,
    /// Whether the file of the newest checkpoint is gone, and one of the past stands for it.
    is_put_back: bool,
}

/// A line of the checkpoints of the past.
#[derive(Deserialize)]
struct Past {
    checkpoint: String,
}

/// The checkpoints of the past that were kept beside the log in `directory`, oldest first, as notes.
pub(crate) fn past_checkpoints(directory: &Path) -> io::Result<Vec<String>> {
    let text = read_if_there(&directory.join(CHECKPOINTS))?.unwrap_or_default();
    // A crash may have cut the last line short.
    let past = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(past.map(|Past { checkpoint }| checkpoint).collect())
}

/// How many lines have their hashes in tiles on stable storage.
pub(crate) fn hashed_lines(directory: &Path) -> io::Result<u64> {
    let hashed = read_if_there(&directory.join(HASHED))?;
    Ok(hashed.and_then(|number| number.trim().parse().ok()).unwrap_or(0))
}

impl Memory {
    /// Reads it; a checkpoint that none of the log's keys signed is an error. If the newest one is gone, the newest of
    /// those of the past stands for it: no start goes below that.
    pub(crate) fn read(directory: &Path) -> Result<Self, OpenError> {
        let text = |name| read_if_there(&directory.join(name));
        let keys = text(KEYS).map_err(failed("read the keys of the log"))?.unwrap_or_default();
        let keys = parse_keys(&keys).map_err(mistrust(KEYS))?;
        let newest = text(CHECKPOINT).map_err(failed("read the newest checkpoint"))?;
        let is_gone = newest.is_none();
        let note = if let Some(newest) = newest {
            Some((newest, CHECKPOINT))
        } else {
            let past = past_checkpoints(directory).map_err(failed("read the checkpoints of the past"))?;
            past.into_iter().next_back().map(|note| (note, CHECKPOINTS))
        };
        let open = |(note, file): (String, _)| open_by_any(&note, &keys).map_err(mistrust(file));
        let checkpoint = note.map(open).transpose()?;
        let hashed = hashed_lines(directory).map_err(failed("read how far the tiles are durable"))?;
        let is_put_back = is_gone && checkpoint.is_some();
        Ok(Self { directory: directory.to_owned(), keys, checkpoint, hashed, is_put_back })
    }

    /// What bounds the repair of the last segment.
    pub(crate) fn kept(&self) -> Kept {
        let covered = self.checkpoint.as_ref().map_or(0, |signed| signed.checkpoint.size);
        Kept { covered, hashed: self.hashed }
    }

    /// Puts the newest checkpoint that is known into the place of one that is gone, once the log was held against it.
    pub(crate) fn put_back(&self) -> Result<(), OpenError> {
        let Some(checkpoint) = self.checkpoint.as_ref().filter(|_| self.is_put_back) else { return Ok(()) };
        tracing::warn!(
            lines = checkpoint.checkpoint.size,
            "the newest checkpoint of the audit log is gone; one of the past is put in its place"
        );
        replace(&self.directory, CHECKPOINT, checkpoint.note.as_bytes())
            .map_err(failed("write the newest checkpoint"))
    }

    /// The name of the log; empty before it has a key.
    pub(crate) fn name(&self) -> &str {
        self.keys.last().map_or("", VerifierKey::name)
    }

    /// The checkpoint that a note of the past is.
    pub(crate) fn open_note(&self, note: &str) -> Result<SignedCheckpoint, OpenError> {
        open_by_any(note, &self.keys).map_err(mistrust(CHECKPOINTS))
    }

    /// How many lines a checkpoint under `key` covers.
    pub(crate) fn signed_by(&self, key: &VerifierKey) -> u64 {
        let own = |signed: &&SignedCheckpoint| SignedCheckpoint::open(&signed.note, key).is_ok();
        self.checkpoint.as_ref().filter(own).map_or(0, |signed| signed.checkpoint.size)
    }

    /// The key that signs from now on; a new one is written down.
    pub(crate) fn with_key(mut self, wanted: &Notarization) -> Result<(Self, VerifierKey), OpenError> {
        let newest = self.keys.last();
        let name = newest.map_or(&wanted.origin[..], VerifierKey::name);
        let key = VerifierKey::new(name, &wanted.public_key).map_err(mistrust(KEYS))?;
        match newest {
            Some(newest) if *newest == key => return Ok((self, key)),
            Some(newest) if !wanted.new_key => {
                return Err(OpenError::OtherKey { signed: newest.to_string() });
            }
            _ => {}
        }
        self.keys.push(key.clone());
        let lines = self.keys.iter().map(VerifierKey::to_string).chain([String::new()]).collect::<Vec<_>>();
        replace(&self.directory, KEYS, lines.join("\n").as_bytes())
            .map_err(failed("write the keys of the log"))?;
        Ok((self, key))
    }

    /// The tree of all `size` lines, held against the newest checkpoint.
    ///
    /// Reads the lines whose tiles may not be durable. If those before are not as the checkpoint says, all are read.
    pub(crate) fn retrace(&self, size: u64) -> Result<Retraced, OpenError> {
        let tiles = Tiles::new(&self.directory);
        let segments = list(&self.directory).map_err(failed("list the segments"))?;
        let Some(oldest) = segments.first().copied() else { return Ok(Retraced::default()) };
        let hashed = segments.partition_point(|first| *first <= self.hashed).saturating_sub(1);
        let recent = Tree::load(&tiles, segments[hashed]).map_err(|error| missing(oldest, &error));
        let retraced = recent.and_then(|tree| self.retrace_from(&tiles, tree, &segments[hashed..], size));
        match retraced {
            Err(error @ (OpenError::Damaged(_) | OpenError::Io { .. })) if oldest == 0 && hashed > 0 => {
                tracing::warn!(%error, "the tree of the audit log is computed anew from all its lines");
                self.retrace_from(&tiles, Tree::default(), &segments, size)
            }
            retraced => retraced,
        }
    }

    /// The tree of a log that has grown from `held` lines by `segments` to what `checkpoint` says, held against it.
    pub(crate) fn grown_by(
        self,
        segments: &[u64],
        held: u64,
        checkpoint: SignedCheckpoint,
    ) -> Result<Retraced, OpenError> {
        let (tiles, size) = (Tiles::new(&self.directory), checkpoint.checkpoint.size);
        let tree = Tree::load(&tiles, held).map_err(|error| missing(held, &error))?;
        let grown = Self { checkpoint: Some(checkpoint), ..self };
        grown.retrace_from(&tiles, tree, segments, size)
    }

    fn retrace_from(
        &self,
        tiles: &Tiles,
        tree: Tree,
        segments: &[u64],
        size: u64,
    ) -> Result<Retraced, OpenError> {
        let checkpoint = self.checkpoint.as_ref().map(|signed| signed.checkpoint.clone());
        let begin = Position { segment: tree.size(), offset: 0, sequence: tree.size() };
        if let Some(old) = checkpoint.as_ref().filter(|old| old.size <= tree.size()) {
            let root = merkle::root(tiles, old.size).map_err(|error| missing(tree.size(), &error))?;
            if root != old.root {
                return Err(begin.fault(Problem::RootDiffers { size: old.size }).into());
            }
        }
        let checkpoints = checkpoint.into_iter().collect();
        let retrace = Retrace::new(tiles.clone(), tree.clone(), checkpoints, self.hashed);
        let walked = self.walk(retrace, segments, size)?;
        if let Walked { tree, begun, fresh: Some(fresh) } = walked {
            return Ok(Retraced { tree, begun, fresh });
        }
        // The lines are those of the checkpoint, but more of their tiles are not durable than memory shall hold: from
        // the same lines once more, they are made so as they fill.
        let retrace = Retrace::new(tiles.clone(), tree, Vec::new(), self.hashed);
        match self.walk(retrace, segments, size)? {
            Walked { tree, begun, fresh: Some(fresh) } if tree == walked.tree => {
                Ok(Retraced { tree, begun, fresh })
            }
            _ => Err(begin.fault(Problem::RootDiffers { size }).into()),
        }
    }

    /// Follows all lines of `segments`, at whose end the log must have `size` of them.
    fn walk(&self, mut retrace: Retrace, segments: &[u64], size: u64) -> Result<Walked, OpenError> {
        let first = retrace.size();
        let mut begun = Tree::default();
        for segment in segments.iter().copied() {
            begun.clone_from(retrace.tree());
            let file = File::open(self.directory.join(file_name(segment)));
            let mut parts = Parts::new(file.map_err(failed("read a segment"))?);
            let mut part = Vec::new();
            loop {
                let start = parts.offset();
                if !parts.next(&mut part).map_err(failed("read a segment"))? {
                    break;
                }
                for (offset, line) in WholeLines::new(&part) {
                    let offset = (start + offset) as u64;
                    retrace.line(Position { segment, offset, sequence: retrace.size() }, line)?;
                    retrace.make_room().map_err(failed("write a tile"))?;
                }
            }
        }
        if retrace.size() != size {
            let last = Position { segment: first, offset: 0, sequence: retrace.size() };
            return Err(last.fault(Problem::Sequence(size)).into());
        }
        let (tree, fresh) = retrace.into_tree();
        Ok(Walked { tree, begun, fresh })
    }
}

/// What a walk over the lines came to: as [`Retraced`], but without tiles if there were too many.
struct Walked {
    tree: Tree,
    begun: Tree,
    fresh: Option<Vec<FreshTile>>,
}

/// The root of the tree of the first `size` lines of the log in `directory`, computed in up to two ways: from the lines of
/// the last segment and the tiles of those before, and from the tiles that are known to be durable and the lines behind.
/// After a power cut the first may be another one. Nothing if the log does not have so many lines.
pub(crate) fn roots(directory: &Path, size: u64) -> impl Iterator<Item = Hash> {
    let segments = list(directory).unwrap_or_default();
    let hashed = Memory::read(directory).map_or(0, |memory| memory.hashed);
    let last_before = |lines: u64| segments.partition_point(|first| *first <= lines).checked_sub(1);
    // The tiles of the last segments may not be durable.
    let (last, durable) = (last_before(size), last_before(size.min(hashed)));
    let begins: Vec<usize> =
        last.into_iter().chain(durable.filter(|durable| Some(*durable) != last)).collect();
    let (directory, tiles) = (directory.to_owned(), Tiles::new(directory));
    begins.into_iter().filter_map(move |begin| {
        let mut tree = Tree::load(&tiles, segments[begin]).ok()?;
        for segment in &segments[begin..] {
            let bytes = fs::read(directory.join(file_name(*segment))).ok()?;
            let lines =
                WholeLines::new(&bytes).take(usize::try_from(size - tree.size()).unwrap_or(usize::MAX));
            lines.for_each(|(_, line)| tree.push(leaf_hash(line), |_, _| ()));
            if tree.size() == size {
                return Some(tree.root());
            }
        }
        None
    })
}

/// Whether the log in `directory` was ever signed.
pub fn is_signed(directory: &Path) -> bool {
    directory.join(KEYS).exists()
}

/// The hashes of lines that are not there are not there either.
fn missing(sequence: u64, error: &io::Error) -> OpenError {
    let position = Position { segment: sequence, offset: 0, sequence };
    position.fault(Problem::BeginningMissing(error.to_string())).into()
}

pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}

/// One verifier key a line.
pub(crate) fn parse_keys(text: &str) -> Result<Vec<VerifierKey>, NoteError> {
    text.lines().map(VerifierKey::parse).collect()
}

/// The checkpoint that a note is under one of the keys, of which the newest is tried first.
pub(crate) fn open_by_any(note: &str, keys: &[VerifierKey]) -> Result<SignedCheckpoint, NoteError> {
    let mut refusal = NoteError::Key("the log names none");
    for key in keys.iter().rev() {
        match SignedCheckpoint::open(note, key) {
            Ok(signed) => return Ok(signed),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}
