//! The backup for another token: frames in a fixed order. `docs/backup-format.md` describes it for outsiders.

use std::io::{self, Read, Write};

use kms_core::Carried;
use kms_hsm::{PROOF_BYTES, Transport};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(super) use super::frames::Digest;
pub use super::frames::FormatError;
use super::frames::{FrameReader, FrameWriter, counted, split_counted};

/// Name and version.
pub(super) const MAGIC: &[u8] = b"dewpoint-backup 1\n";
const HEADER: u8 = b'H';
const VALUE: u8 = b'V';
const SEAL: u8 = b'S';
const SEAL_BYTES: usize = 32;
/// Leads what the seal is computed of, so that no other use of HMAC gives a seal.
const SEAL_LABEL: &[u8] = b"dewpoint/v1/backup-seal";

pub(super) type Proof = [u8; PROOF_BYTES];

/// What a backup says of itself, before its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// When it was made, RFC 3339.
    pub(super) created: String,
    pub(super) source: Source,
    /// SHA-256 of the transfer key's file that it was made for, in hex.
    pub(super) transfer_key: String,
    pub(super) counts: Counts,
    /// The transport key, by RSA-OAEP under the transfer key.
    #[serde(with = "hex")]
    transport_key: Vec<u8>,
    /// The key of the seal, wrapped under the transport key.
    #[serde(with = "hex")]
    seal_key: Vec<u8>,
}

/// Where the keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) deployment: Uuid,
    pub(super) token_label: String,
    pub(super) token_serial: String,
    pub(super) root_generations: Vec<u32>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    pub(super) values: u64,
    pub(super) keys: u64,
    pub(super) key_versions: u64,
}

impl Counts {
    pub(super) fn add(&mut self, value: &Carried) {
        self.values += 1;
        if let Some(record) = value.key() {
            self.keys += 1;
            self.key_versions += u64::try_from(record.versions.len()).unwrap_or(u64::MAX);
        }
    }
}

impl Header {
    pub(super) fn new(
        created: String,
        source: Source,
        transfer_key: String,
        counts: Counts,
        transport: Transport,
    ) -> Self {
        let Transport { transport_key, seal_key } = transport;
        Self { created, source, transfer_key, counts, transport_key, seal_key }
    }

    pub(super) fn transport(&self) -> Transport {
        Transport { transport_key: self.transport_key.clone(), seal_key: self.seal_key.clone() }
    }
}

/// A stored value, its key versions wrapped under the transport key, each with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) path: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) proofs: Vec<Proof>,
}

impl Value {
    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        body.extend(counted(self.path.len())?);
        body.extend(&self.path);
        body.extend(counted(self.proofs.len())?);
        body.extend(self.proofs.as_flattened());
        body.extend(&self.payload);
        Ok(body)
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (path, rest) = split_counted(body, 1)?;
        let (proofs, payload) = split_counted(rest, PROOF_BYTES)?;
        let (proofs, _) = proofs.as_chunks();
        Some(Self { path: path.to_vec(), payload: payload.to_vec(), proofs: proofs.to_vec() })
    }
}

/// What the seal of a file is computed of, given the digest of all that comes before it.
fn sealed_bytes(before: Digest) -> Vec<u8> {
    [SEAL_LABEL, &before].concat()
}

/// Writes a backup from its beginning to its end.
pub(super) struct Writer<W>(FrameWriter<W>);

impl<W: Write> Writer<W> {
    pub(super) fn begin(out: W, header: &Header) -> io::Result<Self> {
        let mut frames = FrameWriter::begin(out, MAGIC)?;
        frames.frame(HEADER, &serde_json::to_vec(header)?)?;
        Ok(Self(frames))
    }

    pub(super) fn value(&mut self, value: &Value) -> io::Result<()> {
        self.0.frame(VALUE, &value.encode()?)
    }

    /// Ends the file with what `seal` makes of all that came before; answers the digest of the whole file.
    pub(super) fn finish<E: From<io::Error>>(
        mut self,
        seal: impl FnOnce(&[u8]) -> Result<[u8; SEAL_BYTES], E>,
    ) -> Result<(W, Digest), E> {
        let seal = seal(&sealed_bytes(self.0.digest()))?;
        self.0.frame(SEAL, &seal)?;
        Ok(self.0.finish()?)
    }
}

/// Reads a backup from its beginning to its end.
pub(super) struct Reader<R> {
    frames: FrameReader<R>,
    last_path: Option<Vec<u8>>,
}

/// The end of a backup.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct End {
    /// What the seal has to be computed of.
    pub(super) sealed_bytes: Vec<u8>,
    pub(super) seal: [u8; SEAL_BYTES],
    /// Of the whole file.
    pub(super) digest: Digest,
}

