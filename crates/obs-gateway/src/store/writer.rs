//! Writes one stream: sealed or plain, hashed on the way, on the disk when it is finished.

use std::{
    fs::File,
    io::Write as _,
    mem,
    path::{Path, PathBuf},
};

use md5::{Digest as _, Md5};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Error, Part,
    files::{discard, sync_parent},
};
use crate::format::{Binding, Header, ObjectKey, SEGMENT_LENGTH, StreamCipher, TAG_LENGTH};

/// Where a stream will belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPlace {
    /// The bucket.
    pub bucket: String,
    /// The object's key.
    pub object: String,
    /// The multipart upload; empty for an object that comes in one piece.
    pub upload_id: String,
    /// The part's number; 0 for an object that comes in one piece.
    pub part_number: u32,
}

/// A stream that is being written. It is removed again unless it is finished and then kept.
#[derive(Debug)]
pub struct StreamWriter {
    file: File,
    stored: Pending,
    number: u32,
    sealing: Option<Sealing>,
    etag: Md5,
    plaintext: Md5,
    size: u64,
}

/// A stream that is on the disk, and that no record names yet.
#[derive(Debug)]
pub struct Stored {
    /// What a record will say of it.
    pub part: Part,
    /// MD5 of its plaintext, which a client's Content-MD5 is about.
    pub plaintext_md5: [u8; 16],
    pending: Pending,
}

#[derive(Debug)]
struct Sealing {
    cipher: StreamCipher,
    salt: [u8; 32],
    index: u32,
    segment: Zeroizing<Vec<u8>>,
}

/// A file that is removed when it is dropped, unless a record names it.
#[derive(Debug)]
struct Pending(PathBuf);

impl StreamWriter {
    /// Begins a stream in the directory `data`; with a key, it is sealed for its place.
    pub(super) fn begin(data: &Path, place: &StreamPlace, key: Option<&ObjectKey>) -> Result<Self, Error> {
        let path = data.join(Uuid::new_v4().simple().to_string());
        let file = File::create_new(&path)?;
        let mut writer = Self {
            file,
            stored: Pending(path),
            number: place.part_number,
            sealing: None,
            etag: Md5::new(),
            plaintext: Md5::new(),
            size: 0,
        };
        if let Some(key) = key {
            let header = Header::random(key.suite())?;
            let cipher = StreamCipher::new(key, &header, &place.binding())?;
            writer.store(&header.to_bytes())?;
            let segment = Zeroizing::new(Vec::with_capacity(SEGMENT_LENGTH + TAG_LENGTH));
            writer.sealing = Some(Sealing { cipher, salt: *header.salt(), index: 0, segment });
        }
        Ok(writer)
    }

    /// Takes the next bytes of plaintext, however many.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.plaintext.update(bytes);
        self.size += bytes.len() as u64;
        let Some(mut sealing) = self.sealing.take() else { return self.store(bytes) };
        while !bytes.is_empty() {
            // A full segment waits until there is more, for the last one is sealed as the last.
            if sealing.segment.len() == SEGMENT_LENGTH {
                self.store_segment(&mut sealing, false)?;
            }
            let room = SEGMENT_LENGTH - sealing.segment.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            sealing.segment.extend_from_slice(now);
            bytes = later;
        }
        self.sealing = Some(sealing);
        Ok(())
    }

    /// Ends the stream: it and its directory entry survive a power cut when this returns.
    pub fn finish(mut self) -> Result<Stored, Error> {
        let mut salt = None;
        if let Some(mut sealing) = self.sealing.take() {
            self.store_segment(&mut sealing, true)?;
            salt = Some(sealing.salt);
        }
        self.file.sync_all()?;
        sync_parent(&self.stored.0)?;
        let file = self.stored.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let etag = hex::encode(self.etag.finalize());
        let part = Part { number: self.number, file, size: self.size, etag, salt };
        Ok(Stored { part, plaintext_md5: self.plaintext.finalize().into(), pending: self.stored })
    }

    fn store_segment(&mut self, sealing: &mut Sealing, is_last: bool) -> Result<(), Error> {
        sealing.cipher.seal(sealing.index, is_last, &mut sealing.segment)?;
        self.store(&sealing.segment)?;
        sealing.segment.clear();
        if !is_last {
            sealing.index = sealing.index.checked_add(1).ok_or(Error::TooLarge)?;
        }
        Ok(())
    }

    fn store(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.etag.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }
}

impl Stored {
    /// A record names it now.
    pub(super) fn keep(mut self) {
        // Nothing is left to remove.
        drop(mem::take(&mut self.pending.0));
    }
}

impl StreamPlace {
    fn binding(&self) -> Binding<'_> {
        let Self { bucket, object, upload_id, part_number } = self;
        Binding { bucket, object, upload_id, part_number: *part_number }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            discard(&self.0);
        }
    }
}
