//! This service as a witness: what it has cosigned last of each log that it witnesses.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use kms_audit::{Checkpoint, CosignerKey, Offer, Refusal, VerifierKey, cosigned_message, judge};
use kms_core::{
    Error,
    error::CheckpointRefusal,
    ops::{AcceptedCheckpoint, Cosignature},
    ports::{Clock, StoreError},
};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::{config::WitnessConfig, serve_error::ServeError};

/// The key by which this service cosigns, for the operators of logs.
const KEY: &str = "key";

/// The keys of the logs that are witnessed; an error if one is none.
pub(crate) fn logs(config: &WitnessConfig) -> Result<Vec<VerifierKey>, ServeError> {
    let keys = config.logs.iter().map(|log| VerifierKey::parse(&log.key));
    keys.collect::<Result<_, _>>().map_err(|error| ServeError::Witness(format!("logs.key: {error}")))
}

/// The witness. It remembers each log in a file of its own, which is replaced before a cosignature is made.
pub(crate) struct Witness {
    directory: PathBuf,
    key: CosignerKey,
    logs: Vec<VerifierKey>,
    clock: Arc<dyn Clock>,
    /// Held from the look at what was cosigned to the end of its replacement.
    remembering: Mutex<()>,
}

impl Witness {
    /// A witness of these logs that cosigns by the key of this service's own log. If there are any, its key is written
    /// beside what it remembers, in `witness/` of the data directory.
    pub(crate) fn open(
        data_dir: &Path,
        own: &VerifierKey,
        logs: Vec<VerifierKey>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServeError> {
        let key = CosignerKey::of(own).map_err(|error| ServeError::Witness(error.to_string()))?;
        let witness =
            Self { directory: data_dir.join("witness"), key, logs, clock, remembering: Mutex::default() };
        if !witness.logs.is_empty() {
            witness
                .prepare()
                .map_err(|error| ServeError::Witness(format!("{}: {error}", witness.directory.display())))?;
            tracing::info!(key = %witness.key, logs = witness.logs.len(), "checkpoints of other logs are cosigned");
        }
        Ok(witness)
    }

    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        if let Some(parent) = self.directory.parent() {
            File::open(parent)?.sync_all()?;
        }
        replace(&self.directory, KEY, &format!("{}\n", self.key))
    }

    /// Decides on a checkpoint. One that is accepted is what this log has to continue from now on, also after a crash.
    pub(crate) fn accept(&self, offer: Offer<'_>) -> Result<AcceptedCheckpoint, Error> {
        let origin = offer.note.lines().next().unwrap_or_default();
        let keys: Vec<_> = self.logs.iter().filter(|key| key.name() == origin).cloned().collect();
        if keys.is_empty() {
            return Err(Error::CheckpointRefused(CheckpointRefusal::NotWitnessed));
        }
        let _remembering = self.remembering.lock();
        let file = file_of(origin);
        let seen = self.seen(&file, origin).map_err(|error| unavailable(&error))?;
        let signed = judge(seen.as_ref(), &keys, offer).map_err(|refusal| self.refused(origin, &refusal))?;
        if seen.as_ref() != Some(&signed.checkpoint) {
            let remembered = replace(&self.directory, &file, &signed.checkpoint.text());
            remembered.map_err(|error| unavailable(&error))?;
        }
        let time = u64::try_from(self.clock.now().as_millis() / 1000).unwrap_or(0);
        Ok(AcceptedCheckpoint {
            digest: Sha256::digest(offer.note).into(),
            time,
            message: cosigned_message(&signed, time).into_bytes(),
        })
    }

    /// The line of a cosignature that was made.
    pub(crate) fn line(&self, made: &Cosignature) -> String {
        self.key.line(made.time, &made.signature)
    }

    /// What was cosigned last of a log. A file that is not as this service wrote it is an error, never a beginning.
    fn seen(&self, file: &str, origin: &str) -> io::Result<Option<Checkpoint>> {
        let text = match fs::read_to_string(self.directory.join(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let seen = Checkpoint::parse(&text).ok().filter(|seen| seen.origin == origin && seen.text() == text);
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{file} is damaged"));
        seen.ok_or_else(damaged).map(Some)
    }

    fn refused(&self, origin: &str, refusal: &Refusal) -> Error {
        let why = match refusal {
            Refusal::NotSigned(_) => CheckpointRefusal::NotWitnessed,
            Refusal::Older { known } | Refusal::OtherBeginning { known } => {
                CheckpointRefusal::OtherSize { known: *known }
            }
            Refusal::OtherRoot | Refusal::NotProved => CheckpointRefusal::Inconsistent,
        };
        if !matches!(refusal, Refusal::OtherBeginning { .. }) {
            tracing::warn!(origin, %refusal, witness = self.key.name(), "a checkpoint is not cosigned");
        }
        Error::CheckpointRefused(why)
    }
}

/// The file of a log: its name may hold anything.
fn file_of(origin: &str) -> String {
    hex::encode(&Sha256::digest(origin)[..16])
}

fn unavailable(error: &io::Error) -> Error {
    Error::StoreUnavailable(StoreError::Unavailable { detail: format!("the witness' memory: {error}") })
}

/// Puts new content in the place of a file, durably.
fn replace(directory: &Path, name: &str, content: &str) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.tmp"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use kms_audit::{
        SignedCheckpoint,
        testing::{ORIGIN, SoftwareSigner},
    };
    use kms_core::{Timestamp, testing::clock::FakeClock};

