//! An object: its record, and the streams that go when it goes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};

use super::{
    Error,
    files::{discard, is_id},
};
use crate::format::{Binding, Manifest, ManifestPart, ManifestTag, ObjectKey, Suite};

/// What is known of an object without opening it: the content of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRecord {
    /// The object's key in the bucket.
    pub key: String,
    /// Bytes of plaintext.
    pub size: u64,
    /// MD5 of what is stored, in hexadecimal; of the parts' MD5 with `-COUNT` for a multipart upload. No quotes.
    pub etag: String,
    /// When it was stored, in milliseconds since 1970.
    pub modified: i64,
    /// Headers that are answered as they were given: `content-type` and its like, lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The user's metadata, without the prefix of the headers.
    pub metadata: BTreeMap<String, String>,
    /// The multipart upload that it came by; empty if it came in one piece.
    pub upload_id: String,
    /// The streams, in the order of the plaintext.
    pub parts: Vec<Part>,
    /// How it is encrypted; `None`: not at all.
    pub encryption: Option<Encryption>,
}

/// One stream of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The part's number; 0 for an object that came in one piece.
    pub number: u32,
    /// The file's name in `data/`.
    pub file: String,
    /// Bytes of plaintext.
    pub size: u64,
    /// MD5 of what is stored, in hexadecimal.
    pub etag: String,
    /// The salt of an encrypted stream, in hexadecimal.
    #[serde(with = "salt", default)]
    pub salt: Option<[u8; 32]>,
}

/// How an object is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// What seals the streams.
    pub suite: Suite,
    /// The id of the customer master key that sealed the data key.
    pub key_id: String,
    /// The account of that key.
    pub key_owner: String,
    /// The sealed data key; under a bucket key, what the data key is derived from.
    pub sealed_key: Vec<u8>,
    /// Whether the data key is derived from a bucket key. Records that do not say it have a data key of their own.
    #[serde(default, skip_serializing_if = "is_not")]
    pub bucket_key: bool,
    /// What the requester added to the encryption context.
    pub context: BTreeMap<String, String>,
    /// The manifest's tag; `None` only while the parts of an upload still come.
    pub tag: Option<ManifestTag>,
}

/// Whether a field stays away from a record, which then is as it was before there was the field.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(super) fn is_not(flag: &bool) -> bool {
    !flag
}

/// An object that readers may hold: its streams are removed when it was replaced or deleted and nobody reads it any more.
#[derive(Debug)]
pub struct Object {
    /// What is known of it.
    pub record: ObjectRecord,
    data: PathBuf,
    is_removed: AtomicBool,
}

impl Object {
    pub(super) fn new(record: ObjectRecord, data: &Path) -> Self {
        Self { record, data: data.to_owned(), is_removed: AtomicBool::new(false) }
    }

    /// From now on no record names it.
    pub(super) fn remove(&self) {
        self.is_removed.store(true, Ordering::Release);
    }

    pub(super) fn file(&self, part: &Part) -> PathBuf {
        self.data.join(&part.file)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if self.is_removed.load(Ordering::Acquire) {
            for part in &self.record.parts {
                discard(&self.file(part));
            }
        }
    }
}

impl Part {
    /// Whether its file is one in the directory of streams, and no other path.
    pub(super) fn has_own_file(&self) -> bool {
        is_id(&self.file)
    }
}

impl ObjectRecord {
    /// Seals the manifest of a record that is complete but for it.
    pub fn seal(&mut self, bucket: &str, key: &ObjectKey) -> Result<(), Error> {
        let tag = self.with_manifest(bucket, |manifest| manifest.seal(key))?;
        if let Some(encryption) = &mut self.encryption {
            encryption.tag = Some(tag);
        }
        Ok(())
    }

    /// Checks that the record names the streams that the object was made of.
    pub(super) fn authenticate(&self, bucket: &str, key: &ObjectKey) -> Result<(), Error> {
        let encryption = self.encryption.as_ref().filter(|encryption| encryption.suite == key.suite());
        let tag = encryption.and_then(|encryption| encryption.tag);
        let tag = tag.ok_or(crate::format::Error::NotAuthentic)?;
        self.with_manifest(bucket, |manifest| manifest.open(key, &tag))
    }

    /// Where a stream of it belongs.
    pub(super) fn binding<'a>(&'a self, bucket: &'a str, part: &Part) -> Binding<'a> {
        Binding { bucket, object: &self.key, upload_id: &self.upload_id, part_number: part.number }
    }

    fn with_manifest<Output>(
        &self,
        bucket: &str,
        work: impl FnOnce(Manifest<'_>) -> Result<Output, crate::format::Error>,
    ) -> Result<Output, Error> {
        let part = |part: &Part| {
            let salt = part.salt.ok_or(crate::format::Error::NotAuthentic)?;
            Ok(ManifestPart { number: part.number, length: part.size, salt })
        };
        let parts = self.parts.iter().map(part).collect::<Result<Vec<_>, crate::format::Error>>()?;
        let manifest = Manifest { bucket, object: &self.key, upload_id: &self.upload_id, parts: &parts };
        Ok(work(manifest)?)
    }
}

/// A salt in hexadecimal.
mod salt {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        salt: &Option<[u8; 32]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        salt.map(hex::encode).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let mut salt = [0; 32];
        hex::decode_to_slice(text, &mut salt).map_err(D::Error::custom)?;
        Ok(Some(salt))
    }
}
