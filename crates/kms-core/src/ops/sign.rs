//! Sign: a signature by a private key.

use crate::{
    crypto::{MessageType, SigningAlgorithm, Statement, ecdsa_der},
    draft::Draft,
    error::Error,
    key::{BackingKey, KeyId, KeySpec, KeyUsage},
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        version_key::{Place, VersionKey},
    },
    ports::{HsmSession, SigningMechanism},
    service::Scope,
};

/// Signs a message or a digest.
#[derive(Debug, Clone)]
pub struct Sign {
    key: KeySelector,
    statement: Statement,
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key that made it.
    pub key_id: KeyId,
    /// With what.
    pub algorithm: SigningAlgorithm,
    /// ECDSA and SM2: DER; RSA and Ed25519: the bytes of their standard.
    pub bytes: Vec<u8>,
}

impl Sign {
    /// Takes a message of 1 to 4096 bytes, or a digest as long as the algorithm's.
    pub fn new(
        key: KeySelector,
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: Vec<u8>,
    ) -> Result<Self, Error> {
        Ok(Self { key, statement: Statement::new(algorithm, message_type, message)? })
    }
}

impl Operation for Sign {
    const NAME: OperationName = OperationName::Sign;
    type Output = Signature;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Signature>, Error> {
        let key = scope.key(&self.key, draft).await?;
        let version = key.check_use(Self::NAME, KeyUsage::SignVerify, scope.now)?;
        let algorithm = self.statement.algorithm;
        if !algorithm.is_for(key.spec) {
            return Err(Error::AlgorithmMismatch(key.spec.class()));
        }
        draft.key(key.id, Some(version.number));
        let input = self.statement.input(&key.public_key(version)?);
        let (key_id, spec, own) = (key.id, key.spec, VersionKey::of(&key, version));
        Ok(Prepared::by_use(key.keystore.clone(), move |session, _| {
            let bytes = match own.place(session)? {
                Place::Hsm(backing) => sign_in_hsm(session, backing, spec, algorithm, &input)?,
                Place::Opened(secret) => secret.sign(algorithm, &input)?,
            };
            Ok(Signature { key_id, algorithm, bytes })
        }))
    }
}

fn sign_in_hsm(
    session: &mut dyn HsmSession,
    key: &BackingKey,
    spec: KeySpec,
    algorithm: SigningAlgorithm,
    input: &[u8],
) -> Result<Vec<u8>, Error> {
    let mechanism = match algorithm {
        SigningAlgorithm::RsaPss(hash) => SigningMechanism::RsaPss(hash),
        SigningAlgorithm::RsaPkcs1(hash) => SigningMechanism::RsaPkcs1(hash),
        SigningAlgorithm::Ecdsa(_) => SigningMechanism::Ecdsa,
        SigningAlgorithm::Ed25519 => SigningMechanism::EdDsa,
        SigningAlgorithm::Ed25519Ph => {
            return Err(Error::NotOffered { feature: "Ed25519ph with a key in the HSM" });
        }
        SigningAlgorithm::Sm2Sm3 => return Err(Error::NotOffered { feature: "SM2 in the HSM" }),
    };
    let signature = session.sign(key, mechanism, input)?;
    if mechanism != SigningMechanism::Ecdsa {
        return Ok(signature);
    }
    ecdsa_der(spec, &signature).ok_or(Error::Internal { detail: "the HSM's ECDSA signature is none" })
}
