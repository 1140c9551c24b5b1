//! The rule of a witness: of each log it cosigns one history only.

use crate::{
    memory::open_by_any,
    merkle::{Hash, check_consistency, empty_root},
    note::{Checkpoint, NoteError, SignedCheckpoint, VerifierKey},
};

/// A checkpoint that a log wants to have cosigned.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The size that the log believes the witness to know; 0 for none.
    pub old_size: u64,
    /// That the tree of that size is the beginning of the checkpoint's. RFC 9162 §2.1.4.
    pub proof: &'a [Hash],
    /// The checkpoint, signed by the log.
    pub note: &'a str,
}

/// Why a witness does not cosign a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is none, or not of a log that is witnessed.
    #[error("it is not signed by a log that is witnessed: {0}")]
    NotSigned(#[from] NoteError),
    /// It is smaller than one that was cosigned.
    #[error("it covers less than the {known} lines that were cosigned")]
    Older {
        /// The size that was cosigned last.
        known: u64,
    },
    /// The proof begins at another size.
    #[error("the proof must begin at the {known} lines that were cosigned")]
    OtherBeginning {
        /// The size that was cosigned last; 0 for none.
        known: u64,
    },
    /// The log has signed two histories: another root at the size that was cosigned.
    #[error("another checkpoint over the same lines was cosigned")]
    OtherRoot,
    /// The proof does not hold: the log has lost or rewritten lines that were cosigned, or errs.
    #[error("it is not proved to continue what was cosigned")]
    NotProved,
}

