//! CosignCheckpoint: another log's checkpoint continues what was cosigned of that log before.

use std::{fmt, sync::Arc};

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    ports::BoxFuture,
    service::Scope,
};

/// A checkpoint that the witness has accepted, and remembers durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedCheckpoint {
    /// SHA-256 of the note that was offered.
    pub digest: [u8; 32],
    /// When, in seconds since 1970.
    pub time: u64,
    /// What the cosignature is over.
    pub message: Vec<u8>,
}

/// Decides by the rule of the witness, and remembers what it accepts before it answers; or says what stands against it.
/// That takes a disk's time, and no HSM's.
pub type CheckpointAcceptor =
    Arc<dyn Fn() -> BoxFuture<'static, Result<AcceptedCheckpoint, Error>> + Send + Sync>;

/// Cosigns a checkpoint with the key of this service's own log.
///
/// The acceptor is asked only when it is known that the caller may. If there is no signature after all, what was
/// accepted stays: the log can only come with the same checkpoint or with one that continues it.
#[derive(Clone)]
pub struct CosignCheckpoint(pub CheckpointAcceptor);

/// A witness' signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// When, in seconds since 1970.
    pub time: u64,
    /// Ed25519 over what was accepted.
    pub signature: [u8; 64],
}

impl fmt::Debug for CosignCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CosignCheckpoint")
    }
}

impl Operation for CosignCheckpoint {
    const NAME: OperationName = OperationName::CosignCheckpoint;
    type Output = Cosignature;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Cosignature>, Error> {
        // What is remembered has its record whether or not the log that asks still waits.
        if !scope.driven {
            return Ok(Prepared::ToBeDriven);
        }
        let accepted = (self.0)().await?;
        draft.state_digest(accepted.digest);
        Ok(Prepared::by_use(None, move |session, _| {
            let signature = session.sign_checkpoint(&accepted.message)?;
            Ok(Cosignature { time: accepted.time, signature })
        }))
    }
}
