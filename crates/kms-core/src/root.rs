//! The root keys above all CMKs, as the store knows them: generations, and the rotation from one to the
//! next.
//!
//! A rotation has three commits of `m/root`. The first names the new generation; from then on no key can
//! be stored under an older one (`Stored::unchanged`, `Stored::accept`), and keys are re-wrapped one by
//! one. When none is left, the second says that the old generations are needed no more; then the token
//! destroys them, and the third ends the rotation. So a crash at any point leaves a token that has every
//! generation that `m/root` says is needed, and the rotation goes on from what `m/root` says.

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    directory::{Directory, ROOT_PATH, Stored, digest},
    error::Error,
    identity::UserId,
    key::{KeyRecord, WrappedKey},
    ops::Plan,
    ports::{Condition, HsmError, HsmSession, Transaction},
};

/// What the store says of the root keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRecord {
    /// The generation that wraps new keys.
    pub generation: u32,
    /// The oldest generation that a stored key may still need.
    pub oldest: u32,
    /// The rotation that is under way.
    pub rotation: Option<Rotation>,
}

/// A rotation that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// When it was started.
    pub started: Timestamp,
    /// The operator who started it.
    pub started_by: UserId,
    /// Whether the old root keys stay when all keys are moved, until an operator retires them.
    pub keep_old_root: bool,
}

impl RootRecord {
    /// The record of a new store, on a token whose newest generation this is.
    pub(crate) fn first(generation: u32) -> Self {
        Self { generation, oldest: generation, rotation: None }
    }

    /// Whether all keys are known to be under the newest generation.
    pub fn all_moved(&self) -> bool {
        self.oldest == self.generation
    }

    /// Whether all generations up to this one are known to be destroyed: nothing that they wrapped can be opened any
    /// more, not even from a backup.
    pub fn is_destroyed(&self, generation: u32) -> bool {
        // Between its second and third commit, a rotation destroys what the second one let go of.
        let being_destroyed = self.rotation.is_some() && self.all_moved();
        generation < self.oldest && !being_destroyed || generation == 0
    }

    /// A generation that the store needs and the token lacks.
    pub(crate) fn missing_from(&self, token: &[u32]) -> Option<u32> {
        [self.oldest, self.generation].into_iter().find(|generation| !token.contains(generation))
    }
}

impl Stored<RootRecord> {
    /// The condition that every transaction carries which stores a newly wrapped key. It was read before
    /// the key was wrapped, so a transaction that began before a rotation cannot commit after the
    /// rotation's first commit.
    pub(crate) fn unchanged(&self) -> Condition {
        Condition::Revision(ROOT_PATH.to_vec(), self.revision)
    }

    /// Refuses a newly wrapped key under a generation that was replaced. Together with
    /// [`unchanged`](Self::unchanged): after a rotation's first commit, no key is stored under an older
    /// generation than the rotation's.
    ///
    /// A newer one than `m/root` names is fine: a crash left it on the token before its rotation was
    /// committed, and the next rotation takes it over.
    pub(crate) fn accept(&self, wrapped: WrappedKey) -> Result<WrappedKey, Error> {
        if wrapped.root_generation >= self.value.generation {
            Ok(wrapped)
        } else {
            Err(Error::Internal { detail: "the HSM wrapped a key under a root key that was replaced" })
        }
    }

    /// The plan of a commit that puts `root` in its place.
    pub(crate) fn replace(&self, directory: &Directory, root: RootRecord) -> Result<Plan<RootRecord>, Error> {
        let put = directory.put(ROOT_PATH.to_vec(), &root)?;
        let state_digest = digest(&put);
        let transaction = Transaction { conditions: vec![self.unchanged()], mutations: vec![put] };
        Ok(Plan { transaction, output: root, state_digest, evict: None })
    }
}

impl KeyRecord {
    /// Whether one of its versions is wrapped under an older generation than this one.
    pub(crate) fn needs_older_than(&self, generation: u32) -> bool {
        self.versions.iter().any(|version| version.wrapped.root_generation < generation)
    }
}

/// The generations on the token, rising; never empty.
pub(crate) fn generations(session: &mut dyn HsmSession) -> Result<Vec<u32>, Error> {
    match session.root_generations() {
        Ok(generations) if generations.is_empty() => Err(HsmError::RootMissing { generation: 1 }.into()),
        generations => Ok(generations?),
    }
}
