//! ArchiveSegment: lines of the log are in its archive, and may go here.

use std::sync::Arc;

use crate::{
    directory::Directory,
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{OwnOperation, Prepared},
};

/// Tells of the first `lines` lines of the log that its archive holds them.
///
/// The operation itself changes nothing: it leaves the record by which a beginning that was archived is told from one
/// that somebody deleted. Nothing is removed before that record is durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArchiveSegment {
    pub(crate) lines: u64,
}

impl OwnOperation for ArchiveSegment {
    const NAME: OperationName = OperationName::ArchiveSegment;
    type Output = ();

    async fn prepare(&self, _: &Arc<Directory>, draft: &mut Draft) -> Result<Prepared<()>, Error> {
        draft.archived(self.lines);
        Ok(Prepared::Answer(()))
    }
}
