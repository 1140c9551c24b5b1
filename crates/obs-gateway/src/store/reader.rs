//! Reads a range of an object, segment by segment: each is authentic before a byte of it is handed out.

use std::{
    fs::File,
    mem,
    ops::{Range, RangeInclusive},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{Error, Object, Part};
use crate::format::{self, HEADER_LENGTH, Header, Layout, ObjectKey, SEGMENT_LENGTH, StreamCipher};

/// Reads a range of one object. It holds the object, so the streams stay until it is dropped.
#[derive(Debug)]
pub struct ObjectReader {
    bucket: String,
    object: Arc<Object>,
    key: Option<ObjectKey>,
    /// What is still to be read, as a range of the whole plaintext.
    range: Range<u64>,
    /// The part that is being read, and where its plaintext begins in the whole.
    part: usize,
    part_start: u64,
    open: Option<OpenPart>,
}

#[derive(Debug)]
struct OpenPart {
    file: File,
    sealed: Option<Sealed>,
}

#[derive(Debug)]
struct Sealed {
    cipher: StreamCipher,
    layout: Layout,
    /// The wanted part of the stream's plaintext, and the segments that hold it.
    wanted: Range<u64>,
    segments: RangeInclusive<u32>,
}

impl ObjectReader {
    /// Begins to read `range`, which must lie in the plaintext. Before a byte is read it is clear that all streams
    /// have the length that they were stored with, and that they are those that the object was made of.
    /// [`Error::Damaged`] if not, or if an encrypted object is read without its key.
    pub fn new(
        bucket: &str,
        object: Arc<Object>,
        key: Option<ObjectKey>,
        range: Range<u64>,
    ) -> Result<Self, Error> {
        match (&object.record.encryption, &key) {
            (Some(_), Some(key)) => object.record.authenticate(bucket, key)?,
            (None, None) => {}
            _ => return Err(format::Error::NotAuthentic.into()),
        }
        let sizes: u64 = object.record.parts.iter().map(|part| part.size).sum();
        if sizes != object.record.size || range.end > sizes {
            return Err(format::Error::Length.into());
        }
        for part in &object.record.parts {
            let length = if key.is_some() { Layout::new(part.size)?.stream_length() } else { part.size };
            // A stream that is missing was cut off as a whole.
            let found = object.file(part).metadata().map_err(|_| format::Error::Length)?;
            if found.len() != length {
                return Err(format::Error::Length.into());
            }
        }
        Ok(Self { bucket: bucket.to_owned(), object, key, range, part: 0, part_start: 0, open: None })
    }

    /// The next bytes, at most a segment; `None` at the end of the range.
    pub fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, Error> {
        while !self.range.is_empty() {
            let Some(part) = self.object.record.parts.get(self.part) else {
                return Err(format::Error::Length.into());
            };
            let part_end = self.part_start + part.size;
            if self.range.start >= part_end {
                (self.part, self.part_start, self.open) = (self.part + 1, part_end, None);
                continue;
            }
            let wanted = self.range.start - self.part_start..self.range.end.min(part_end) - self.part_start;
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.open(part, wanted.clone())?,
            };
            let bytes = open.read(&wanted)?;
            self.range.start += bytes.len() as u64;
            self.open = Some(open);
            return Ok(Some(bytes));
        }
        Ok(None)
    }

    fn open(&self, part: &Part, wanted: Range<u64>) -> Result<OpenPart, Error> {
        let file = File::open(self.object.file(part))?;
        let Some(key) = &self.key else { return Ok(OpenPart { file, sealed: None }) };
        let mut bytes = [0; HEADER_LENGTH];
        read_exact(&file, &mut bytes, 0)?;
        let header = Header::parse(&bytes)?;
        if part.salt.as_ref() != Some(header.salt()) {
            return Err(format::Error::NotAuthentic.into());
        }
        let cipher = StreamCipher::new(key, &header, &self.object.record.binding(&self.bucket, part))?;
        let layout = Layout::new(part.size)?;
        let segments = layout.segments_of(&wanted).ok_or(format::Error::Length)?;
        Ok(OpenPart { file, sealed: Some(Sealed { cipher, layout, wanted, segments }) })
    }
}

impl OpenPart {
    /// The next bytes of the range `wanted` of this part's plaintext.
    fn read(&mut self, wanted: &Range<u64>) -> Result<Vec<u8>, Error> {
        let Some(sealed) = &mut self.sealed else {
            let length = wanted.end - wanted.start;
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(SEGMENT_LENGTH);
            let mut bytes = vec![0; length];
            read_exact(&self.file, &mut bytes, wanted.start)?;
            return Ok(bytes);
        };
        let index = sealed.segments.next().ok_or(format::Error::Length)?;
        let place = sealed.layout.segment(index);
        let length = usize::try_from(place.end - place.start).map_err(|_| format::Error::Length)?;
        let mut segment = Zeroizing::new(vec![0; length]);
        read_exact(&self.file, &mut segment, place.start)?;
        sealed.cipher.open(index, index == sealed.layout.last_index(), &mut segment)?;
        let within = sealed.layout.within(index, &sealed.wanted);
        if !within.is_empty() && within == (0..segment.len()) {
            return Ok(mem::take(&mut *segment));
        }
        let bytes = segment.get(within).filter(|bytes| !bytes.is_empty());
        Ok(bytes.ok_or(format::Error::Length)?.to_vec())
    }
}

/// A file that ends too early was cut after its length was looked at.
fn read_exact(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
    file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => format::Error::Length.into(),
        _ => Error::Io(error),
    })
}
