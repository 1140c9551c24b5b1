//! The key of one object: derived from a bucket key, and what is kept of it.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroize as _;

use super::Error;
use crate::{SecretBytes, envelope::Suite};

const MAGIC: [u8; 4] = *b"DPOK";
const VERSION: u8 = 1;
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = 4 + 1 + 1 + SALT_BYTES;
const LABEL: &[u8] = b"dewpoint object key v1";

/// Which object it is. The key of one is not that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectName<'a> {
    /// The bucket: the encryption context of its bucket keys.
    pub bucket: &'a str,
    /// Its name there, and whatever else tells it from others, as the number of a part.
    pub object: &'a str,
}

/// A new key for one object.
#[derive(Debug)]
pub struct ObjectKey {
    /// The id of the key that sealed the bucket key.
    pub key_id: String,
    /// The version that sealed it.
    pub key_version: u32,
    /// The bucket key that it hangs on, by its name in the log.
    pub bucket_key_id: String,
    /// The key: as long as the suite takes it. Use it for one object and wipe it.
    pub plaintext: SecretBytes,
    /// What the key is found by again; store it beside the object.
    pub sealed: Vec<u8>,
}

/// The key of an object, found again.
#[derive(Debug)]
pub struct OpenedObjectKey {
    /// The id of the key that had sealed the bucket key.
    pub key_id: String,
    /// The version that had sealed it.
    pub key_version: u32,
    /// The bucket key that it hangs on, by its name in the log.
    pub bucket_key_id: String,
    /// The suite that it is for.
    pub suite: Suite,
    /// The key.
    pub plaintext: SecretBytes,
}

/// What is kept of a key: the salt, and the sealed bucket key that it is derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SealedObjectKey<'a> {
    pub(super) suite: Suite,
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) bucket_key: &'a [u8],
}

impl<'a> SealedObjectKey<'a> {
    /// With a salt of its own.
    pub(super) fn fresh(suite: Suite, bucket_key: &'a [u8]) -> Result<Self, Error> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| Error::Randomness)?;
        Ok(Self { suite, salt, bucket_key })
    }

    /// As it is stored.
    pub(super) fn encode(&self) -> Vec<u8> {
        [&MAGIC[..], &[VERSION, self.suite as u8], &self.salt, self.bucket_key].concat()
    }

    /// Reads what [`encode`](Self::encode) wrote. Nothing of it is authentic before the object opens under the key.
    pub(super) fn parse(sealed: &'a [u8]) -> Result<Self, Error> {
        let (head, bucket_key) = sealed.split_first_chunk::<HEAD_BYTES>().ok_or(Error::Malformed)?;
        let [m0, m1, m2, m3, version, suite, salt @ ..] = *head;
        if [m0, m1, m2, m3] != MAGIC || version != VERSION || bucket_key.is_empty() {
            return Err(Error::Malformed);
        }
        let suite = Suite::from_byte(suite).ok_or(Error::Malformed)?;
        Ok(Self { suite, salt, bucket_key })
    }

    /// The object's key.
    // RFC 5869. The label has a fixed length, and each text its own before it, so the info can be read in one way only.
    pub(super) fn derive(
        &self,
        bucket_key: &SecretBytes,
        name: ObjectName<'_>,
    ) -> Result<SecretBytes, Error> {
        let [bucket, object] = [name.bucket, name.object].map(str::as_bytes);
        let [bucket_length, object_length] = [bucket, object].map(length);
        let info = [LABEL, &[self.suite as u8], &bucket_length, bucket, &object_length, object];
        let mut key = vec![0; usize::from(self.suite.key_length())];
        let (mut pseudorandom_key, hkdf) = Hkdf::<Sha256>::extract(Some(&self.salt), bucket_key.expose());
        pseudorandom_key.as_mut_slice().zeroize();
        let expanded = hkdf.expand_multi_info(&info, &mut key);
        expanded.map(|()| SecretBytes::from(key)).map_err(|_| Error::Malformed)
    }
}

fn length(text: &[u8]) -> [u8; 8] {
    u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: ObjectName<'_> = ObjectName { bucket: "photos", object: "a/b.jpg" };

    fn sealed(suite: Suite) -> SealedObjectKey<'static> {
        SealedObjectKey { suite, salt: [7; SALT_BYTES], bucket_key: b"sealed" }
    }

    fn derived(sealed: &SealedObjectKey<'_>, key: u8, name: ObjectName<'_>) -> Vec<u8> {
        sealed.derive(&SecretBytes::from(vec![key; 32]), name).expect("derived").expose().to_vec()
    }

    #[test]
    fn what_is_stored_is_read_back_and_nothing_else_is_taken() {
        for suite in [Suite::Aes256Gcm, Suite::Sm4Gcm] {
            let stored = sealed(suite).encode();
            assert_eq!(SealedObjectKey::parse(&stored).expect("its own form"), sealed(suite));
            for length in 0..=HEAD_BYTES {
                assert!(SealedObjectKey::parse(&stored[..length]).is_err(), "{length} bytes");
            }
            for (position, byte) in [(0, b'X'), (3, b'E'), (4, 2), (5, 0), (5, 3)] {
                let mut altered = stored.clone();
                altered[position] = byte;
                assert!(SealedObjectKey::parse(&altered).is_err(), "byte {position}");
            }
        }
    }

    #[test]
    fn every_part_makes_another_key() {
        let base = sealed(Suite::Aes256Gcm);
        let mut keys = vec![
            derived(&base, 1, NAME),
            derived(&base, 2, NAME),
            derived(&SealedObjectKey { salt: [8; SALT_BYTES], ..base }, 1, NAME),
            derived(&base, 1, ObjectName { object: "a/c.jpg", ..NAME }),
            derived(&base, 1, ObjectName { bucket: "photo", object: "sa/b.jpg" }),
            derived(&base, 1, ObjectName { bucket: "photosa", object: "/b.jpg" }),
        ];
        let sm4 = derived(&sealed(Suite::Sm4Gcm), 1, NAME);
        assert_eq!((sm4.len(), keys[0].len()), (16, 32));
        assert!(!keys[0].starts_with(&sm4), "the suite is part of it");
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 6);
    }

    /// `tests/independent/object_key.py` holds the same file against what it computes with nothing of this project.
    #[test]
    fn keys_are_as_published() {
        let published = include_str!("../../../../docs/vectors/object_key-v1.json");
        let published: serde_json::Value = serde_json::from_str(published).expect("JSON");
        let keys =
            [Suite::Aes256Gcm, Suite::Sm4Gcm].map(|suite| hex::encode(derived(&sealed(suite), 1, NAME)));
        for (vector, key) in published["vectors"].as_array().expect("vectors").iter().zip(&keys) {
            assert_eq!(vector["key"], **key, "{vector}");
        }
        assert_eq!(published["vectors"].as_array().map(Vec::len), Some(keys.len()));
    }

    #[test]
    fn salts_are_fresh() {
        let fresh = || SealedObjectKey::fresh(Suite::Aes256Gcm, b"sealed").expect("random numbers").salt;
        assert_ne!(fresh(), fresh());
    }
}
