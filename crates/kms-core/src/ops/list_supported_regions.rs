//! ListSupportedRegions: where keys can be.

use crate::{
    draft::Draft,
    error::Error,
    identity::Region,
    operation::OperationName,
    ops::{Operation, Prepared},
    service::Scope,
};

/// Reads the regions that the account has projects in: keys can be made in and replicated to all of them.
#[derive(Debug, Clone, Copy)]
pub struct ListSupportedRegions;

impl Operation for ListSupportedRegions {
    const NAME: OperationName = OperationName::ListSupportedRegions;
    /// Each once, in the order of their names.
    type Output = Vec<Region>;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Vec<Region>>, Error> {
        Ok(Prepared::Answer(scope.caller().regions().into_iter().cloned().collect()))
    }
}
