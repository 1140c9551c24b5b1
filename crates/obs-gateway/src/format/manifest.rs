//! The tag over what an object consists of, so that no stream of it is left out, moved or replaced by an older one.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Error, ObjectKey, binding::append_text};

const LABEL: &[u8] = b"dewpoint object manifest v1";

/// What an object consists of.
#[derive(Clone, Copy, Debug)]
pub struct Manifest<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The object's key in the bucket.
    pub object: &'a str,
    /// The multipart upload; empty for an object that came in one piece.
    pub upload_id: &'a str,
    /// The streams in their order.
    pub parts: &'a [ManifestPart],
}

/// One stream of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestPart {
    /// The part's number; 0 for an object that came in one piece.
    pub number: u32,
    /// Bytes of plaintext.
    pub length: u64,
    /// The salt of the stream's header, which tells this upload of the part from any other.
    pub salt: [u8; 32],
}

/// HMAC-SHA-256 over a manifest, under a key derived from the object's data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestTag([u8; 32]);

impl Manifest<'_> {
    /// The manifest's tag.
    pub fn seal(&self, key: &ObjectKey) -> Result<ManifestTag, Error> {
        Ok(ManifestTag(self.mac(key)?.finalize().into_bytes().into()))
    }

    /// Checks a tag, in a time that tells nothing. [`Error::NotAuthentic`] if it is another manifest's.
    pub fn open(&self, key: &ObjectKey, tag: &ManifestTag) -> Result<(), Error> {
        self.mac(key)?.verify_slice(&tag.0).map_err(|_| Error::NotAuthentic)
    }

    fn mac(&self, key: &ObjectKey) -> Result<Hmac<Sha256>, Error> {
        let mut mac_key = Zeroizing::new([0; 32]);
        let (mut pseudorandom_key, hkdf) = Hkdf::<Sha256>::extract(None, key.expose());
        pseudorandom_key.as_mut_slice().zeroize();
        hkdf.expand(LABEL, mac_key.as_mut()).map_err(|_| Error::KeyLength)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(mac_key.as_ref()).map_err(|_| Error::KeyLength)?;
        mac.update(&self.to_bytes(key));
        Ok(mac)
    }

    fn to_bytes(self, key: &ObjectKey) -> Vec<u8> {
        let mut bytes = vec![key.suite() as u8];
        for text in [self.bucket, self.object, self.upload_id] {
            append_text(&mut bytes, text);
        }
        for part in self.parts {
            bytes.extend_from_slice(&part.number.to_be_bytes());
            bytes.extend_from_slice(&part.length.to_be_bytes());
            bytes.extend_from_slice(&part.salt);
        }
        bytes
    }
}