/// Decides on an offer: the checkpoint that is to be cosigned, once it is remembered durably as what was `seen` last
/// of its log. `keys` are those of the log; `seen` is `None` if nothing of it was cosigned yet.
pub fn judge(
    seen: Option<&Checkpoint>,
    keys: &[VerifierKey],
    offer: Offer<'_>,
) -> Result<SignedCheckpoint, Refusal> {
    let signed = open_by_any(offer.note, keys)?;
    let Checkpoint { size, root, .. } = &signed.checkpoint;
    let (known, known_root) = seen.map_or_else(|| (0, empty_root()), |seen| (seen.size, seen.root));
    if *size < known {
        Err(Refusal::Older { known })
    } else if offer.old_size != known {
        Err(Refusal::OtherBeginning { known })
    } else if *size == known && *root != known_root {
        Err(Refusal::OtherRoot)
    } else if !check_consistency(offer.proof, (known, &known_root), (*size, root)) {
        Err(Refusal::NotProved)
    } else {
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;
    use crate::{
        merkle::{leaf_hash, prove_consistency, root},
        testing::ORIGIN,
        tiles::{Tiles, Tree},
    };

    /// A log in a directory, whose lines are numbers from `first` on.
    struct Log {
        directory: tempfile::TempDir,
        signing: SigningKey,
    }

    impl Log {
        /// Of `size` lines, of which those from `fork` on are others than elsewhere.
        fn new(size: u64, fork: u64) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let (tiles, mut tree) = (Tiles::new(directory.path()), Tree::default());
            for line in 0..size {
                let number = if line < fork { line } else { line + 1_000_000 };
                tree.push(leaf_hash(&number.to_be_bytes()), |tile, hashes| {
                    tiles.write(tile, &hashes).expect("written");
                });
            }
            for (tile, hashes) in tree.edges() {
                tiles.write(tile, hashes).expect("written");
            }
            Self { directory, signing: SigningKey::from_bytes(&[1; 32]) }
        }

        fn key(&self) -> VerifierKey {
            VerifierKey::new(ORIGIN, self.signing.verifying_key().as_bytes()).expect("a key")
        }

        fn checkpoint(&self, size: u64) -> SignedCheckpoint {
            let root = root(&Tiles::new(self.directory.path()), size).expect("there");
            let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root };
            let signature = self.signing.sign(checkpoint.text().as_bytes()).to_bytes();
            SignedCheckpoint::new(checkpoint, &self.key(), &signature)
        }

        fn proof(&self, old: u64, new: u64) -> Vec<Hash> {
            prove_consistency(&Tiles::new(self.directory.path()), old, new).expect("there")
        }

        /// What a witness that saw `seen` says to the checkpoint over `size` lines, proved from `old_size` on.
        fn offer(&self, seen: Option<&Checkpoint>, old_size: u64, size: u64) -> Result<Checkpoint, Refusal> {
            let (note, proof) = (self.checkpoint(size).note, self.proof(old_size, size));
            let offer = Offer { old_size, proof: &proof, note: &note };
            judge(seen, &[self.key()], offer).map(|signed| signed.checkpoint)
        }
    }

    #[test]
    fn a_log_that_grows_is_cosigned() {
        let log = Log::new(700, 700);
        let mut seen = None;
        for size in [1, 2, 2, 255, 256, 257, 600, 700] {
            let known = seen.as_ref().map_or(0, |seen: &Checkpoint| seen.size);
            let accepted = log.offer(seen.as_ref(), known, size);
            assert_eq!(accepted.as_ref(), Ok(&log.checkpoint(size).checkpoint), "{size}");
            seen = accepted.ok();
        }
    }

    #[test]
    fn an_older_checkpoint_is_refused_with_what_is_known() {
        let log = Log::new(700, 700);
        let seen = log.checkpoint(600).checkpoint;
        assert_eq!(log.offer(Some(&seen), 300, 599), Err(Refusal::Older { known: 600 }));
        assert_eq!(log.offer(Some(&seen), 500, 700), Err(Refusal::OtherBeginning { known: 600 }));
        assert_eq!(log.offer(Some(&seen), 0, 600), Err(Refusal::OtherBeginning { known: 600 }));
        assert_eq!(log.offer(None, 500, 700), Err(Refusal::OtherBeginning { known: 0 }));
    }

    #[test]
    fn a_second_history_is_refused() {
        let (log, forked) = (Log::new(700, 700), Log::new(700, 580));
        let seen = log.checkpoint(600).checkpoint;
        assert_eq!(forked.offer(Some(&seen), 600, 600), Err(Refusal::OtherRoot));
        assert_eq!(forked.offer(Some(&seen), 600, 700), Err(Refusal::NotProved));
        // Its own proof for the lines that both have in common is of no use.
        assert_eq!(
            forked.offer(Some(&log.checkpoint(580).checkpoint), 580, 700).map(|new| new.size),
            Ok(700)
        );
    }

    #[test]
    fn a_proof_has_to_hold() {
        let log = Log::new(700, 700);
        let seen = log.checkpoint(600).checkpoint;
        let (note, proof) = (log.checkpoint(700).note, log.proof(600, 700));
        let judge =
            |proof: &[Hash]| judge(Some(&seen), &[log.key()], Offer { old_size: 600, proof, note: &note });
        assert!(judge(&proof).is_ok());
        for at in 0..proof.len() {
            let mut altered = proof.clone();
            altered[at][0] ^= 1;
            assert_eq!(judge(&altered), Err(Refusal::NotProved), "{at}");
            assert_eq!(judge(&proof[..at]), Err(Refusal::NotProved), "{at}");
        }
    }

    #[test]
    fn only_a_log_that_is_witnessed_is_cosigned() {
        let (log, mut other) = (Log::new(10, 10), Log::new(10, 10));
        other.signing = SigningKey::from_bytes(&[9; 32]);
        let note = other.checkpoint(10).note;
        let offer = |note| judge(None, &[log.key()], Offer { old_size: 0, proof: &[], note });
        assert!(matches!(offer(&note), Err(Refusal::NotSigned(NoteError::NotSigned { .. }))));
        let altered = log.checkpoint(10).note.replace("\n10\n", "\n11\n");
        assert!(matches!(offer(&altered), Err(Refusal::NotSigned(NoteError::Forged { .. }))));
        assert!(matches!(offer("no note"), Err(Refusal::NotSigned(NoteError::Note(_)))));
        assert!(judge(None, &[], Offer { old_size: 0, proof: &[], note: &note }).is_err());
    }
}
