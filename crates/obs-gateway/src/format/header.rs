//! What a stream begins with.

use super::{Error, SEGMENT_EXPONENT, Suite};

/// Bytes of the header: magic, version, suite, segment size, salt.
pub const HEADER_LENGTH: usize = 39;

const MAGIC: [u8; 4] = *b"DPOS";
const VERSION: u8 = 1;

/// The header of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    suite: Suite,
    salt: [u8; 32],
}

impl Header {
    /// A header with a random salt: for one stream only.
    pub fn random(suite: Suite) -> Result<Self, Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|_| Error::Randomness)?;
        Ok(Self { suite, salt })
    }

    /// Reads a header. Nothing is authentic until a segment was opened with it.
    pub fn parse(bytes: &[u8; HEADER_LENGTH]) -> Result<Self, Error> {
        let [m0, m1, m2, m3, version, suite, exponent, salt @ ..] = *bytes;
        if [m0, m1, m2, m3] != MAGIC || version != VERSION || exponent != SEGMENT_EXPONENT {
            return Err(Error::UnknownFormat);
        }
        Ok(Self { suite: Suite::from_byte(suite).ok_or(Error::UnknownFormat)?, salt })
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        let (fixed, salt) = bytes.split_at_mut(7);
        fixed[..4].copy_from_slice(&MAGIC);
        fixed[4..].copy_from_slice(&[VERSION, self.suite as u8, SEGMENT_EXPONENT]);
        salt.copy_from_slice(&self.salt);
        bytes
    }

    /// The suite of the segments.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The salt, which no other stream has.
    pub fn salt(&self) -> &[u8; 32] {
        &self.salt
    }
}
