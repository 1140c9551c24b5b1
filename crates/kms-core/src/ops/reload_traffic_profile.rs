//! ReloadTrafficProfile: how often may be called, and how much accounts may have, is read anew.

use std::{fmt, sync::Arc};

use crate::{
    directory::Directory,
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, OwnOperation, Prepared},
    service::Scope,
};

/// Reads and checks the profile; answers the digest of what it read, or what is wrong with it.
pub type ProfileLoader = Arc<dyn Fn() -> Result<[u8; 32], String> + Send + Sync>;

/// Has the limits of traffic control and the quotas read and checked as a whole.
///
/// The operation itself changes nothing: it says who may, and leaves the record with the digest of what was read.
/// The record is durable before they hold, so that the log tells which ones refused a call.
#[derive(Clone)]
pub struct ReloadTrafficProfile(pub ProfileLoader);

impl fmt::Debug for ReloadTrafficProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReloadTrafficProfile")
    }
}

impl Operation for ReloadTrafficProfile {
    const NAME: OperationName = OperationName::ReloadTrafficProfile;
    /// SHA-256 of what was read.
    type Output = [u8; 32];

    async fn prepare(&self, _: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<[u8; 32]>, Error> {
        self.load(draft)
    }
}

/// Whoever may signal the process may have it read anew.
impl OwnOperation for ReloadTrafficProfile {
    const NAME: OperationName = OperationName::ReloadTrafficProfile;
    type Output = [u8; 32];

    async fn prepare(&self, _: &Arc<Directory>, draft: &mut Draft) -> Result<Prepared<[u8; 32]>, Error> {
        self.load(draft)
    }
}

impl ReloadTrafficProfile {
    fn load(&self, draft: &mut Draft) -> Result<Prepared<[u8; 32]>, Error> {
        let digest = (self.0)().map_err(|problem| Error::ProfileInvalid { problem })?;
        draft.state_digest(digest);
        Ok(Prepared::Answer(digest))
    }
}
