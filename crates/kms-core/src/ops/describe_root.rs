//! DescribeRoot: the root keys, as the store and the token know them.

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    root::{RootRecord, generations},
    service::Scope,
};

/// The root keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootStatus {
    /// What the store says.
    pub root: RootRecord,
    /// The generations on the token, rising.
    pub token_generations: Vec<u32>,
}

/// Reads the state of the root keys.
#[derive(Debug, Clone, Copy)]
pub struct DescribeRoot;

impl Operation for DescribeRoot {
    const NAME: OperationName = OperationName::DescribeRoot;
    type Output = RootStatus;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<RootStatus>, Error> {
        let root = scope.directory().root().await?.value;
        Ok(Prepared::by_use(None, move |session, _| {
            Ok(RootStatus { root, token_generations: generations(session)? })
        }))
    }
}
