//! The backup for the same token: frames in a fixed order. `docs/backup-format.md` describes it for outsiders.

use std::io::{self, Read, Write};

use kms_core::ports::{Revision, StoreKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Counts;
use crate::backup::frames::{Digest, FormatError, FrameReader, FrameWriter, counted, split_counted};

/// Name and version.
pub(in crate::backup) const MAGIC: &[u8] = b"dewpoint-copy 1\n";
const HEADER: u8 = b'H';
const VALUE: u8 = b'V';
const COUNTS: u8 = b'C';
const SEAL: u8 = b'S';

/// What a backup says of itself, before its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// When it was made, RFC 3339.
    pub(super) created: String,
    /// Which deployment's it is; the token says the same of itself.
    pub(super) deployment: Uuid,
    /// The last change of the store that is in it.
    pub(super) revision: Revision,
}

/// Writes a backup from its beginning to its end.
pub(super) struct Writer<W>(FrameWriter<W>);

impl<W: Write> Writer<W> {
    pub(super) fn begin(out: W, header: &Header) -> io::Result<Self> {
        let mut frames = FrameWriter::begin(out, MAGIC)?;
        frames.frame(HEADER, &serde_json::to_vec(header)?)?;
        Ok(Self(frames))
    }

    /// A value as it is stored.
    pub(super) fn value(&mut self, path: &[u8], value: &[u8]) -> io::Result<()> {
        self.0.frame(VALUE, &[&counted(path.len())?, path, value].concat())
    }

    /// Where it is written to.
    pub(super) fn out(&mut self) -> &mut W {
        self.0.out()
    }

    /// Ends the file with what `seal` makes of the digest of all that came before; answers the digest of the
    /// whole file.
    pub(super) fn finish(
        mut self,
        counts: &Counts,
        seal: impl FnOnce(&Digest) -> [u8; 32],
    ) -> io::Result<(W, Digest)> {
        self.0.frame(COUNTS, &serde_json::to_vec(counts)?)?;
        let seal = seal(&self.0.digest());
        self.0.frame(SEAL, &seal)?;
        self.0.finish()
    }
}

/// The end of a backup.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) counts: Counts,
    /// Of all before the seal.
    pub(super) sealed: Digest,
    pub(super) seal: Vec<u8>,
    /// Of the whole file.
    pub(super) digest: Digest,
}

/// What comes next in a backup.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Value(StoreKey, Vec<u8>),
    End(End),
}

/// Reads a backup from its beginning to its end.
pub(super) struct Reader<R> {
    frames: FrameReader<R>,
    last_path: Option<StoreKey>,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(input: R) -> Result<(Self, Header), FormatError> {
        let mut frames = FrameReader::begin(input, MAGIC)?;
        let header = expect(frames.frame()?, HEADER, "it has no header")?;
        let header = serde_json::from_slice(&header);
        let header = header.map_err(|_| FormatError::Damaged("its header cannot be read"))?;
        Ok((Self { frames, last_path: None }, header))
    }

    pub(super) fn next(&mut self) -> Result<Next, FormatError> {
        let (kind, body) = self.frames.frame()?;
        match kind {
            VALUE => self.value(&body),
            COUNTS => self.end(&body).map(Next::End),
            _ => Err(FormatError::Damaged("a frame of an unknown kind")),
        }
    }

    fn value(&mut self, body: &[u8]) -> Result<Next, FormatError> {
        let (path, value) = split_counted(body, 1).ok_or(FormatError::Damaged("a value cannot be read"))?;
        if self.last_path.as_deref().is_some_and(|last| last >= path) {
            return Err(FormatError::Damaged("its values are not in order"));
        }
        self.last_path = Some(path.to_vec());
        Ok(Next::Value(path.to_vec(), value.to_vec()))
    }

    fn end(&mut self, counts: &[u8]) -> Result<End, FormatError> {
        let counts = serde_json::from_slice(counts);
        let counts = counts.map_err(|_| FormatError::Damaged("its counts cannot be read"))?;
        let sealed = self.frames.digest();
        let seal = expect(self.frames.frame()?, SEAL, "it has no seal")?;
        self.frames.end()?;
        Ok(End { counts, sealed, seal, digest: self.frames.digest() })
    }
}

fn expect((kind, body): (u8, Vec<u8>), wanted: u8, missing: &'static str) -> Result<Vec<u8>, FormatError> {
    if kind == wanted { Ok(body) } else { Err(FormatError::Damaged(missing)) }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn header() -> Header {
        Header { created: "2026-11-24T00:00:00Z".to_owned(), deployment: Uuid::from_u128(1), revision: 7 }
    }

    fn seal(digest: &Digest) -> [u8; 32] {
        Sha256::digest([&b"a token's "[..], digest].concat()).into()
    }

    fn written(values: &[(&[u8], &[u8])]) -> (Vec<u8>, Digest) {
        let mut writer = Writer::begin(Vec::new(), &header()).expect("memory can be written");
        for (path, value) in values {
            writer.value(path, value).expect("memory can be written");
        }
        let counts = Counts { values: 2, ..Counts::default() };
        writer.finish(&counts, seal).expect("memory can be written")
    }

    const VALUES: [(&[u8], &[u8]); 2] = [(b"a/1", b"first"), (b"k/1", &[6; 70])];

    /// How many values there are, and the digest, if the file is whole.
    fn read(bytes: &[u8]) -> Result<(usize, Digest), FormatError> {
        let (mut reader, found) = Reader::begin(bytes)?;
        let mut count = 0;
        loop {
            match reader.next()? {
                Next::Value(..) => count += 1,
                Next::End(end) if end.seal == seal(&end.sealed) => {
                    assert_eq!(found, header());
                    return Ok((count, end.digest));
                }
                Next::End(_) => return Err(FormatError::Damaged("its seal is wrong")),
            }
        }
    }

    #[test]
    fn what_is_written_is_read_and_its_digest_is_the_files() {
        let (bytes, digest) = written(&VALUES);
        assert_eq!(digest, <Digest>::from(Sha256::digest(&bytes)));
        assert_eq!(read(&bytes).expect("a whole backup"), (2, digest));
    }

    #[test]
    fn every_truncation_every_changed_byte_and_every_extension_is_refused() {
        let (bytes, _) = written(&VALUES);
        for length in 0..bytes.len() {
            assert!(matches!(read(&bytes[..length]), Err(FormatError::Truncated)), "{length}");
        }
        for place in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut altered = bytes.clone();
                altered[place] ^= bit;
                read(&altered).expect_err("an altered byte");
            }
        }
        read(&[&bytes[..], b"\n"].concat()).expect_err("a longer file");
    }

    #[test]
    fn values_in_another_order_or_twice_are_refused_whatever_their_seal() {
        let [first, second] = VALUES;
        read(&written(&[second, first]).0).expect_err("another order");
        read(&written(&[first, first, second]).0).expect_err("one twice");
    }
}
