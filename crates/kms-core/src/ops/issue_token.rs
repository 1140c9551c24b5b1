//! IssueToken: a user who has shown its password gets a token.

use std::sync::Arc;

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    secret::SecretBytes,
    service::Scope,
};

/// Hands a token over that was made for the caller; with the record of that, and not before.
#[derive(Debug)]
pub struct IssueToken {
    /// The token, as its user will send it.
    pub token: Arc<SecretBytes>,
}

impl Operation for IssueToken {
    const NAME: OperationName = OperationName::IssueToken;
    type Output = Arc<SecretBytes>;

    async fn prepare(&self, _: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Self::Output>, Error> {
        Ok(Prepared::Answer(self.token.clone()))
    }
}