    use super::*;

    const KNOWN: CheckpointRefusal = CheckpointRefusal::OtherSize { known: 2 };

    /// The tree of one leaf and the tree of two: the second leaf's hash proves the one from the other.
    const FIRST: [u8; 32] = [1; 32];
    const SECOND: [u8; 32] = [2; 32];

    fn open(data_dir: &Path, logs: Vec<VerifierKey>) -> Witness {
        let own = SoftwareSigner::new([9; 32]).key();
        let clock = Arc::new(FakeClock::at(Timestamp::from_micros(7_900_000)));
        Witness::open(data_dir, &own, logs, clock).expect("it opens")
    }

    fn note(signer: &SoftwareSigner, size: u64, root: [u8; 32]) -> String {
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root };
        let signature = signer.sign_text(&checkpoint.text());
        SignedCheckpoint::new(checkpoint, &signer.key(), &signature).note
    }

    fn grown() -> [u8; 32] {
        kms_audit::merkle::node_hash(&FIRST, &SECOND)
    }

    fn offer(witness: &Witness, old_size: u64, proof: &[[u8; 32]], note: &str) -> Result<u64, Error> {
        witness.accept(Offer { old_size, proof, note }).map(|accepted| accepted.time)
    }

    fn refusal(result: Result<u64, Error>) -> CheckpointRefusal {
        match result {
            Err(Error::CheckpointRefused(why)) => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn what_was_accepted_is_known_to_the_next_process() {
        let (directory, log) = (tempfile::tempdir().expect("a directory"), SoftwareSigner::new([1; 32]));
        let reopened = || open(directory.path(), vec![log.key()]);
        assert_eq!(offer(&reopened(), 0, &[], &note(&log, 1, FIRST)), Ok(7));
        assert_eq!(offer(&reopened(), 1, &[SECOND], &note(&log, 2, grown())), Ok(7));
        assert_eq!(offer(&reopened(), 2, &[], &note(&log, 2, grown())), Ok(7), "the same once more");
        assert_eq!(refusal(offer(&reopened(), 0, &[], &note(&log, 1, FIRST))), KNOWN, "not back");
        assert_eq!(refusal(offer(&reopened(), 0, &[], &note(&log, 9, FIRST))), KNOWN, "not anew");
        let other_root = offer(&reopened(), 2, &[], &note(&log, 2, FIRST));
        assert_eq!(refusal(other_root), CheckpointRefusal::Inconsistent);
        let unproved = offer(&reopened(), 2, &[SECOND], &note(&log, 3, SECOND));
        assert_eq!(refusal(unproved), CheckpointRefusal::Inconsistent);
        let key = fs::read_to_string(directory.path().join("witness/key")).expect("it is told");
        assert_eq!(CosignerKey::parse(&key), CosignerKey::of(&SoftwareSigner::new([9; 32]).key()));
    }

    #[test]
    fn only_logs_of_the_configuration_are_witnessed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (log, later) = (SoftwareSigner::new([1; 32]), SoftwareSigner::new([2; 32]));
        let (first, second) = (note(&log, 1, FIRST), note(&later, 2, grown()));
        let refused = |logs, note: &str| refusal(offer(&open(directory.path(), logs), 0, &[], note));
        assert_eq!(refused(Vec::new(), &first), CheckpointRefusal::NotWitnessed);
        assert_eq!(refused(vec![later.key()], &first), CheckpointRefusal::NotWitnessed);
        assert_eq!(refused(vec![log.key()], ""), CheckpointRefusal::NotWitnessed);
        // A log with a new key goes on as the log that it is.
        let both = open(directory.path(), vec![log.key(), later.key()]);
        assert_eq!(offer(&both, 0, &[], &first), Ok(7));
        assert_eq!(offer(&both, 1, &[SECOND], &second), Ok(7));
        assert_eq!(refusal(offer(&both, 0, &[], &first)), KNOWN);
    }

    #[test]
    fn a_damaged_memory_is_no_beginning() {
        let (directory, log) = (tempfile::tempdir().expect("a directory"), SoftwareSigner::new([1; 32]));
        let witness = open(directory.path(), vec![log.key()]);
        assert_eq!(offer(&witness, 0, &[], &note(&log, 1, FIRST)), Ok(7));
        let file = directory.path().join("witness").join(file_of(ORIGIN));
        let kept = fs::read_to_string(&file).expect("it is there");
        for damaged in [
            "",
            &kept[..kept.len() - 1],
            &kept.replace(ORIGIN, "elsewhere"),
            &kept.replace("\n1\n", "\n01\n"),
        ] {
            fs::write(&file, damaged).expect("written");
            let refused = offer(&witness, 0, &[], &note(&log, 1, FIRST));
            assert!(matches!(refused, Err(Error::StoreUnavailable(_))), "{damaged:?}: {refused:?}");
        }
    }
}
