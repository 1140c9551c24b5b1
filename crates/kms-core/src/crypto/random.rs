//! The HSM's random numbers, for code that draws them as it goes.

use sm2::elliptic_curve::rand_core::{TryCryptoRng, TryRng};

use crate::{
    error::Error,
    ports::{HsmError, HsmSession},
};

/// Draws from a session's generator, until that fails.
pub(super) struct HsmRandom<'a> {
    session: &'a mut dyn HsmSession,
    failure: Option<HsmError>,
}

/// The HSM gave no random numbers; [`HsmRandom`] knows why.
#[derive(Debug, thiserror::Error)]
#[error("no random numbers")]
pub(super) struct NoRandom;

/// What `make` makes of random numbers; `None` from it is a defect, unless these ended.
pub(super) fn with_random<T>(
    session: &mut dyn HsmSession,
    make: impl FnOnce(&mut HsmRandom<'_>) -> Option<T>,
) -> Result<T, Error> {
    let mut random = HsmRandom { session, failure: None };
    let made = make(&mut random);
    match random.failure {
        Some(failure) => Err(failure.into()),
        None => made.ok_or(Error::Internal { detail: "what was checked could not be encrypted" }),
    }
}

impl TryRng for HsmRandom<'_> {
    type Error = NoRandom;

    fn try_next_u32(&mut self) -> Result<u32, NoRandom> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandom> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), NoRandom> {
        self.session.fill_random(out).map_err(|error| {
            self.failure = Some(error);
            NoRandom
        })
    }
}

impl TryCryptoRng for HsmRandom<'_> {}
