//! Proofs from the tiles of a log, each checked before it is given out.

use std::{io, path::Path};

use crate::{
    memory::{open_by_any, parse_keys, read_if_there},
    merkle::{self, Hash, Hashes as _},
    notary::{CHECKPOINT, KEYS},
    note::{NoteError, SignedCheckpoint, VerifierKey},
    tiles::Tiles,
};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Nothing was signed yet.
    #[error("no checkpoint was made yet")]
    NoCheckpoint,
    /// The place is not in a tree that a checkpoint covers.
    #[error("the newest checkpoint covers {0} lines only")]
    NotCovered(u64),
    /// The place is not in the tree that was asked for.
    #[error("such a tree has no such line or no such beginning")]
    OutOfRange,
    /// What lies beside the log does not hold.
    #[error("the log's checkpoint or tiles were altered: {0}")]
    Altered(String),
    /// A tile cannot be read.
    #[error("cannot read the log's tree: {0}")]
    Io(#[from] io::Error),
}

impl From<NoteError> for ProofError {
    fn from(error: NoteError) -> Self {
        Self::Altered(error.to_string())
    }
}

/// That a line is in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The hash of the line.
    pub leaf: Hash,
    /// The hashes beside it, from the leaf to the root.
    pub path: Vec<Hash>,
    /// The tree's size.
    pub size: u64,
}

/// The newest checkpoint of the log in `directory`, and the key that signed it.
pub fn newest_checkpoint(directory: &Path) -> Result<(SignedCheckpoint, VerifierKey), ProofError> {
    let keys = parse_keys(&read_if_there(&directory.join(KEYS))?.unwrap_or_default())?;
    let note = read_if_there(&directory.join(CHECKPOINT))?.ok_or(ProofError::NoCheckpoint)?;
    let signed = open_by_any(&note, &keys)?;
    let by = |key: &&VerifierKey| SignedCheckpoint::open(&note, key).is_ok();
    let key = keys.iter().rev().find(by).cloned().ok_or(ProofError::NoCheckpoint)?;
    Ok((signed, key))
}

/// Proves that the line at the place `sequence` is in the tree of `size` lines, or in that of the newest checkpoint.
pub fn prove_inclusion(
    directory: &Path,
    sequence: u64,
    size: Option<u64>,
) -> Result<(Inclusion, SignedCheckpoint), ProofError> {
    let (newest, _) = newest_checkpoint(directory)?;
    let size = size.unwrap_or(newest.checkpoint.size);
    within(&newest, size)?;
    if sequence >= size {
        return Err(ProofError::OutOfRange);
    }
    let tiles = Tiles::new(directory);
    let (leaf, path) = (tiles.hash(0, sequence)?, merkle::prove_inclusion(&tiles, sequence, size)?);
    let root = root_of(&tiles, &newest, size)?;
    if !merkle::check_inclusion(&path, sequence, &leaf, size, &root) {
        return Err(ProofError::Altered("the tiles do not fit together".to_owned()));
    }
    Ok((Inclusion { leaf, path, size }, newest))
}

/// Proves that the tree of `old` lines is the beginning of that of `new` lines, or of the newest checkpoint's.
pub fn prove_consistency(
    directory: &Path,
    old: u64,
    new: Option<u64>,
) -> Result<(Vec<Hash>, u64, SignedCheckpoint), ProofError> {
    let (newest, _) = newest_checkpoint(directory)?;
    let new = new.unwrap_or(newest.checkpoint.size);
    within(&newest, new)?;
    if old > new {
        return Err(ProofError::OutOfRange);
    }
    let tiles = Tiles::new(directory);
    let path = merkle::prove_consistency(&tiles, old, new)?;
    let (old_root, new_root) = (merkle::root(&tiles, old)?, root_of(&tiles, &newest, new)?);
    if !merkle::check_consistency(&path, (old, &old_root), (new, &new_root)) {
        return Err(ProofError::Altered("the tiles do not fit together".to_owned()));
    }
    Ok((path, new, newest))
}

fn within(newest: &SignedCheckpoint, size: u64) -> Result<(), ProofError> {
    let covered = newest.checkpoint.size;
    if size > covered { Err(ProofError::NotCovered(covered)) } else { Ok(()) }
}

/// The root of `size` lines: for the newest checkpoint's size the one that was signed.
fn root_of(tiles: &Tiles, newest: &SignedCheckpoint, size: u64) -> Result<Hash, ProofError> {
    let root = merkle::root(tiles, size)?;
    if size == newest.checkpoint.size && root != newest.checkpoint.root {
        return Err(ProofError::Altered("the tiles have another root than was signed".to_owned()));
    }
    Ok(root)
}
