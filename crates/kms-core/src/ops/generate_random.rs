//! GenerateRandom: random bytes of the HSM.

use crate::{
    draft::Draft,
    error::{Error, Field},
    operation::OperationName,
    ops::{Operation, Prepared},
    secret::SecretBytes,
    service::Scope,
};

/// The most random bytes of one call. DEW: random_data_length, 8192 bits.
const MAX_RANDOM_BYTES: usize = 1024;

/// Answers random bytes of the HSM.
#[derive(Debug, Clone, Copy)]
pub struct GenerateRandom {
    length: usize,
}

impl GenerateRandom {
    /// Takes a length of 1 to 1024 bytes.
    pub fn new(length: usize) -> Result<Self, Error> {
        if (1..=MAX_RANDOM_BYTES).contains(&length) {
            Ok(Self { length })
        } else {
            Err(Error::invalid(Field::Length, "must be 1 to 1024 bytes"))
        }
    }
}

impl Operation for GenerateRandom {
    const NAME: OperationName = OperationName::GenerateRandom;
    type Output = SecretBytes;

    async fn prepare(&self, _: &Scope<'_>, _: &mut Draft) -> Result<Prepared<SecretBytes>, Error> {
        let length = self.length;
        Ok(Prepared::by_use(None, move |session, _| {
            let mut random = SecretBytes::zeroed(length);
            session.fill_random(random.expose_secret_mut())?;
            Ok(random)
        }))
    }
}
