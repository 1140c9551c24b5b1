//! GenerateMac: the HMAC of a message.

use std::sync::Arc;

use crate::{
    crypto::{MacAlgorithm, check_message},
    draft::Draft,
    error::Error,
    key::{KeyId, KeyUsage},
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        version_key::{Place, VersionKey},
    },
    ports::HsmSession,
    secret::SecretBytes,
    service::Scope,
};

/// Computes the HMAC of a message.
#[derive(Debug, Clone)]
pub struct GenerateMac {
    pub(crate) key: KeySelector,
    pub(crate) algorithm: MacAlgorithm,
    pub(crate) message: Arc<SecretBytes>,
}

/// An HMAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageMac {
    /// The key that made it.
    pub key_id: KeyId,
    /// With what.
    pub algorithm: MacAlgorithm,
    /// The HMAC, in its full length.
    pub bytes: Vec<u8>,
}

impl GenerateMac {
    /// Takes a message of 1 to 4096 bytes.
    pub fn new(key: KeySelector, algorithm: MacAlgorithm, message: Vec<u8>) -> Result<Self, Error> {
        let message = SecretBytes::new(message);
        check_message(message.expose_secret())?;
        Ok(Self { key, algorithm, message: Arc::new(message) })
    }

    /// The key, ready to authenticate.
    pub(crate) async fn checked(
        &self,
        operation: OperationName,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<(crate::ops::Place, MacKey), Error> {
        let key = scope.key(&self.key, draft).await?;
        let version = key.check_use(operation, KeyUsage::GenerateVerifyMac, scope.now)?;
        if !self.algorithm.is_for(key.spec) {
            return Err(Error::AlgorithmMismatch(key.spec.class()));
        }
        draft.key(key.id, Some(version.number));
        let own = VersionKey::of(&key, version);
        Ok((key.keystore.clone(), MacKey { key_id: key.id, algorithm: self.algorithm, own }))
    }
}

/// An HMAC key on its way to an HSM worker.
pub(crate) struct MacKey {
    pub(crate) key_id: KeyId,
    algorithm: MacAlgorithm,
    own: VersionKey,
}

impl MacKey {
    pub(crate) fn mac(&self, session: &mut dyn HsmSession, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self.own.place(session)? {
            Place::Hsm(backing) => Ok(session.keyed_hash(backing, message)?),
            Place::Opened(secret) => secret.mac(self.algorithm, message),
        }
    }
}

impl Operation for GenerateMac {
    const NAME: OperationName = OperationName::GenerateMac;
    type Output = MessageMac;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<MessageMac>, Error> {
        let (place, key) = self.checked(Self::NAME, scope, draft).await?;
        let (algorithm, message) = (self.algorithm, self.message.clone());
        Ok(Prepared::by_use(place, move |session, _| {
            Ok(MessageMac {
                key_id: key.key_id,
                algorithm,
                bytes: key.mac(session, message.expose_secret())?,
            })
        }))
    }
}
