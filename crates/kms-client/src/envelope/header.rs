//! The header: everything that is needed to open an envelope, except the data key.

use super::{Error, Suite};

/// Bytes before the sealed data key: magic, version, suite, segment size, salt, length of the sealed data key.
pub const FIXED_LENGTH: usize = 41;

pub(super) const SALT_LENGTH: usize = 32;
pub(super) const HEADER_TAG_LENGTH: usize = 32;
/// What is written; readers take 2^10 to 2^24 bytes.
pub(super) const SEGMENT_EXPONENT: u8 = 16;

const MAGIC: [u8; 4] = *b"DPEN";
const VERSION: u8 = 1;

/// The header of an envelope, with its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) parameters: Parameters,
    pub(super) tag: [u8; HEADER_TAG_LENGTH],
}

/// What the header's tag and all segments are bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) suite: Suite,
    pub(super) segment_exponent: u8,
    pub(super) salt: [u8; SALT_LENGTH],
    pub(super) sealed_key: Vec<u8>,
}

impl Parameters {
    /// Parameters with a random salt, for one envelope only.
    pub(super) fn random(suite: Suite, sealed_key: &[u8]) -> Result<Self, Error> {
        let mut salt = [0; SALT_LENGTH];
        getrandom::fill(&mut salt).map_err(|_| Error::Randomness)?;
        Ok(Self { suite, segment_exponent: SEGMENT_EXPONENT, salt, sealed_key: sealed_key.to_vec() })
    }

    /// The header without its tag.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let length = u16::try_from(self.sealed_key.len()).ok().filter(|length| *length > 0);
        let length = length.ok_or(Error::SealedKeyLength(self.sealed_key.len()))?;
        let mut bytes = Vec::with_capacity(FIXED_LENGTH + self.sealed_key.len() + HEADER_TAG_LENGTH);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, self.suite as u8, self.segment_exponent]);
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.sealed_key);
        Ok(bytes)
    }
}

impl Header {
    /// How long the whole header is, tag included, from its first [`FIXED_LENGTH`] bytes.
    pub fn length_from(fixed: &[u8; FIXED_LENGTH]) -> Result<usize, Error> {
        let (_, sealed_key_length) = parse_fixed(fixed)?;
        Ok(FIXED_LENGTH + sealed_key_length + HEADER_TAG_LENGTH)
    }

    /// Reads a header from the start of an envelope; what follows it is ignored. Nothing is authenticated until
    /// [`super::Opener::new`].
    pub fn parse(envelope: &[u8]) -> Result<Self, Error> {
        let (fixed, rest) = envelope.split_first_chunk().ok_or(Error::Truncated)?;
        let (mut parameters, sealed_key_length) = parse_fixed(fixed)?;
        let (sealed_key, rest) = rest.split_at_checked(sealed_key_length).ok_or(Error::Truncated)?;
        let tag = *rest.first_chunk().ok_or(Error::Truncated)?;
        parameters.sealed_key = sealed_key.to_vec();
        Ok(Self { parameters, tag })
    }

    /// The header's bytes, with which an envelope begins.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = self.parameters.to_bytes()?;
        bytes.extend_from_slice(&self.tag);
        Ok(bytes)
    }

    /// Bytes of the header, tag included: where the first segment begins.
    pub fn length(&self) -> usize {
        FIXED_LENGTH + self.parameters.sealed_key.len() + HEADER_TAG_LENGTH
    }

    /// The suite of the segments.
    pub fn suite(&self) -> Suite {
        self.parameters.suite
    }

    /// Bytes of plaintext in every segment but the last.
    pub fn segment_size(&self) -> usize {
        1 << self.parameters.segment_exponent
    }

    /// The data key as the service sealed it.
    pub fn sealed_key(&self) -> &[u8] {
        &self.parameters.sealed_key
    }
}

/// The fixed part, with a sealed data key that is still empty, and that key's length.
fn parse_fixed(fixed: &[u8; FIXED_LENGTH]) -> Result<(Parameters, usize), Error> {
    let [m0, m1, m2, m3, version, suite, segment_exponent, salt @ .., l0, l1] = *fixed;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(Error::NotAnEnvelope);
    }
    if version != VERSION {
        return Err(Error::UnknownVersion(version));
    }
    let suite = Suite::from_byte(suite).ok_or(Error::UnknownSuite(suite))?;
    if !(10..=24).contains(&segment_exponent) {
        return Err(Error::SegmentSize(segment_exponent));
    }
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if length == 0 {
        return Err(Error::SealedKeyLength(length));
    }
    Ok((Parameters { suite, segment_exponent, salt, sealed_key: Vec::new() }, length))
}
