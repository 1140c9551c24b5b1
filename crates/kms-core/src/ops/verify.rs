//! Verify: whether a signature is a key's.

use crate::{
    crypto::{self, MessageType, SigningAlgorithm, Statement},
    draft::Draft,
    error::{Error, Field},
    key::{KeyId, KeyUsage},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared},
    service::Scope,
};

/// The longest signature that is looked at: RSA-4096's has 512 bytes.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// Tells whether a signature is a key's; needs no HSM.
#[derive(Debug, Clone)]
pub struct Verify {
    key: KeySelector,
    statement: Statement,
    signature: Vec<u8>,
}

/// What was found out about a signature or a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The key that should have made it.
    pub key_id: KeyId,
    /// Whether it did.
    pub valid: bool,
}

impl Verify {
    /// Takes what [`Sign`](super::Sign) takes, and a signature of 1 to 1024 bytes. What is in the signature is no
    /// matter of form: what no key can have made is not valid.
    pub fn new(
        key: KeySelector,
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<Self, Error> {
        if !(1..=MAX_SIGNATURE_BYTES).contains(&signature.len()) {
            return Err(Error::invalid(Field::Signature, "must be 1 to 1024 bytes"));
        }
        Ok(Self { key, statement: Statement::new(algorithm, message_type, message)?, signature })
    }
}

impl Operation for Verify {
    const NAME: OperationName = OperationName::Verify;
    type Output = Validity;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Validity>, Error> {
        let key = scope.key(&self.key, draft).await?;
        let version = key.check_use(Self::NAME, KeyUsage::SignVerify, scope.now)?;
        let algorithm = self.statement.algorithm;
        if !algorithm.is_for(key.spec) {
            return Err(Error::AlgorithmMismatch(key.spec.class()));
        }
        draft.key(key.id, Some(version.number));
        let public_key = key.public_key(version)?;
        let input = self.statement.input(&public_key);
        let valid = crypto::verify(&public_key, algorithm, &input, &self.signature);
        Ok(Prepared::Answer(Validity { key_id: key.id, valid }))
    }
}
