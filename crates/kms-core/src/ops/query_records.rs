//! QueryRecords: records of the log that the caller looks for and may see.

use std::fmt;

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    ports::{AuditError, BoxFuture},
    reading::{RecordFilter, Selection},
    service::Scope,
};

/// Where the log's records are read: brought by the transport, which knows the order and the size of a page.
pub trait RecordSource: Send + Sync + 'static {
    /// What is read: some of the records that were selected.
    type Page: Send + 'static;

    /// Reads a page of durable records that `selection` admits.
    fn read(&self, selection: Selection) -> BoxFuture<'_, Result<Self::Page, AuditError>>;
}

/// Finds records of the log. The reading is recorded when it is done, so it does not find itself.
#[derive(Clone)]
pub struct QueryRecords<S> {
    /// What is looked for.
    pub filter: RecordFilter,
    /// Where.
    pub source: S,
}

impl<S> fmt::Debug for QueryRecords<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryRecords").field("filter", &self.filter).finish_non_exhaustive()
    }
}

impl<S: RecordSource> Operation for QueryRecords<S> {
    const NAME: OperationName = OperationName::QueryRecords;
    type Output = S::Page;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<S::Page>, Error> {
        let selection = scope.select(&self.filter, draft).await?;
        Ok(Prepared::Answer(self.source.read(selection).await?))
    }
}
