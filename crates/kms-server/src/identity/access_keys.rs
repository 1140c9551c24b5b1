//! Callers by access keys: what a key signs with, and whom it stands for.

use std::net::SocketAddr;

use kms_core::{
    SecretBytes, Timestamp,
    error::Unauthenticated,
    identity::{AccessKeyId, Caller, Credential, UserId},
};

use super::{Identities, ProjectChoice};
use crate::dew::signature::Secrets;

/// An access key of a user.
#[derive(Debug)]
pub(super) struct AccessKey {
    pub(super) user: UserId,
    /// The secret half.
    pub(super) secret: SecretBytes,
    pub(super) temporary: Option<Temporary>,
    pub(super) is_active: bool,
}

/// What temporary access keys have besides.
#[derive(Debug)]
pub(super) struct Temporary {
    /// What has to come with each request.
    pub(super) security_token: SecretBytes,
    /// From then on it is none.
    pub(super) expires_at: Timestamp,
}

impl Identities {
    /// What this access key signs with, if it may be used now. Callers cannot be told why it may not.
    pub(crate) fn secrets_of(
        &self,
        id: &AccessKeyId,
        now: Timestamp,
    ) -> Result<Secrets<'_>, Unauthenticated> {
        let key = self.access_key(id, now)?;
        let token = key.temporary.as_ref().map(|temporary| temporary.security_token.expose_secret());
        Ok(Secrets { secret: key.secret.expose_secret(), security_token: token })
    }

    /// Whether there is such an access key, whatever its state.
    pub(crate) fn has_access_key(&self, id: &AccessKeyId) -> bool {
        self.access_keys.contains_key(id)
    }

    /// The caller who signed with this access key: its user, in this project.
    pub(crate) fn caller_by_access_key(
        &self,
        id: &AccessKeyId,
        project: ProjectChoice<'_>,
        source: SocketAddr,
        now: Timestamp,
    ) -> Result<Caller, Unauthenticated> {
        let key = self.access_key(id, now)?;
        let user = self.users.get_key_value(&key.user).ok_or(Unauthenticated::AccessKeyUnknown)?;
        Self::caller_in_project(user, project, Credential::AccessKey(id.clone()), source)
    }

    fn access_key(&self, id: &AccessKeyId, now: Timestamp) -> Result<&AccessKey, Unauthenticated> {
        let key = self.access_keys.get(id).ok_or(Unauthenticated::AccessKeyUnknown)?;
        let expired = key.temporary.as_ref().is_some_and(|temporary| temporary.expires_at <= now);
        match key {
            AccessKey { is_active: false, .. } => Err(Unauthenticated::AccessKeyInactive),
            _ if expired => Err(Unauthenticated::AccessKeyExpired),
            key => Ok(key),
        }
    }
}

#[cfg(test)]
mod tests;
