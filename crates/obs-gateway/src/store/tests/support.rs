//! A store on a real directory, and objects in it.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use kms_client::SecretBytes;
use tempfile::TempDir;

use crate::{
    format::{ObjectKey, Suite},
    store::*,
};

pub(super) struct Fixture {
    pub(super) directory: TempDir,
    pub(super) store: Store,
}

pub(super) fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let settings = BucketSettings {
        name: "bucket".to_owned(),
        owner: "d1".to_owned(),
        created: 1,
        encryption: None,
        policy: None,
    };
    store.create_bucket(&settings).unwrap();
    Fixture { directory, store }
}

pub(super) fn key() -> ObjectKey {
    ObjectKey::new(Suite::Aes256Gcm, SecretBytes::from(vec![5; 32])).unwrap()
}

pub(super) fn encryption() -> Encryption {
    Encryption {
        suite: Suite::Aes256Gcm,
        key_id: "k".to_owned(),
        key_owner: "d1".to_owned(),
        sealed_key: vec![1],
        bucket_key: false,
        context: BTreeMap::new(),
        tag: None,
    }
}

pub(super) fn record(object: &str, encryption: Option<Encryption>) -> ObjectRecord {
    ObjectRecord {
        key: object.to_owned(),
        size: 0,
        etag: String::new(),
        modified: 7,
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
        upload_id: String::new(),
        parts: Vec::new(),
        encryption,
    }
}

pub(super) fn place(object: &str, upload_id: &str, part_number: u32) -> StreamPlace {
    StreamPlace { bucket: "bucket".into(), object: object.into(), upload_id: upload_id.into(), part_number }
}

/// Bytes that are nowhere the same.
pub(super) fn text(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n ^ (n >> 8) ^ (n >> 16)) & 0xff).unwrap()).collect()
}

pub(super) fn stored(bucket: &Bucket, place: &StreamPlace, text: &[u8], key: Option<&ObjectKey>) -> Stored {
    let mut writer = bucket.begin(place, key).unwrap();
    for chunk in text.chunks(50_000) {
        writer.write(chunk).unwrap();
    }
    writer.finish().unwrap()
}

pub(super) fn put(bucket: &Bucket, object: &str, text: &[u8], is_encrypted: bool) -> Arc<Object> {
    let key = is_encrypted.then(key);
    let stored = stored(bucket, &place(object, "", 0), text, key.as_ref());
    bucket.put(record(object, is_encrypted.then(encryption)), stored, key.as_ref()).unwrap()
}

pub(super) fn read(object: &Arc<Object>, range: std::ops::Range<u64>) -> Result<Vec<u8>, Error> {
    let key = object.record.encryption.is_some().then(key);
    let mut reader = ObjectReader::new("bucket", object.clone(), key, range)?;
    let mut text = Vec::new();
    while let Some(bytes) = reader.next_bytes()? {
        text.extend_from_slice(&bytes);
    }
    Ok(text)
}

pub(super) fn all(object: &Arc<Object>) -> Result<Vec<u8>, Error> {
    read(object, 0..object.record.size)
}

pub(super) fn data(fixture: &Fixture) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(fixture.directory.path().join("buckets/bucket/data")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

pub(super) fn reopened(fixture: Fixture) -> Fixture {
    let Fixture { directory, store } = fixture;
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    Fixture { directory, store }
}

pub(super) fn settings(fixture: &Fixture) -> Arc<BucketSettings> {
    fixture.store.bucket("bucket").unwrap().settings()
}

pub(super) fn first(directory: &Path) -> std::path::PathBuf {
    fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
}
