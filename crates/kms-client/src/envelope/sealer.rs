//! Seals segments one after the other, without input or output.

use std::fmt;

use super::{
    Error, Header, Suite,
    header::Parameters,
    segment::{SegmentKeys, TAG_LENGTH},
};

/// Seals one envelope: write the header, then every segment followed by its tag, the last one by
/// [`Sealer::finish`].
pub struct Sealer {
    header: Header,
    keys: SegmentKeys,
    pub(super) next_index: u64,
}

impl Sealer {
    /// A sealer with a random salt. `data_key` has [`Suite::key_length`] bytes and may seal many envelopes;
    /// `sealed_key` is what opens to it, and is stored in the header.
    pub fn new(suite: Suite, data_key: &[u8], sealed_key: &[u8]) -> Result<Self, Error> {
        Self::with_parameters(Parameters::random(suite, sealed_key)?, data_key)
    }

    /// A salt must never be used twice with the same data key.
    pub(super) fn with_parameters(parameters: Parameters, data_key: &[u8]) -> Result<Self, Error> {
        let keys = SegmentKeys::derive(&parameters, data_key)?;
        Ok(Self { header: Header { parameters, tag: keys.header_tag }, keys, next_index: 0 })
    }

    /// The header to write before the segments.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Seals a segment that is not the last, in place, and answers its tag. It has [`Header::segment_size`] bytes.
    pub fn seal(&mut self, segment: &mut [u8]) -> Result<[u8; TAG_LENGTH], Error> {
        if segment.len() != self.header.segment_size() {
            return Err(Error::SegmentLength(segment.len()));
        }
        let index = u32::try_from(self.next_index).map_err(|_| Error::TooManySegments)?;
        self.next_index += 1;
        self.keys.seal(index, false, segment)
    }

    /// Seals the last segment, in place, and answers its tag. It is full or shorter, and empty only if the whole
    /// plaintext is.
    pub fn finish(self, segment: &mut [u8]) -> Result<[u8; TAG_LENGTH], Error> {
        let empty_after_others = segment.is_empty() && self.next_index > 0;
        if segment.len() > self.header.segment_size() || empty_after_others {
            return Err(Error::SegmentLength(segment.len()));
        }
        let index = u32::try_from(self.next_index).map_err(|_| Error::TooManySegments)?;
        self.keys.seal(index, true, segment)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header, next_index, .. } = self;
        f.debug_struct("Sealer")
            .field("header", header)
            .field("next_index", next_index)
            .finish_non_exhaustive()
    }
}
