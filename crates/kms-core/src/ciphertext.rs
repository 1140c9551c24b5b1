//! The ciphertext of a data key: its header, the key derivation and the sealing.
//!
//! `docs/ciphertext-format.md` is the reference; `docs/vectors/` holds its test vectors.

use uuid::Uuid;

use crate::{
    bucket_key,
    context::EncryptionContext,
    crypto::gcm,
    error::{Error, Field},
    key::{Cipher, KeyId, MaterialId, Scheme},
    ports::Mac,
    secret::SecretBytes,
};

/// The longest data key, in bytes. DEW: datakey_length, 8192 bits.
pub const MAX_DATA_KEY_BYTES: usize = 1024;
/// The most that one ciphertext of any purpose seals, in bytes. DEW: small data, 4096 bytes.
pub const MAX_SEALED_BYTES: usize = 4096;
/// The header's length, in bytes.
pub const HEADER_BYTES: usize = 52;
/// The tag's length, in bytes.
pub const TAG_BYTES: usize = gcm::TAG_BYTES;

const FORMAT_VERSION: u8 = 1;
const LABEL: &[u8; 16] = b"DEWPOINT-WRAPKEY";

/// What a ciphertext is for. A ciphertext of one purpose does not open as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// A data key.
    DataKey = 1,
    /// Small data.
    SmallData = 2,
    /// The material of a key version itself, where [`Scheme::Opened`] keeps it. Never leaves the service.
    KeyMaterial = 3,
    /// The private half of a data key pair.
    DataKeyPair = 4,
    /// A bucket key, with what is said of it.
    BucketKey = 5,
}

impl Purpose {
    /// The most that a ciphertext of it seals, in bytes.
    pub const fn longest(self) -> usize {
        match self {
            Self::DataKey => MAX_DATA_KEY_BYTES,
            Self::BucketKey => bucket_key::CONTENT_BYTES,
            Self::SmallData | Self::KeyMaterial | Self::DataKeyPair => MAX_SEALED_BYTES,
        }
    }
}

/// The header of a ciphertext: everything that is needed to open it but the key and the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who seals, and with what.
    pub scheme: Scheme,
    /// AES-256-GCM or SM4-GCM.
    pub cipher: Cipher,
    /// What it is for.
    pub purpose: Purpose,
    /// Whose material sealed it.
    pub material: MaterialId,
    /// Which version of it.
    pub version: u32,
    /// N: makes the derived key fresh for this one ciphertext. In a ciphertext that the HSM sealed it is
    /// fresh and authenticated all the same, and nothing is derived from it.
    pub derivation_nonce: [u8; 16],
    /// The initialisation vector of the AEAD.
    pub iv: [u8; 12],
}

impl Header {
    /// The header of a new ciphertext; `random` are 28 fresh random bytes.
    pub fn fresh(
        scheme: Scheme,
        cipher: Cipher,
        purpose: Purpose,
        material: MaterialId,
        version: u32,
        random: &[u8; 28],
    ) -> Self {
        let (mut derivation_nonce, mut iv) = ([0; 16], [0; 12]);
        derivation_nonce.copy_from_slice(&random[..16]);
        iv.copy_from_slice(&random[16..]);
        Self { scheme, cipher, purpose, material, version, derivation_nonce, iv }
    }

    /// Splits a ciphertext into its header and its sealed part with the tag.
    pub fn parse(ciphertext: &[u8]) -> Result<(Self, &[u8]), Error> {
        let malformed = |problem| Error::invalid(Field::CiphertextBlob, problem);
        let sealed_bytes = ciphertext.len().saturating_sub(HEADER_BYTES + TAG_BYTES);
        if !(1..=MAX_SEALED_BYTES).contains(&sealed_bytes) {
            return Err(malformed("must be 69 to 4164 bytes long"));
        }
        let (head, sealed) = ciphertext.split_at(HEADER_BYTES);
        let scheme = match (head[0], head[1]) {
            (FORMAT_VERSION, 1) => Scheme::DerivedKey,
            (FORMAT_VERSION, 2) => Scheme::InHsm,
            _ => return Err(malformed("is not of a format that this service writes")),
        };
        let cipher = match head[2] {
            1 => Cipher::Aes256Gcm,
            2 => Cipher::Sm4Gcm,
            _ => return Err(malformed("names an unknown algorithm")),
        };
        let purpose = match head[3] {
            1 => Purpose::DataKey,
            2 => Purpose::SmallData,
            3 => Purpose::KeyMaterial,
            4 => Purpose::DataKeyPair,
            5 => Purpose::BucketKey,
            _ => return Err(malformed("names an unknown purpose")),
        };
        if sealed_bytes > purpose.longest() {
            return Err(malformed("is longer than what its purpose allows"));
        }
        let header = Self {
            scheme,
            cipher,
            purpose,
            material: MaterialId::of(KeyId::from_uuid(Uuid::from_bytes(array(&head[4..20])))),
            version: u32::from_be_bytes(array(&head[20..24])),
            derivation_nonce: array(&head[24..40]),
            iv: array(&head[40..52]),
        };
        Ok((header, sealed))
    }

