//! GetCheckpoint, ProveInclusion, ProveConsistency: what shows that the log was not altered.

use std::fmt;

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    ports::BoxFuture,
    service::Scope,
};

/// Where the log's tree is read: brought by the transport. Hashes alone, which tell nothing of any record.
pub trait ProofSource: Send + Sync + 'static {
    /// The operation that it answers.
    const NAME: OperationName;
    /// What is read.
    type Proof: Send + 'static;

    /// Reads it.
    fn read(&self) -> BoxFuture<'_, Result<Self::Proof, Error>>;
}

/// Reads a checkpoint or a proof of the log's tree.
#[derive(Clone)]
pub struct Prove<S>(pub S);

impl<S> fmt::Debug for Prove<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prove")
    }
}

impl<S: ProofSource> Operation for Prove<S> {
    const NAME: OperationName = S::NAME;
    type Output = S::Proof;

    async fn prepare(&self, _: &Scope<'_>, _: &mut Draft) -> Result<Prepared<S::Proof>, Error> {
        Ok(Prepared::Answer(self.0.read().await?))
    }
}
