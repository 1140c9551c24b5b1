//! VerifyMac: whether an HMAC is a key's.

use subtle::ConstantTimeEq as _;

use crate::{
    crypto::MacAlgorithm,
    draft::Draft,
    error::{Error, Field},
    operation::OperationName,
    ops::{GenerateMac, KeySelector, Operation, Prepared, Validity},
    service::Scope,
};

/// Tells whether an HMAC is a key's.
#[derive(Debug, Clone)]
pub struct VerifyMac {
    generate: GenerateMac,
    mac: Vec<u8>,
}

impl VerifyMac {
    /// Takes what [`GenerateMac`] takes, and an HMAC of 1 to 64 bytes; one of another length than the algorithm's is
    /// not valid.
    pub fn new(
        key: KeySelector,
        algorithm: MacAlgorithm,
        message: Vec<u8>,
        mac: Vec<u8>,
    ) -> Result<Self, Error> {
        if !(1..=64).contains(&mac.len()) {
            return Err(Error::invalid(Field::Mac, "must be 1 to 64 bytes"));
        }
        Ok(Self { generate: GenerateMac::new(key, algorithm, message)?, mac })
    }
}

impl Operation for VerifyMac {
    const NAME: OperationName = OperationName::VerifyMac;
    type Output = Validity;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Validity>, Error> {
        let (place, key) = self.generate.checked(Self::NAME, scope, draft).await?;
        let (message, given) = (self.generate.message.clone(), self.mac.clone());
        Ok(Prepared::by_use(place, move |session, _| {
            let valid = key.mac(session, message.expose_secret())?.ct_eq(&given).into();
            Ok(Validity { key_id: key.key_id, valid })
        }))
    }
}
