//! Where the segments of a stream lie.

use std::ops::{Range, RangeInclusive};

use super::{Error, HEADER_LENGTH, SEGMENT_LENGTH, TAG_LENGTH};

const SEALED_LENGTH: u64 = (SEGMENT_LENGTH + TAG_LENGTH) as u64;
const MOST_SEGMENTS: u64 = 1 << 32;

/// The segments of a stream of known plaintext length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    plaintext_length: u64,
}

impl Layout {
    /// The layout of a stream of this many bytes of plaintext.
    pub fn new(plaintext_length: u64) -> Result<Self, Error> {
        let layout = Self { plaintext_length };
        if layout.segment_count() > MOST_SEGMENTS { Err(Error::TooLong) } else { Ok(layout) }
    }

    /// Bytes of the whole stream.
    pub fn stream_length(&self) -> u64 {
        HEADER_LENGTH as u64 + self.plaintext_length + self.segment_count() * TAG_LENGTH as u64
    }

    /// The index of the last segment.
    pub fn last_index(&self) -> u32 {
        // The count is 1 to 2^32.
        u32::try_from(self.segment_count() - 1).unwrap_or(u32::MAX)
    }

    /// Where segment `index` and its tag lie in the stream; empty beyond the last.
    pub fn segment(&self, index: u32) -> Range<u64> {
        let start = (HEADER_LENGTH as u64 + u64::from(index) * SEALED_LENGTH).min(self.stream_length());
        start..(start + SEALED_LENGTH).min(self.stream_length())
    }

    /// The segments that hold a range of the plaintext; `None` for an empty range or one beyond the end.
    pub fn segments_of(&self, range: &Range<u64>) -> Option<RangeInclusive<u32>> {
        if range.is_empty() || range.end > self.plaintext_length {
            return None;
        }
        let holder = |byte: u64| u32::try_from(byte / SEGMENT_LENGTH as u64).ok();
        Some(holder(range.start)?..=holder(range.end - 1)?)
    }

    /// The part of a range of the plaintext that segment `index` holds, counted from the segment's start.
    pub fn within(&self, index: u32, range: &Range<u64>) -> Range<usize> {
        let start = u64::from(index) * SEGMENT_LENGTH as u64;
        let clamped = |byte: u64| {
            // At most the length of a segment.
            usize::try_from(byte.saturating_sub(start)).unwrap_or(usize::MAX).min(SEGMENT_LENGTH)
        };
        clamped(range.start)..clamped(range.end)
    }

    /// An empty stream has one empty segment, so that its emptiness is authentic.
    fn segment_count(self) -> u64 {
        self.plaintext_length.div_ceil(SEGMENT_LENGTH as u64).max(1)
    }
}
