//! ListProjects: where the caller's account can have keys.

use std::sync::Arc;

use crate::{
    draft::Draft,
    error::Error,
    identity::{ProjectId, Region},
    operation::OperationName,
    ops::{Operation, Prepared},
    service::Scope,
};

/// Reads the projects of the caller's account, each with its region.
#[derive(Debug, Clone, Copy)]
pub struct ListProjects;

impl Operation for ListProjects {
    const NAME: OperationName = OperationName::ListProjects;
    type Output = Arc<[(ProjectId, Region)]>;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Self::Output>, Error> {
        Ok(Prepared::Answer(scope.caller().projects.clone()))
    }
}
