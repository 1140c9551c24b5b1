//! Where the segments of an envelope lie.

use std::ops::{Range, RangeInclusive};

use super::{Error, Header, segment::TAG_LENGTH};

/// The segments of an envelope of known length. The length of a file is no proof: only the last segment, when it
/// opens as the last, shows that none is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    header_length: u64,
    segment_size: u64,
    envelope_length: u64,
    segment_count: u64,
}

impl Layout {
    /// The layout of an envelope of `envelope_length` bytes, header included.
    pub fn new(header: &Header, envelope_length: u64) -> Result<Self, Error> {
        let header_length = header.length() as u64;
        let segment_size = header.segment_size() as u64;
        let sealed_size = segment_size + TAG_LENGTH as u64;
        let body = envelope_length.checked_sub(header_length).ok_or(Error::Truncated)?;
        let segment_count = body.div_ceil(sealed_size);
        if segment_count > 1 << 32 {
            return Err(Error::TooManySegments);
        }
        let layout = Self { header_length, segment_size, envelope_length, segment_count };
        // The last segment holds a tag, and at least one byte unless it is the only one.
        let shortest = TAG_LENGTH as u64 + u64::from(segment_count > 1);
        if body == 0 || envelope_length - layout.offset(segment_count - 1) < shortest {
            return Err(Error::Truncated);
        }
        Ok(layout)
    }

    /// Bytes of plaintext.
    pub fn plaintext_length(&self) -> u64 {
        self.envelope_length - self.header_length - self.segment_count * TAG_LENGTH as u64
    }

    /// The index of the last segment.
    pub fn last_index(&self) -> u32 {
        // The count is 1 to 2^32.
        u32::try_from(self.segment_count - 1).unwrap_or(u32::MAX)
    }

    /// Where segment `index` and its tag lie in the envelope; empty beyond the last.
    pub fn segment(&self, index: u32) -> Range<u64> {
        let end = self.offset(u64::from(index) + 1).min(self.envelope_length);
        self.offset(u64::from(index)).min(end)..end
    }

    /// The segments that hold a range of the plaintext; `None` for an empty range.
    pub fn segments_of(&self, range: &Range<u64>) -> Result<Option<RangeInclusive<u32>>, Error> {
        let length = self.plaintext_length();
        if range.end > length {
            return Err(Error::RangeBeyondEnd { length });
        }
        if range.is_empty() {
            return Ok(None);
        }
        let holder = |byte: u64| u32::try_from(byte / self.segment_size).map_err(|_| Error::TooManySegments);
        Ok(Some(holder(range.start)?..=holder(range.end - 1)?))
    }

    /// Where the plaintext of segment `index` begins in the whole plaintext.
    pub fn plaintext_start(&self, index: u32) -> u64 {
        u64::from(index) * self.segment_size
    }

    /// Where a segment begins in the envelope.
    fn offset(&self, index: u64) -> u64 {
        self.header_length + index * (self.segment_size + TAG_LENGTH as u64)
    }
}
