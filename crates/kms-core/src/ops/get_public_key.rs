//! GetPublicKey: the public half of a key pair.

use crate::{
    crypto::{SigningAlgorithm, pem},
    draft::Draft,
    error::Error,
    key::{KeyId, KeySpec, KeyUsage},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared},
    service::Scope,
};

/// Reads the public half of a key pair.
#[derive(Debug, Clone)]
pub struct GetPublicKey {
    /// Whose.
    pub key: KeySelector,
}

/// A public key, and what it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicHalf {
    /// Whose it is.
    pub key_id: KeyId,
    /// The kind of the key.
    pub spec: KeySpec,
    /// What the key is for.
    pub usage: KeyUsage,
    /// With what it signs, if it does.
    pub signing_algorithms: Vec<SigningAlgorithm>,
    /// A SubjectPublicKeyInfo in DER.
    pub der: Vec<u8>,
    /// The same in PEM.
    pub pem: String,
}

impl Operation for GetPublicKey {
    const NAME: OperationName = OperationName::GetPublicKey;
    type Output = PublicHalf;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<PublicHalf>, Error> {
        let key = scope.key(&self.key, draft).await?;
        key.check(Self::NAME, scope.now)?;
        let version = key.current_version().filter(|version| !version.public_key.is_empty());
        let version = version.ok_or(Error::KeyKindUnsupported(key.spec.class()))?;
        draft.key(key.id, Some(version.number));
        let signs =
            |algorithm: &SigningAlgorithm| key.usage == KeyUsage::SignVerify && algorithm.is_for(key.spec);
        Ok(Prepared::Answer(PublicHalf {
            key_id: key.id,
            spec: key.spec,
            usage: key.usage,
            signing_algorithms: SigningAlgorithm::ALL.into_iter().filter(signs).collect(),
            der: version.public_key.clone(),
            pem: pem(&version.public_key),
        }))
    }
}