/// What comes next in a backup.
pub(super) enum Next {
    Value(Value),
    End(End),
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(input: R) -> Result<(Self, Header), FormatError> {
        let mut frames = FrameReader::begin(input, MAGIC)?;
        let (kind, body) = frames.frame()?;
        if kind != HEADER {
            return Err(FormatError::Damaged("it has no header"));
        }
        let header = serde_json::from_slice(&body);
        let reader = Self { frames, last_path: None };
        Ok((reader, header.map_err(|_| FormatError::Damaged("its header cannot be read"))?))
    }

    pub(super) fn next(&mut self) -> Result<Next, FormatError> {
        let before = self.frames.digest();
        let (kind, body) = self.frames.frame()?;
        match kind {
            VALUE => self.value(&body).map(Next::Value),
            SEAL => self.end(before, &body).map(Next::End),
            _ => Err(FormatError::Damaged("a frame of an unknown kind")),
        }
    }

    fn value(&mut self, body: &[u8]) -> Result<Value, FormatError> {
        let value = Value::decode(body).ok_or(FormatError::Damaged("a value cannot be read"))?;
        if self.last_path.as_ref().is_some_and(|last| *last >= value.path) {
            return Err(FormatError::Damaged("its values are not in order"));
        }
        self.last_path = Some(value.path.clone());
        Ok(value)
    }

    fn end(&mut self, before: Digest, body: &[u8]) -> Result<End, FormatError> {
        let seal = body.try_into().map_err(|_| FormatError::Damaged("its seal has another length"))?;
        self.frames.end()?;
        Ok(End { sealed_bytes: sealed_bytes(before), seal, digest: self.frames.digest() })
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn header() -> Header {
        let source = Source {
            deployment: Uuid::from_u128(1),
            token_label: "source".to_owned(),
            token_serial: "1".to_owned(),
            root_generations: vec![1, 2],
        };
        let transport = Transport { transport_key: vec![3; 384], seal_key: vec![4; 41] };
        let counts = Counts { values: 2, keys: 1, key_versions: 2 };
        Header::new("2026-11-24T00:00:00Z".to_owned(), source, "00".repeat(32), counts, transport)
    }

    fn values() -> [Value; 2] {
        [
            Value { path: b"a/1".to_vec(), payload: vec![5; 20], proofs: Vec::new() },
            Value { path: b"k/1".to_vec(), payload: vec![6; 70], proofs: vec![[7; 16], [8; 16]] },
        ]
    }

    #[allow(clippy::unnecessary_wraps, reason = "a seal of an HSM can fail")]
    fn seal(bytes: &[u8]) -> Result<[u8; 32], io::Error> {
        Ok(Sha256::digest(bytes).into())
    }

    fn written(values: &[Value]) -> (Vec<u8>, Digest) {
        let mut writer = Writer::begin(Vec::new(), &header()).expect("memory can be written");
        for value in values {
            writer.value(value).expect("memory can be written");
        }
        writer.finish(seal).expect("memory can be written")
    }

    /// Header, values and digest, if the file is whole.
    fn read(bytes: &[u8]) -> Result<(Header, Vec<Value>, Digest), FormatError> {
        let (mut reader, header) = Reader::begin(bytes)?;
        let mut values = Vec::new();
        loop {
            match reader.next()? {
                Next::Value(value) => values.push(value),
                Next::End(end) if seal(&end.sealed_bytes).expect("a digest") == end.seal => {
                    return Ok((header, values, end.digest));
                }
                Next::End(_) => return Err(FormatError::Damaged("its seal is wrong")),
            }
        }
    }

    #[test]
    fn what_is_written_is_read_and_its_digest_is_the_files() {
        let (bytes, digest) = written(&values());
        assert_eq!(digest, <Digest>::from(Sha256::digest(&bytes)));
        let (read_header, read_values, read_digest) = read(&bytes).expect("a whole backup");
        assert_eq!((read_header, &read_values[..], read_digest), (header(), &values()[..], digest));
    }

    #[test]
    fn every_truncation_every_changed_byte_and_every_extension_is_refused() {
        let (bytes, _) = written(&values());
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
        read(&[&bytes[..], &bytes[..]].concat()).expect_err("a file twice");
    }

    #[test]
    fn values_in_another_order_or_twice_are_refused_whatever_their_seal() {
        let [first, second] = values();
        read(&written(&[second.clone(), first.clone()]).0).expect_err("another order");
        read(&written(&[first.clone(), first, second]).0).expect_err("one twice");
    }
}