    /// The header's bytes: the first part of the ciphertext.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut head = [0; HEADER_BYTES];
        head[..4].copy_from_slice(&[
            FORMAT_VERSION,
            self.scheme as u8,
            self.cipher as u8,
            self.purpose as u8,
        ]);
        head[4..20].copy_from_slice(self.material.as_bytes());
        head[20..24].copy_from_slice(&self.version.to_be_bytes());
        head[24..40].copy_from_slice(&self.derivation_nonce);
        head[40..].copy_from_slice(&self.iv);
        head
    }

    /// What the HSM computes HMAC-SHA256 of, under the backing key, to derive the wrapping key.
    // NIST SP 800-108r1 §4.1: counter mode, one block: [1]_32 || Label || 0x00 || Context || [L]_32.
    // The context's fields are length-prefixed, so no two requests share an input.
    pub fn derivation_input(&self) -> Vec<u8> {
        let mut input = Vec::with_capacity(80);
        input.extend_from_slice(&1u32.to_be_bytes());
        input.extend_from_slice(LABEL);
        input.push(0);
        let fields: [&[u8]; 6] = [
            &[FORMAT_VERSION],
            &[self.cipher as u8],
            &[self.purpose as u8],
            self.material.as_bytes(),
            &self.version.to_be_bytes(),
            &self.derivation_nonce,
        ];
        for field in fields {
            input.push(u8::try_from(field.len()).unwrap_or(u8::MAX)); // at most 16
            input.extend_from_slice(field);
        }
        let bits = 8 * u32::try_from(self.cipher.key_bytes()).unwrap_or(0); // 128 or 256
        input.extend_from_slice(&bits.to_be_bytes());
        input
    }

    /// What the AEAD authenticates beside the plaintext: the header, then the context.
    pub fn associated_data(&self, context: &EncryptionContext) -> Vec<u8> {
        [&self.encode()[..], context.canonical()].concat()
    }

    /// The ciphertext of what the HSM sealed under this header: `sealed` are sealed bytes and tag.
    pub fn join(&self, sealed: &[u8], plaintext_bytes: usize) -> Result<Vec<u8>, Error> {
        if sealed.len() == plaintext_bytes + TAG_BYTES {
            Ok([&self.encode()[..], sealed].concat())
        } else {
            Err(Error::Internal { detail: "the HSM's AEAD gave sealed bytes of another length" })
        }
    }

    /// Seals `plaintext` under the wrapping key that was derived for this header: header, sealed
    /// bytes, tag.
    pub fn seal(
        &self,
        derived: &Mac,
        context: &EncryptionContext,
        plaintext: &SecretBytes,
    ) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(HEADER_BYTES + plaintext.len() + TAG_BYTES);
        out.extend_from_slice(&self.encode());
        // The plaintext is encrypted where it lies: every byte of it in `out` is overwritten.
        out.extend_from_slice(plaintext.expose_secret());
        let aad = self.associated_data(context);
        let key = &derived[..self.cipher.key_bytes()];
        let tag = gcm::seal(self.cipher, key, self.iv, &aad, &mut out[HEADER_BYTES..])?;
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens the sealed part of a ciphertext with this header.
    pub fn open(
        &self,
        derived: &Mac,
        context: &EncryptionContext,
        sealed: &[u8],
    ) -> Result<SecretBytes, Error> {
        let (body, tag) =
            sealed.split_at_checked(sealed.len().wrapping_sub(TAG_BYTES)).ok_or(Error::CannotDecrypt)?;
        let tag: [u8; TAG_BYTES] = array(tag);
        let aad = self.associated_data(context);
        let key = &derived[..self.cipher.key_bytes()];
        let mut plaintext = SecretBytes::new(body.to_vec());
        gcm::open(self.cipher, key, self.iv, &aad, plaintext.expose_secret_mut(), tag)?;
        Ok(plaintext)
    }
}

