//! DeriveSharedSecret: what a private key and a peer's public key agree on.

use crate::{
    crypto::{AgreementAlgorithm, PublicKey},
    draft::Draft,
    error::{Error, Field},
    key::{KeyId, KeyUsage},
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        version_key::{Place, VersionKey},
    },
    secret::SecretBytes,
    service::Scope,
};

/// Agrees on a secret with a peer.
#[derive(Debug, Clone)]
pub struct DeriveSharedSecret {
    /// The key that agrees.
    pub key: KeySelector,
    /// How.
    pub algorithm: AgreementAlgorithm,
    /// The peer's SubjectPublicKeyInfo, in DER.
    pub public_key: Vec<u8>,
}

/// What was agreed on.
#[derive(Debug)]
pub struct SharedSecret {
    /// The key that agreed.
    pub key_id: KeyId,
    /// The x coordinate of the shared point: to be put through a key derivation, never used as a key.
    pub secret: SecretBytes,
}

impl Operation for DeriveSharedSecret {
    const NAME: OperationName = OperationName::DeriveSharedSecret;
    type Output = SharedSecret;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<SharedSecret>, Error> {
        let key = scope.key(&self.key, draft).await?;
        let version = key.check_use(Self::NAME, KeyUsage::KeyAgreement, scope.now)?;
        let AgreementAlgorithm::Ecdh = self.algorithm;
        // NIST SP 800-56A §5.6.2.3.3: the peer's point is checked before the private key meets it.
        let peer = PublicKey::parse(key.spec, &self.public_key);
        let peer = peer.and_then(|peer| Some((peer.point()?, peer))).ok_or(Error::invalid(
            Field::PublicKey,
            "must be a SubjectPublicKeyInfo in DER with an uncompressed point of the key's curve",
        ))?;
        draft.key(key.id, Some(version.number));
        let (key_id, own) = (key.id, VersionKey::of(&key, version));
        Ok(Prepared::by_use(key.keystore.clone(), move |session, _| {
            let secret = match own.place(session)? {
                Place::Hsm(backing) => session.agree(backing, &peer.0)?,
                Place::Opened(own) => own.agree(&peer.1)?,
            };
            Ok(SharedSecret { key_id, secret })
        }))
    }
}
