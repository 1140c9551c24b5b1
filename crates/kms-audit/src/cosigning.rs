//! The side of a log that is witnessed: proofs for its witness, and the witness' line in the newest checkpoint.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    memory::read_if_there,
    merkle::{self, Hash},
    notary::{CHECKPOINT, Progress, replace},
    note::{Note, SignedCheckpoint},
    tiles::Tiles,
};

/// How often tiles are read anew that were replaced meanwhile by those of a larger tree.
const ATTEMPTS: usize = 5;

/// What the carrier to a witness needs of a log. As long as it lives, nobody else opens the log: the line of the last
/// checkpoint may come after the log's shutdown.
pub struct Cosigning {
    directory: PathBuf,
    progress: Arc<Progress>,
    _lock: File,
}

impl Cosigning {
    pub(crate) fn new(directory: &Path, progress: Arc<Progress>, lock: File) -> Self {
        Self { directory: directory.to_owned(), progress, _lock: lock }
    }

    /// That the tree of `old` lines is the beginning of the tree of `new` lines, of which there is a checkpoint.
    pub fn prove(&self, old: u64, new: u64) -> io::Result<Vec<Hash>> {
        let tiles = Tiles::new(&self.directory);
        let prove = || merkle::prove_consistency(&tiles, old, new);
        let replaced = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let mut proof = prove();
        for _ in 1..ATTEMPTS {
            if !proof.as_ref().is_err_and(replaced) {
                break;
            }
            proof = prove();
        }
        proof
    }

    /// Keeps a checkpoint with its cosignature on stable storage, if there is none newer meanwhile; tells whether.
    pub fn keep(&self, cosigned: &SignedCheckpoint) -> io::Result<bool> {
        let _replacing = self.progress.replacing.lock();
        let newest = read_if_there(&self.directory.join(CHECKPOINT))?.unwrap_or_default();
        let is_newest = Note::parse(&newest).is_ok_and(|newest| newest.text == cosigned.text());
        if is_newest {
            replace(&self.directory, CHECKPOINT, cosigned.note.as_bytes())?;
        }
        Ok(is_newest)
    }
}

impl std::fmt::Debug for Cosigning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cosigning").field("directory", &self.directory).finish_non_exhaustive()
    }
}
