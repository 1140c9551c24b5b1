//! ReloadIdentities: who may call, and may do what, is read anew.

use std::{fmt, sync::Arc};

use crate::{
    directory::Directory,
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, OwnOperation, Prepared},
    service::Scope,
};

/// Reads and checks the identities; answers the digest of what it read, or what is wrong with it.
pub type IdentityLoader = Arc<dyn Fn() -> Result<[u8; 32], String> + Send + Sync>;

/// Has the identities read and checked as a whole.
///
/// The operation itself changes nothing: it says who may, and leaves the record with the digest of what was read.
/// The record is durable before the new identities hold, so that the log tells which ones decided a call.
#[derive(Clone)]
pub struct ReloadIdentities(pub IdentityLoader);

impl fmt::Debug for ReloadIdentities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReloadIdentities")
    }
}

impl Operation for ReloadIdentities {
    const NAME: OperationName = OperationName::ReloadIdentities;
    /// SHA-256 of what was read.
    type Output = [u8; 32];

    async fn prepare(&self, _: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<[u8; 32]>, Error> {
        self.load(draft)
    }
}

/// Whoever may signal the process may have them read anew.
impl OwnOperation for ReloadIdentities {
    const NAME: OperationName = OperationName::ReloadIdentities;
    type Output = [u8; 32];

    async fn prepare(&self, _: &Arc<Directory>, draft: &mut Draft) -> Result<Prepared<[u8; 32]>, Error> {
        self.load(draft)
    }
}

impl ReloadIdentities {
    fn load(&self, draft: &mut Draft) -> Result<Prepared<[u8; 32]>, Error> {
        let digest = (self.0)().map_err(|problem| Error::IdentitiesInvalid { problem })?;
        draft.state_digest(digest);
        Ok(Prepared::Answer(digest))
    }
}