/// The first `N` bytes; callers pass slices of exactly that length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;

    fn header(cipher: Cipher) -> Header {
        let material = MaterialId::of(KeyId::from_uuid(Uuid::from_bytes([7; 16])));
        Header::fresh(Scheme::DerivedKey, cipher, Purpose::DataKey, material, 3, &[9; 28])
    }

    fn context(value: &str) -> EncryptionContext {
        EncryptionContext::new(BTreeMap::from([("bucket".to_owned(), value.to_owned())])).expect("short")
    }

    fn sealed(cipher: Cipher, plaintext: &[u8]) -> Vec<u8> {
        let secret = SecretBytes::new(plaintext.to_vec());
        header(cipher).seal(&Zeroizing::new([5; 32]), &context("a"), &secret).expect("seals")
    }

    fn open(ciphertext: &[u8], key: [u8; 32], context: &EncryptionContext) -> Result<SecretBytes, Error> {
        let (header, sealed) = Header::parse(ciphertext)?;
        header.open(&Zeroizing::new(key), context, sealed)
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        for cipher in [Cipher::Aes256Gcm, Cipher::Sm4Gcm] {
            let ciphertext = sealed(cipher, b"data key");
            assert!(!ciphertext.windows(8).any(|window| window == b"data key"));
            let opened = open(&ciphertext, [5; 32], &context("a")).expect("opens");
            assert_eq!(opened.expose_secret(), b"data key");
            let other_key = open(&ciphertext, [6; 32], &context("a")).expect_err("another key");
            let other_context = open(&ciphertext, [5; 32], &context("b")).expect_err("another context");
            assert_eq!((&other_key, &other_context), (&Error::CannotDecrypt, &Error::CannotDecrypt));
        }
    }

    #[test]
    fn every_flipped_byte_and_every_prefix_is_refused() {
        for cipher in [Cipher::Aes256Gcm, Cipher::Sm4Gcm] {
            let ciphertext = sealed(cipher, b"0123456789abcdef");
            for position in 0..ciphertext.len() {
                let mut altered = ciphertext.clone();
                altered[position] ^= 1;
                let code = open(&altered, [5; 32], &context("a")).expect_err("altered").code();
                let expected = if position < 2 || position == 3 { "INVALID_FIELD" } else { code };
                assert_eq!(code, expected, "byte {position}");
                open(&ciphertext[..position], [5; 32], &context("a")).expect_err("a prefix");
            }
        }
    }

    #[test]
    fn lengths_outside_of_1_to_1024_are_malformed() {
        for length in [0, 1025] {
            let ciphertext = sealed(Cipher::Aes256Gcm, &vec![1; length]);
            let error = Header::parse(&ciphertext).expect_err("out of range");
            assert_eq!(error.code(), "INVALID_FIELD");
        }
        for length in [1, 1024] {
            let ciphertext = sealed(Cipher::Sm4Gcm, &vec![1; length]);
            assert_eq!(open(&ciphertext, [5; 32], &context("a")).expect("in range").len(), length);
        }
    }

    #[test]
    fn every_header_field_changes_the_derivation() {
        let base = header(Cipher::Aes256Gcm);
        let others = [
            Header { cipher: Cipher::Sm4Gcm, ..base },
            Header { material: MaterialId::of(KeyId::from_uuid(Uuid::from_bytes([8; 16]))), ..base },
            Header { version: 4, ..base },
            Header { derivation_nonce: [1; 16], ..base },
        ];
        for other in others {
            assert_ne!(other.derivation_input(), base.derivation_input());
        }
    }

    proptest! {
        #[test]
        fn parsing_gives_back_what_was_encoded_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..1200),
            scheme in 1..=2_u8,
        ) {
            let mut bytes = bytes;
            for (position, byte) in [1, scheme, scheme, 1].into_iter().enumerate().take(bytes.len()) { bytes[position] = byte; }
            if let Ok((header, sealed)) = Header::parse(&bytes) {
                prop_assert_eq!([&header.encode()[..], sealed].concat(), bytes);
            }
        }
    }
}
