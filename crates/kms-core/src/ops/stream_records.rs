//! StreamRecords: records of the log as they are made.

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    reading::{RecordFilter, Selection},
    service::Scope,
};

/// Begins to read records of the log. Its own record comes before anything is read: it tells who may read from then on,
/// and the answer is what the transport may show.
#[derive(Debug, Clone)]
pub struct StreamRecords {
    /// What is looked for.
    pub filter: RecordFilter,
}

impl Operation for StreamRecords {
    const NAME: OperationName = OperationName::StreamRecords;
    type Output = Selection;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Selection>, Error> {
        scope.select(&self.filter, draft).await.map(Prepared::Answer)
    }
}
