//! RevokeGrant: the account of a key takes a grant of it away.

use crate::{
    draft::Draft,
    error::Error,
    grant::GrantId,
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        granting::{absence, grant},
        retire_grant::removal,
    },
    service::Scope,
};

/// Takes a grant away.
#[derive(Debug, Clone)]
pub struct RevokeGrant {
    /// The key.
    pub key: KeySelector,
    /// Which of its grants.
    pub grant_id: GrantId,
}

impl Operation for RevokeGrant {
    const NAME: OperationName = OperationName::RevokeGrant;
    type Output = ();

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<()>, Error> {
        let key = scope.key(&self.key, draft).await?;
        if key.is_default() {
            return Err(Error::DefaultKeyImmutable);
        }
        key.check(Self::NAME, scope.now)?;
        match grant(scope.directory(), key.id, self.grant_id).await? {
            Some(stored) => removal(scope, stored).await,
            None => Err(absence(scope, self.grant_id).await?),
        }
    }
}
