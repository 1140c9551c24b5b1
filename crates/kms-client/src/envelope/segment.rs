//! The cryptography of a segment: keys derived from data key and header, and one AEAD call.

use aes_gcm::{
    AeadInOut, Aes256Gcm, KeyInit as _, Nonce,
    aead::consts::{U12, U16},
};
use hkdf::Hkdf;
use kms_sm4::Sm4Gcm;
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Error,
    header::{HEADER_TAG_LENGTH, Parameters},
};

/// Bytes of the authentication tag that follows every segment.
pub const TAG_LENGTH: usize = 16;

const LABEL: &[u8] = b"dewpoint envelope v1";
const NONCE_PREFIX_LENGTH: usize = 7;

/// The algorithm that seals the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suite {
    /// AES-256-GCM; a data key of 32 bytes.
    Aes256Gcm = 1,
    /// SM4-GCM; a data key of 16 bytes.
    Sm4Gcm = 2,
}

impl Suite {
    /// Bytes of the data key.
    pub const fn key_length(self) -> u8 {
        match self {
            Self::Aes256Gcm => 32,
            Self::Sm4Gcm => 16,
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::Sm4Gcm),
            _ => None,
        }
    }
}

/// What is derived for one envelope. The ciphers wipe their keys when they are dropped.
pub(super) struct SegmentKeys {
    cipher: Cipher,
    nonce_prefix: [u8; NONCE_PREFIX_LENGTH],
    pub(super) header_tag: [u8; HEADER_TAG_LENGTH],
}

enum Cipher {
    Aes(Box<Aes256Gcm>),
    Sm4(Box<Sm4Gcm>),
}

impl SegmentKeys {
    /// Derives everything from the data key, the salt and the whole header (without its tag).
    pub(super) fn derive(parameters: &Parameters, data_key: &[u8]) -> Result<Self, Error> {
        let suite = parameters.suite;
        let key_length = usize::from(suite.key_length());
        if data_key.len() != key_length {
            return Err(Error::DataKeyLength { suite, actual: data_key.len() });
        }
        let mut output = Zeroizing::new([0; 32 + NONCE_PREFIX_LENGTH + HEADER_TAG_LENGTH]);
        let output = &mut output[..key_length + NONCE_PREFIX_LENGTH + HEADER_TAG_LENGTH];
        expand(parameters, data_key, output)?;
        Self::from_output(suite, output).ok_or(Error::DataKeyLength { suite, actual: data_key.len() })
    }

    /// Splits the output of the derivation; `None` if its length were wrong.
    fn from_output(suite: Suite, output: &[u8]) -> Option<Self> {
        let (key, rest) = output.split_at_checked(usize::from(suite.key_length()))?;
        let (nonce_prefix, rest) = rest.split_first_chunk()?;
        let cipher = match suite {
            Suite::Aes256Gcm => Cipher::Aes(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
            Suite::Sm4Gcm => Cipher::Sm4(Box::new(Sm4Gcm::new_from_slice(key).ok()?)),
        };
        Some(Self { cipher, nonce_prefix: *nonce_prefix, header_tag: rest.try_into().ok()? })
    }

    /// Seals a segment in place and answers its tag.
    pub(super) fn seal(
        &self,
        index: u32,
        is_last: bool,
        segment: &mut [u8],
    ) -> Result<[u8; TAG_LENGTH], Error> {
        let nonce = self.nonce(index, is_last);
        let tag = match &self.cipher {
            Cipher::Aes(cipher) => cipher.encrypt_inout_detached(&nonce, &[], segment.into()),
            Cipher::Sm4(cipher) => cipher.encrypt_inout_detached(&nonce, &[], segment.into()),
        };
        // GCM refuses only more than 2^36 - 32 bytes.
        tag.map(Into::into).map_err(|_| Error::SegmentLength(segment.len()))
    }

    /// Opens a segment in place. If it is not authentic it is left as it was.
    pub(super) fn open(
        &self,
        index: u32,
        is_last: bool,
        segment: &mut [u8],
        tag: [u8; TAG_LENGTH],
    ) -> Result<(), Error> {
        let nonce = self.nonce(index, is_last);
        let tag = aes_gcm::Tag::<U16>::from(tag);
        match &self.cipher {
            Cipher::Aes(cipher) => cipher.decrypt_inout_detached(&nonce, &[], segment.into(), &tag),
            Cipher::Sm4(cipher) => cipher.decrypt_inout_detached(&nonce, &[], segment.into(), &tag),
        }
        .map_err(|_| Error::NotAuthentic)
    }

    /// prefix || index || whether it is the last: no two segments of an envelope share a nonce.
    fn nonce(&self, index: u32, is_last: bool) -> Nonce<U12> {
        let mut nonce = [0; 12];
        let (prefix, rest) = nonce.split_at_mut(NONCE_PREFIX_LENGTH);
        prefix.copy_from_slice(&self.nonce_prefix);
        rest[..4].copy_from_slice(&index.to_be_bytes());
        rest[4] = u8::from(is_last);
        nonce.into()
    }
}

// RFC 5869: extract with the salt, expand with label and header.
fn expand(parameters: &Parameters, data_key: &[u8], output: &mut [u8]) -> Result<(), Error> {
    let (mut pseudorandom_key, hkdf) = Hkdf::<Sha256>::extract(Some(&parameters.salt), data_key);
    pseudorandom_key.as_mut_slice().zeroize();
    let header = parameters.to_bytes()?;
    hkdf.expand_multi_info(&[LABEL, &header], output)
        .map_err(|_| Error::DataKeyLength { suite: parameters.suite, actual: data_key.len() })
}
