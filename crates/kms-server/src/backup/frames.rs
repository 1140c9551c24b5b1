//! The frames that backup files are made of, written and read once through; and the digest of a file.

use std::io::{self, Read, Write};

use kms_core::ports::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use sha2::{Digest as _, Sha256};

/// No frame is longer: a value, its store key, and a proof for each of its key versions, of which a value has
/// room for fewer than two thousand.
const MAX_FRAME_BYTES: usize = 2 * MAX_VALUE_BYTES + MAX_KEY_BYTES;

/// SHA-256 of a file, or of its beginning.
pub(crate) type Digest = [u8; 32];

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It cannot be read.
    #[error(transparent)]
    Io(io::Error),
    /// It begins otherwise.
    #[error("it is no Dewpoint backup, or one of another version")]
    NotABackup,
    /// It ends early.
    #[error("it is cut off")]
    Truncated,
    /// It is not what a backup is.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

impl From<io::Error> for FormatError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

/// Writes frames after the name of a format.
pub(super) struct FrameWriter<W> {
    out: W,
    digest: Sha256,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn begin(out: W, magic: &[u8]) -> io::Result<Self> {
        let mut writer = Self { out, digest: Sha256::new() };
        writer.write(magic)?;
        Ok(writer)
    }

    pub(super) fn frame(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let too_long = || io::Error::other("a value is too long for a backup");
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME_BYTES);
        self.write(&[kind])?;
        self.write(&length.ok_or_else(too_long)?.to_be_bytes())?;
        self.write(body)
    }

    /// Of all that was written.
    pub(super) fn digest(&self) -> Digest {
        self.digest.clone().finalize().into()
    }

    /// Where it is written to.
    pub(super) fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// All of it, and its digest.
    pub(super) fn finish(mut self) -> io::Result<(W, Digest)> {
        self.out.flush()?;
        Ok((self.out, self.digest.finalize().into()))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes)
    }
}

/// Reads frames after the name of a format.
pub(super) struct FrameReader<R> {
    input: R,
    digest: Sha256,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn begin(input: R, magic: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Self { input, digest: Sha256::new() };
        let mut found = vec![0; magic.len()];
        reader.read(&mut found)?;
        if found == magic { Ok(reader) } else { Err(FormatError::NotABackup) }
    }

    pub(super) fn frame(&mut self) -> Result<(u8, Vec<u8>), FormatError> {
        let mut head = [0; 5];
        self.read(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(FormatError::Damaged("a frame is longer than any is"));
        }
        let mut body = vec![0; length];
        self.read(&mut body)?;
        Ok((kind, body))
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), FormatError> {
        if self.input.read(&mut [0])? == 0 {
            Ok(())
        } else {
            Err(FormatError::Damaged("something follows its end"))
        }
    }

    /// Of all that was read.
    pub(super) fn digest(&self) -> Digest {
        self.digest.clone().finalize().into()
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), FormatError> {
        self.input.read_exact(bytes)?;
        self.digest.update(bytes);
        Ok(())
    }
}

/// As many items of `size` bytes as the number before them says, and what follows them.
pub(super) fn split_counted(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*count)) * size)
}

/// A number of items, as it goes before them.
pub(super) fn counted(count: usize) -> io::Result<[u8; 2]> {
    u16::try_from(count).map(u16::to_be_bytes).map_err(io::Error::other)
}
