//! Opens segments in any order, without input or output.

use std::fmt;

use subtle::ConstantTimeEq as _;

use super::{
    Error, Header,
    segment::{SegmentKeys, TAG_LENGTH},
};

/// Opens the segments of one envelope.
///
/// Whoever opens segments in order must also see to it that the last one is reached: only a segment that opens with
/// `is_last` proves that nothing is missing.
pub struct Opener {
    header: Header,
    keys: SegmentKeys,
}

impl Opener {
    /// Checks the header under the data key. [`Error::NotAuthentic`] if either is not what the envelope was sealed
    /// with.
    pub fn new(header: Header, data_key: &[u8]) -> Result<Self, Error> {
        let keys = SegmentKeys::derive(&header.parameters, data_key)?;
        if bool::from(keys.header_tag.ct_eq(&header.tag)) {
            Ok(Self { header, keys })
        } else {
            Err(Error::NotAuthentic)
        }
    }

    /// The authentic header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Opens a segment with its tag, in place, and answers the plaintext within it. `index` counts from 0; `is_last`
    /// is whether the envelope ends with it. A segment that does not open is left as it was.
    pub fn segment<'a>(
        &self,
        index: u32,
        is_last: bool,
        segment: &'a mut [u8],
    ) -> Result<&'a mut [u8], Error> {
        let (ciphertext, tag) = segment.split_last_chunk_mut::<TAG_LENGTH>().ok_or(Error::Truncated)?;
        let full = self.header.segment_size();
        if !is_last && ciphertext.len() < full {
            return Err(Error::Truncated);
        }
        let empty_after_others = ciphertext.is_empty() && index > 0;
        if ciphertext.len() > full || empty_after_others {
            return Err(Error::NotAuthentic);
        }
        self.keys.open(index, is_last, ciphertext, *tag)?;
        Ok(ciphertext)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("header", &self.header).finish_non_exhaustive()
    }
}
