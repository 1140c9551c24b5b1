//! ReloadIdentities and ReloadTrafficProfile: what the service was started with is read anew.

use std::{fmt, marker::PhantomData, sync::Arc};

use crate::{
    directory::Directory,
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, OwnOperation, Prepared},
    ports::BoxFuture,
    service::Scope,
};

/// Reads and checks a source; answers the digest of what it read, or what is wrong with it. Asked only when it is known that
/// the caller may.
pub type Loader = Arc<dyn Fn() -> BoxFuture<'static, Result<[u8; 32], String>> + Send + Sync>;

/// What can be read anew.
pub trait Reloadable: Clone + Send + Sync + 'static {
    /// The operation that has it read.
    const NAME: OperationName;

    /// Tells what is wrong with it.
    fn invalid(problem: String) -> Error;
}

/// Who may call, and may do what.
#[derive(Debug, Clone, Copy)]
pub enum Identities {}

impl Reloadable for Identities {
    const NAME: OperationName = OperationName::ReloadIdentities;

    fn invalid(problem: String) -> Error {
        Error::IdentitiesInvalid { problem }
    }
}

/// How often may be called, and how much accounts may have.
#[derive(Debug, Clone, Copy)]
pub enum TrafficProfile {}

impl Reloadable for TrafficProfile {
    const NAME: OperationName = OperationName::ReloadTrafficProfile;

    fn invalid(problem: String) -> Error {
        Error::ProfileInvalid { problem }
    }
}

/// Has a source read and checked as a whole.
///
/// The operation itself changes nothing: it says who may, and leaves the record with the digest of what was read.
/// The record is durable before the source holds, so that the log tells which one decided a call.
#[derive(Clone)]
pub struct Reload<S> {
    load: Loader,
    source: PhantomData<S>,
}

/// Has the identities read anew.
pub type ReloadIdentities = Reload<Identities>;

/// Has the limits of traffic control and the quotas read anew.
pub type ReloadTrafficProfile = Reload<TrafficProfile>;

impl<S: Reloadable> Reload<S> {
    /// The operation that reads so.
    pub fn new(load: Loader) -> Self {
        Self { load, source: PhantomData }
    }

    async fn load(&self, draft: &mut Draft) -> Result<Prepared<[u8; 32]>, Error> {
        let digest = (self.load)().await.map_err(S::invalid)?;
        draft.state_digest(digest);
        Ok(Prepared::Answer(digest))
    }
}

impl<S: Reloadable> fmt::Debug for Reload<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", S::NAME)
    }
}

impl<S: Reloadable> Operation for Reload<S> {
    const NAME: OperationName = S::NAME;
    /// SHA-256 of what was read.
    type Output = [u8; 32];

    async fn prepare(&self, _: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<[u8; 32]>, Error> {
        self.load(draft).await
    }
}

/// Whoever may signal the process may have it read anew.
impl<S: Reloadable> OwnOperation for Reload<S> {
    const NAME: OperationName = S::NAME;
    type Output = [u8; 32];

    async fn prepare(&self, _: &Arc<Directory>, draft: &mut Draft) -> Result<Prepared<[u8; 32]>, Error> {
        self.load(draft).await
    }
}
