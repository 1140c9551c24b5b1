//! The cryptography of a stream: a key derived for it alone, and one AEAD call for a segment.

use aes_gcm::{
    AeadInOut, Aes256Gcm, KeyInit as _, Nonce, Tag,
    aead::consts::{U12, U16},
};
use hkdf::Hkdf;
use kms_sm4::Sm4Gcm;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Binding, Error, Header, ObjectKey, Suite, TAG_LENGTH};

const LABEL: &[u8] = b"dewpoint object stream v1";
const NONCE_PREFIX_LENGTH: usize = 7;

/// Seals and opens the segments of one stream. The cipher wipes its key when it is dropped.
pub struct StreamCipher {
    cipher: Cipher,
    nonce_prefix: [u8; NONCE_PREFIX_LENGTH],
    /// The hash of header and place, which every segment is bound to.
    bound: [u8; 32],
}

enum Cipher {
    Aes(Box<Aes256Gcm>),
    Sm4(Box<Sm4Gcm>),
}

impl StreamCipher {
    /// Derives what belongs to this header at this place. [`Error::NotAuthentic`] if the header names another suite
    /// than the key is for.
    pub fn new(key: &ObjectKey, header: &Header, binding: &Binding<'_>) -> Result<Self, Error> {
        let suite = key.suite();
        if header.suite() != suite {
            return Err(Error::NotAuthentic);
        }
        let mut place = header.to_bytes().to_vec();
        binding.append_to(&mut place);
        let mut output = Zeroizing::new([0; 32 + NONCE_PREFIX_LENGTH]);
        let output = &mut output[..suite.key_length() + NONCE_PREFIX_LENGTH];
        // RFC 5869: extract with the salt, expand with label, header and place.
        let (mut pseudorandom_key, hkdf) = Hkdf::<Sha256>::extract(Some(header.salt()), key.expose());
        pseudorandom_key.as_mut_slice().zeroize();
        hkdf.expand_multi_info(&[LABEL, &place], output).map_err(|_| Error::KeyLength)?;
        Self::from_output(suite, output, Sha256::digest(&place).into()).ok_or(Error::KeyLength)
    }

    /// Splits the output of the derivation; `None` if its length were wrong.
    fn from_output(suite: Suite, output: &[u8], bound: [u8; 32]) -> Option<Self> {
        let (key, rest) = output.split_at_checked(suite.key_length())?;
        let cipher = match suite {
            Suite::Aes256Gcm => Cipher::Aes(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
            Suite::Sm4Gcm => Cipher::Sm4(Box::new(Sm4Gcm::new_from_slice(key).ok()?)),
        };
        Some(Self { cipher, nonce_prefix: rest.try_into().ok()?, bound })
    }

    /// Seals a segment in place and appends its tag. Each index is sealed once, and one of them as the last.
    pub fn seal(&self, index: u32, is_last: bool, segment: &mut Vec<u8>) -> Result<(), Error> {
        let nonce = self.nonce(index, is_last);
        let plaintext = segment.as_mut_slice().into();
        let tag = match &self.cipher {
            Cipher::Aes(cipher) => cipher.encrypt_inout_detached(&nonce, &self.bound, plaintext),
            Cipher::Sm4(cipher) => cipher.encrypt_inout_detached(&nonce, &self.bound, plaintext),
        };
        // GCM refuses only more than 2^36 - 32 bytes.
        segment.extend_from_slice(&tag.map_err(|_| Error::TooLong)?);
        Ok(())
    }

    /// Opens a segment in place and takes its tag off. If it is not authentic, nothing of it is opened.
    pub fn open(&self, index: u32, is_last: bool, segment: &mut Vec<u8>) -> Result<(), Error> {
        let length = segment.len().checked_sub(TAG_LENGTH).ok_or(Error::Length)?;
        let (sealed, tag) = segment.split_at_mut(length);
        let tag = Tag::<U16>::try_from(&*tag).map_err(|_| Error::Length)?;
        let nonce = self.nonce(index, is_last);
        match &self.cipher {
            Cipher::Aes(cipher) => cipher.decrypt_inout_detached(&nonce, &self.bound, sealed.into(), &tag),
            Cipher::Sm4(cipher) => cipher.decrypt_inout_detached(&nonce, &self.bound, sealed.into(), &tag),
        }
        .map_err(|_| Error::NotAuthentic)?;
        segment.truncate(length);
        Ok(())
    }

    /// prefix || index || whether it is the last: no two segments of a stream share a nonce.
    fn nonce(&self, index: u32, is_last: bool) -> Nonce<U12> {
        let mut nonce = [0; 12];
        let (prefix, rest) = nonce.split_at_mut(NONCE_PREFIX_LENGTH);
        prefix.copy_from_slice(&self.nonce_prefix);
        rest[..4].copy_from_slice(&index.to_be_bytes());
        rest[4] = u8::from(is_last);
        nonce.into()
    }
}

impl std::fmt::Debug for StreamCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamCipher").finish_non_exhaustive()
    }
}
