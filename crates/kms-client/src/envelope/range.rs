//! Reads parts of an envelope without opening all of it.

use std::{io::SeekFrom, ops::Range};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{Error, Layout, Opener, TAG_LENGTH};

/// Reads ranges of the plaintext of an envelope that begins at the reader's position 0.
#[derive(Debug)]
pub struct RangeReader<Reader> {
    reader: Reader,
    opener: Opener,
    layout: Layout,
    buffer: SegmentBuffer,
}

impl<Reader: AsyncRead + AsyncSeek + Unpin> RangeReader<Reader> {
    /// Finds the envelope's end and opens the last segment, which proves that the length is authentic.
    pub async fn new(opener: Opener, mut reader: Reader) -> Result<Self, Error> {
        let layout = Layout::new(opener.header(), reader.seek(SeekFrom::End(0)).await?)?;
        let buffer = SegmentBuffer(Zeroizing::new(vec![0; opener.header().segment_size() + TAG_LENGTH]));
        let mut ranges = Self { reader, opener, layout, buffer };
        ranges.segment(layout.last_index()).await?;
        Ok(ranges)
    }

    /// Bytes of plaintext.
    pub fn plaintext_length(&self) -> u64 {
        self.layout.plaintext_length()
    }

    /// Writes a range of the plaintext. Reads and opens the segments that hold it, whole. After an error, what was
    /// written is authentic and in its place, but not all of the range.
    pub async fn read_range<Writer>(&mut self, range: Range<u64>, writer: &mut Writer) -> Result<(), Error>
    where
        Writer: AsyncWrite + Unpin + ?Sized,
    {
        for index in self.layout.segments_of(&range)?.into_iter().flatten() {
            let start = self.layout.plaintext_start(index);
            let plaintext = self.segment(index).await?;
            // Both are within the segment, which is at most 2^24 bytes.
            let within = |position: u64| {
                usize::try_from(position.saturating_sub(start)).unwrap_or(usize::MAX).min(plaintext.len())
            };
            writer.write_all(&plaintext[within(range.start)..within(range.end)]).await?;
        }
        writer.flush().await?;
        Ok(())
    }

    /// The plaintext of one segment.
    async fn segment(&mut self, index: u32) -> Result<&[u8], Error> {
        let place = self.layout.segment(index);
        self.reader.seek(SeekFrom::Start(place.start)).await?;
        let length = usize::try_from(place.end - place.start).map_err(|_| Error::Truncated)?;
        let sealed = self.buffer.0.get_mut(..length).ok_or(Error::Truncated)?;
        self.reader.read_exact(sealed).await?;
        Ok(self.opener.segment(index, index == self.layout.last_index(), sealed)?)
    }
}

/// Plaintext, wiped on drop and not shown.
struct SegmentBuffer(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for SegmentBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentBuffer").finish_non_exhaustive()
    }
}
