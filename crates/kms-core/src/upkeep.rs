//! What the service does by itself: small steps that a shell drives, each whole in itself and found again in the store
//! after a crash.

mod due;
mod roots;

use std::time::Duration;

use uuid::Uuid;

use crate::{
    answer::{Recorded, Refused},
    ops::{ArchiveSegment, OwnOperation, Reload, Reloadable},
    service::Service,
};

pub use due::DuePage;
pub use roots::OldKeys;

/// How long the HSM may take for one step. Nobody waits for it but the service itself.
const PATIENCE: Duration = Duration::from_secs(60);

impl Service {
    /// The same as the operation, where nobody calls: the process was told by a signal.
    pub async fn reload<S: Reloadable>(&self, operation: Reload<S>) -> Result<Recorded<[u8; 32]>, Refused> {
        self.run_own(operation).await
    }

    /// Records that the first `lines` lines of the log are in its archive. Only then may they be removed here.
    pub async fn note_archived(&self, lines: u64) -> Result<Recorded<()>, Refused> {
        self.run_own(ArchiveSegment { lines }).await
    }

    async fn run_own<O: OwnOperation>(&self, operation: O) -> Result<Recorded<O::Output>, Refused> {
        self.change_of_its_own(&operation, Uuid::new_v4(), PATIENCE).await
    }
}

#[cfg(test)]
mod tests;
