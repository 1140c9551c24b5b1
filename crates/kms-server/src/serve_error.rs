//! Why the service cannot start.

use std::io;

use kms_core::StartError;

use crate::{config::FileError, listeners::ListenError};

/// Why the service cannot start: one clear line.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file of the configuration.
    #[error(transparent)]
    File(#[from] FileError),
    /// The data directory.
    #[error("data_dir {path}: {problem}")]
    DataDirectory {
        /// Which one.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The key store.
    #[error("the key store cannot be opened: {0}")]
    Store(#[from] kms_store::OpenError),
    /// The audit log.
    #[error("the audit log cannot be opened: {0}")]
    Log(#[from] kms_audit::OpenError),
    /// The token does not give the key that signs the log's checkpoints.
    #[error("the key that signs the audit log's checkpoints cannot be used: {0}")]
    LogKey(String),
    /// The log was signed by a key that the token has not.
    #[error(
        "the audit log's checkpoints were signed before, and the token has no key that signs them: give the service \
         its token back"
    )]
    LogKeyLost,
    /// Other logs cannot be witnessed.
    #[error("audit.witness: {0}")]
    Witness(String),
    /// Checkpoints cannot be carried there.
    #[error("audit.checkpoints.{place}: {problem}")]
    CheckpointPlace {
        /// The setting.
        place: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The same, while its end is looked for.
    #[error("the audit log cannot be read: {0}")]
    LogUnreadable(#[from] kms_audit::ReadError),
    /// What new keys are to be, the token does not offer.
    #[error(
        "hsm.cipher.{0} is `hsm`, and the token does not offer that cipher; `dewctl hsm probe` shows what it offers"
    )]
    CipherNotOffered(&'static str),
    /// The token.
    #[error("the HSM cannot be used: {0}")]
    Hsm(#[from] kms_hsm::OpenError),
    /// A keystore's token.
    #[error("keystore {0}: {1}")]
    Keystore(String, kms_hsm::OpenError),
    /// A process can initialise a module once.
    #[error("keystore {0}: its module is another token's, too; name a copy of the file for one of them")]
    ModuleShared(String),
    /// The token has no root key, and no store needs one yet.
    #[error("the token has no root key; if this is a new deployment, make one with `dewpoint init`")]
    NoRootKey,
    /// The store has keys, but the token lost what opens them.
    #[error(
        "the key store exists, but the token has no root key: this is not the token that the store belongs to, or \
         it was initialised anew; restore the token from a backup"
    )]
    RootKeyLost,
    /// The store has keys, but what was done with them is not there any more.
    #[error(
        "the key store exists, but the audit log is missing: it was removed, or its volume is not mounted; restore it \
         before the service may go on"
    )]
    LogLost,
    /// The log tells of changes, but what was changed is not there any more.
    #[error(
        "the audit log tells of changes, but the key store is missing: it was removed, or its volume is not mounted; \
         mount it, or make it anew of a backup by `dewpoint restore`"
    )]
    StoreLost,
    /// A store that was to be made of a backup was not finished.
    #[error(
        "a restore was interrupted: run `dewpoint restore` again, or remove `store.restoring` and begin anew"
    )]
    RestoreUnfinished,
    /// Store and token.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What a crash left could not be put in order.
    #[error("the changes that a crash cut off cannot be settled: {0}")]
    Reconcile(String),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals cannot be taken.
    #[error("signals cannot be taken: {0}")]
    Signals(io::Error),
    /// Supervisor and worker cannot deal with each other.
    #[error("supervision failed: {0}")]
    Supervise(io::Error),
    /// DEW's protocol cannot be served.
    #[error("DEW's protocol cannot be served: {0}")]
    Dew(String),
    /// The gRPC server failed while it ran.
    #[error("the gRPC server failed: {0}")]
    Grpc(String),
}

impl ServeError {
    /// Whether the token refused the PIN: then nothing may try again by itself.
    pub fn is_refused_pin(&self) -> bool {
        matches!(self, Self::Hsm(kms_hsm::OpenError::PinRefused { .. }))
    }
}
