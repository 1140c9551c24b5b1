//! The store on a real directory: what is stored comes back, also after a start; what was harmed does not.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path, sync::Arc};

use kms_client::SecretBytes;
use tempfile::TempDir;

use super::{
    files::{failure, make_directory},
    *,
};
use crate::format::{self, ObjectKey, SEGMENT_LENGTH, Suite};

struct Fixture {
    directory: TempDir,
    store: Store,
}

fn fixture() -> Fixture {
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

fn key() -> ObjectKey {
    ObjectKey::new(Suite::Aes256Gcm, SecretBytes::from(vec![5; 32])).unwrap()
}

fn encryption() -> Encryption {
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

fn record(object: &str, encryption: Option<Encryption>) -> ObjectRecord {
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

fn place(object: &str, upload_id: &str, part_number: u32) -> StreamPlace {
    StreamPlace { bucket: "bucket".into(), object: object.into(), upload_id: upload_id.into(), part_number }
}

/// Bytes that are nowhere the same.
fn text(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n ^ (n >> 8) ^ (n >> 16)) & 0xff).unwrap()).collect()
}

fn stored(bucket: &Bucket, place: &StreamPlace, text: &[u8], key: Option<&ObjectKey>) -> Stored {
    let mut writer = bucket.begin(place, key).unwrap();
    for chunk in text.chunks(50_000) {
        writer.write(chunk).unwrap();
    }
    writer.finish().unwrap()
}

fn put(bucket: &Bucket, object: &str, text: &[u8], is_encrypted: bool) -> Arc<Object> {
    let key = is_encrypted.then(key);
    let stored = stored(bucket, &place(object, "", 0), text, key.as_ref());
    bucket.put(record(object, is_encrypted.then(encryption)), stored, key.as_ref()).unwrap()
}

fn read(object: &Arc<Object>, range: std::ops::Range<u64>) -> Result<Vec<u8>, Error> {
    let key = object.record.encryption.is_some().then(key);
    let mut reader = ObjectReader::new("bucket", object.clone(), key, range)?;
    let mut text = Vec::new();
    while let Some(bytes) = reader.next_bytes()? {
        text.extend_from_slice(&bytes);
    }
    Ok(text)
}

fn all(object: &Arc<Object>) -> Result<Vec<u8>, Error> {
    read(object, 0..object.record.size)
}

/// Three parts of which the second came twice.
fn upload(bucket: &Bucket, object: &str) -> (Arc<Object>, Vec<u8>) {
    let (key, id) = (key(), Upload::new_id());
    let record = UploadRecord {
        id: id.clone(),
        key: object.to_owned(),
        initiator: "u1".to_owned(),
        started: 1,
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
        encryption: Some(encryption()),
    };
    bucket.begin_upload(record).unwrap();
    let part = |number: u32, text: &[u8]| {
        let stored = stored(bucket, &place(object, &id, number), text, Some(&key));
        let etag = stored.part.etag.clone();
        bucket.put_part(object, &id, stored, 2).unwrap();
        (number, etag)
    };
    let (one, two, three) = (text(200_000), text(SEGMENT_LENGTH * 2), text(10));
    part(2, &text(150_000));
    let named = [part(1, &one), part(2, &two), part(3, &three)];
    let object = bucket.complete_upload(object, &id, &named, Some(&key), 3).unwrap();
    (object, [one, two, three].concat())
}

fn data(fixture: &Fixture) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(fixture.directory.path().join("buckets/bucket/data")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn file(fixture: &Fixture, object: &Object, part: usize) -> std::path::PathBuf {
    fixture.directory.path().join("buckets/bucket/data").join(&object.record.parts[part].file)
}

fn reopened(fixture: Fixture) -> Fixture {
    let Fixture { directory, store } = fixture;
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    Fixture { directory, store }
}

#[test]
fn objects_of_every_length_come_back_also_after_a_start() {
    let fixture = fixture();
    let lengths = [0, 1, SEGMENT_LENGTH - 1, SEGMENT_LENGTH, SEGMENT_LENGTH + 1, 3 * SEGMENT_LENGTH, 300_000];
    let bucket = fixture.store.bucket("bucket").unwrap();
    for length in lengths {
        for is_encrypted in [false, true] {
            put(&bucket, &format!("{length}/{is_encrypted}"), &text(length), is_encrypted);
        }
    }
    drop(bucket);
    let fixture = reopened(fixture);
    let bucket = fixture.store.bucket("bucket").unwrap();
    for length in lengths {
        for is_encrypted in [false, true] {
            let object = bucket.object(&format!("{length}/{is_encrypted}")).unwrap();
            assert_eq!(object.record.size, length as u64, "plaintext's length");
            assert_eq!(all(&object).unwrap(), text(length), "{length} {is_encrypted}");
        }
    }
}

#[test]
fn the_etag_is_the_md5_of_what_is_stored() {
    use md5::Digest as _;
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    for is_encrypted in [false, true] {
        let object = put(&bucket, "o", &text(100_000), is_encrypted);
        let bytes = fs::read(file(&fixture, &object, 0)).unwrap();
        assert_eq!(object.record.etag, hex::encode(md5::Md5::digest(&bytes)));
        assert_eq!(bytes == text(100_000), !is_encrypted);
    }
}

#[test]
fn ranges_come_back_and_are_read_from_their_segments_only() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let (object, text) = upload(&bucket, "o");
    let length = text.len() as u64;
    for range in
        [0..1, 65_535..65_537, 199_999..200_001, 0..length, length - 1..length, 150_000..331_000, 5..5]
    {
        let expected = &text[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert_eq!(read(&object, range.clone()).unwrap(), expected, "{range:?}");
    }
    // Harm the first segment of the first part: what lies elsewhere is still read.
    let path = file(&fixture, &object, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(read(&object, 70_000..300_000).unwrap(), &text[70_000..300_000]);
    assert!(matches!(read(&object, 0..1), Err(Error::Damaged(format::Error::NotAuthentic))));
}

#[test]
fn a_stream_that_was_cut_anywhere_is_refused_before_a_byte_is_read() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let object = put(&bucket, "o", &text(2 * SEGMENT_LENGTH + 100), true);
    let path = file(&fixture, &object, 0);
    let bytes = fs::read(&path).unwrap();
    let sealed = SEGMENT_LENGTH + 16;
    for length in [0, 10, 39, 40, 39 + sealed, 39 + 2 * sealed, 39 + 2 * sealed + 16, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let refused = ObjectReader::new("bucket", object.clone(), Some(key()), 0..10).unwrap_err();
        assert!(matches!(refused, Error::Damaged(format::Error::Length)), "{length}: {refused}");
    }
    fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    assert!(matches!(all(&object), Err(Error::Damaged(format::Error::Length))));
    fs::remove_file(&path).unwrap();
    assert!(matches!(all(&object), Err(Error::Damaged(format::Error::Length))));
}

#[test]
fn a_record_that_was_made_to_fit_a_cut_stream_is_refused() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let object = put(&bucket, "o", &text(2 * SEGMENT_LENGTH), true);
    let path = file(&fixture, &object, 0);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..39 + SEGMENT_LENGTH + 16]).unwrap();
    let mut record = object.record.clone();
    (record.size, record.parts[0].size) = (SEGMENT_LENGTH as u64, SEGMENT_LENGTH as u64);
    let forged = Arc::new(Object::new(record, path.parent().unwrap()));
    assert!(matches!(all(&forged), Err(Error::Damaged(format::Error::NotAuthentic))));
    // Even with a manifest that fits, the last segment that is left was not sealed as the last.
    let mut record = forged.record.clone();
    record.seal("bucket", &key()).unwrap();
    let forged = Arc::new(Object::new(record, path.parent().unwrap()));
    assert!(matches!(all(&forged), Err(Error::Damaged(format::Error::NotAuthentic))));
}

#[test]
fn exchanged_segments_parts_and_objects_are_refused() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let (object, _) = upload(&bucket, "o");
    let path = file(&fixture, &object, 1);
    let bytes = fs::read(&path).unwrap();
    let (head, rest) = bytes.split_at(39);
    let (first, second) = rest.split_at(SEGMENT_LENGTH + 16);
    fs::write(&path, [head, second, first].concat()).unwrap();
    assert!(matches!(all(&object), Err(Error::Damaged(format::Error::NotAuthentic))));
    fs::write(&path, &bytes).unwrap();
    all(&object).unwrap();
    // The stream of another object under the same data key, of the same length.
    let other = put(&bucket, "p", &text(2 * SEGMENT_LENGTH), true);
    fs::copy(file(&fixture, &other, 0), &path).unwrap();
    assert!(matches!(all(&object), Err(Error::Damaged(format::Error::NotAuthentic))));
}

#[test]
fn a_part_of_an_earlier_try_is_refused_in_the_place_of_the_later_one() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let (object, _) = upload(&bucket, "o");
    let place = place("o", &object.record.upload_id, 2);
    let again = stored(&bucket, &place, &text(2 * SEGMENT_LENGTH), Some(&key()));
    let (path, replayed) = (file(&fixture, &object, 1), path_of(&fixture, &again.part));
    assert_ne!(fs::read(&path).unwrap()[..100], fs::read(&replayed).unwrap()[..100], "salt and ciphertext");
    fs::copy(&replayed, &path).unwrap();
    assert!(matches!(all(&object), Err(Error::Damaged(format::Error::NotAuthentic))));
}

fn path_of(fixture: &Fixture, part: &Part) -> std::path::PathBuf {
    fixture.directory.path().join("buckets/bucket/data").join(&part.file)
}

#[test]
fn an_object_is_not_read_without_its_key_nor_with_one_that_it_has_not() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let (sealed, plain) = (put(&bucket, "o", b"text", true), put(&bucket, "p", b"text", false));
    assert!(ObjectReader::new("bucket", sealed.clone(), None, 0..4).is_err());
    assert!(ObjectReader::new("bucket", plain, Some(key()), 0..4).is_err());
    let wrong = ObjectKey::new(Suite::Aes256Gcm, SecretBytes::from(vec![6; 32])).unwrap();
    assert!(ObjectReader::new("bucket", sealed, Some(wrong), 0..4).is_err());
}

#[test]
fn what_was_replaced_is_still_read_by_its_readers_and_then_goes() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let old = put(&bucket, "o", &text(100_000), true);
    put(&bucket, "o", b"new", false);
    assert_eq!(all(&old).unwrap(), text(100_000));
    assert_eq!(data(&fixture).len(), 2);
    drop(old);
    assert_eq!(data(&fixture).len(), 1);
    bucket.delete("o").unwrap();
    bucket.delete("o").unwrap();
    assert!(data(&fixture).is_empty());
    assert!(matches!(bucket.object("o"), Err(Error::NoSuchObject)));
}

#[test]
fn an_object_is_no_older_than_the_one_whose_place_it_takes() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let put = |modified: i64| {
        let stored = stored(&bucket, &place("o", "", 0), b"text", None);
        let record = ObjectRecord { modified, ..record("o", None) };
        bucket.put(record, stored, None).unwrap().record.modified
    };
    assert_eq!([7, 5, 8].map(put), [7, 7, 8]);
    assert_eq!(reopened(fixture).store.bucket("bucket").unwrap().object("o").unwrap().record.modified, 8);
}

#[test]
fn a_full_disk_changes_nothing() {
    let Some(disk) = dewpoint_test_disks::Disk::make() else { return };
    let root = disk.path().join("store");
    fs::create_dir(&root).unwrap();
    let store = Store::open(&root).unwrap();
    let settings = BucketSettings {
        name: "bucket".to_owned(),
        owner: "d1".to_owned(),
        created: 1,
        encryption: None,
        policy: None,
    };
    store.create_bucket(&settings).unwrap();
    let bucket = store.bucket("bucket").unwrap();
    put(&bucket, "o", b"old", false);
    let filler = disk.path().join("filler");
    let is_full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
    let filled = std::io::copy(&mut std::io::repeat(1), &mut fs::File::create(&filler).unwrap());
    assert!(is_full(&filled.unwrap_err()));
    let long = text(1 << 20);
    let write = || {
        let mut writer = bucket.begin(&place("o", "", 0), None)?;
        writer.write(&long)?;
        writer.finish()
    };
    assert!(matches!(write().unwrap_err(), Error::Io(error) if is_full(&error)));
    assert_eq!(all(&bucket.object("o").unwrap()).unwrap(), b"old");
    fs::remove_file(&filler).unwrap();
    put(&bucket, "other", &long, false);
    drop((bucket, store));
    let bucket = Store::open(&root).unwrap().bucket("bucket").unwrap();
    assert_eq!(all(&bucket.object("o").unwrap()).unwrap(), b"old");
    assert_eq!(all(&bucket.object("other").unwrap()).unwrap(), long);
}

#[test]
fn uploads_that_broke_off_leave_nothing() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let mut writer = bucket.begin(&place("o", "", 0), Some(&key())).unwrap();
    writer.write(&text(200_000)).unwrap();
    assert_eq!(data(&fixture).len(), 1);
    drop(writer);
    drop(stored(&bucket, &place("o", "", 0), b"text", None));
    assert!(data(&fixture).is_empty());
    // What a kill leaves is removed at the next start.
    let left = fixture.directory.path().join("buckets/bucket/data/left");
    fs::write(&left, b"half").unwrap();
    fs::write(fixture.directory.path().join("buckets/bucket/objects/x.new"), b"half").unwrap();
    drop(bucket);
    let fixture = reopened(fixture);
    assert!(!left.exists());
    assert!(!fixture.directory.path().join("buckets/bucket/objects/x.new").exists());
}

#[test]
fn an_upload_goes_on_after_a_start_and_is_completed_once() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let id = Upload::new_id();
    let begun = UploadRecord {
        id: id.clone(),
        key: "o".to_owned(),
        initiator: "u1".to_owned(),
        started: 1,
        headers: BTreeMap::from([("content-type".to_owned(), "text/plain".to_owned())]),
        metadata: BTreeMap::new(),
        encryption: None,
    };
    bucket.begin_upload(begun).unwrap();
    let part = stored(&bucket, &place("o", &id, 1), b"text", None);
    let named = [(1, part.part.etag.clone())];
    bucket.put_part("o", &id, part, 2).unwrap();
    drop(bucket);
    let fixture = reopened(fixture);
    let bucket = fixture.store.bucket("bucket").unwrap();
    assert!(matches!(bucket.complete_upload("p", &id, &named, None, 3), Err(Error::NoSuchUpload)));
    let object = bucket.complete_upload("o", &id, &named, None, 3).unwrap();
    assert_eq!(all(&object).unwrap(), b"text");
    assert_eq!(object.record.headers["content-type"], "text/plain");
    assert_eq!(bucket.complete_upload("o", &id, &named, None, 9).unwrap().record.modified, 3);
    assert!(bucket.uploads("").is_empty());
    bucket.delete("o").unwrap();
    assert!(matches!(bucket.complete_upload("o", &id, &named, None, 3), Err(Error::NoSuchUpload)));
}

/// An upload of an object under way, without parts.
fn begun(bucket: &Bucket, object: &str) -> String {
    let id = Upload::new_id();
    let record = UploadRecord {
        id: id.clone(),
        key: object.to_owned(),
        initiator: "u1".to_owned(),
        started: 1,
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
        encryption: None,
    };
    bucket.begin_upload(record).unwrap();
    id
}

#[test]
fn an_object_whose_record_is_there_keeps_its_stream_though_the_directory_fails() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    put(&bucket, "o", &text(100), true);
    let stored = stored(&bucket, &place("o", "", 0), b"new", None);
    failure::after(0);
    assert!(matches!(bucket.put(record("o", None), stored, None), Err(Error::Io(_))));
    assert_eq!(data(&fixture).len(), 2, "either record may be there after a power cut");
    assert_eq!(all(&bucket.object("o").unwrap()).unwrap(), b"new", "as after a start");
    drop(bucket);
    let fixture = reopened(fixture);
    let bucket = fixture.store.bucket("bucket").unwrap();
    assert_eq!(all(&bucket.object("o").unwrap()).unwrap(), b"new");
    assert_eq!(data(&fixture).len(), 1);
    // What fails before the record is in its place leaves the old object alone.
    let path = fixture.directory.path().join("buckets/bucket/objects");
    fs::create_dir(first(&path).with_extension("new")).unwrap();
    let stored = stored_plain(&bucket, "o", 0);
    assert!(matches!(bucket.put(record("o", None), stored, None), Err(Error::Io(_))));
    assert_eq!(all(&bucket.object("o").unwrap()).unwrap(), b"new");
    assert_eq!(data(&fixture).len(), 1);
}

fn stored_plain(bucket: &Bucket, object: &str, part_number: u32) -> Stored {
    stored(bucket, &place(object, "", part_number), b"text", None)
}

#[test]
fn a_part_whose_record_is_there_keeps_its_stream_though_the_directory_fails() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let id = begun(&bucket, "o");
    bucket.put_part("o", &id, stored_plain(&bucket, "o", 1), 1).unwrap();
    let again = stored(&bucket, &place("o", &id, 1), b"again", None);
    let named = [(1, again.part.etag.clone())];
    failure::after(0);
    assert!(matches!(bucket.put_part("o", &id, again, 2), Err(Error::Io(_))));
    assert_eq!(data(&fixture).len(), 2);
    drop(bucket);
    let fixture = reopened(fixture);
    let bucket = fixture.store.bucket("bucket").unwrap();
    let object = bucket.complete_upload("o", &id, &named, None, 3).unwrap();
    assert_eq!(all(&object).unwrap(), b"again");
}

#[test]
fn an_upload_that_became_an_object_is_not_undone_though_the_directory_fails() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let id = begun(&bucket, "o");
    let part = stored_plain(&bucket, "o", 1);
    let named = [(1, part.part.etag.clone())];
    bucket.put_part("o", &id, part, 1).unwrap();
    failure::after(0);
    assert!(matches!(bucket.complete_upload("o", &id, &named, None, 3), Err(Error::Io(_))));
    // Neither giving it up nor another part takes away what the object has.
    assert!(matches!(bucket.abort_upload("o", &id), Err(Error::NoSuchUpload)));
    let another = bucket.put_part("o", &id, stored_plain(&bucket, "o", 1), 4);
    assert!(matches!(another, Err(Error::NoSuchUpload)));
    assert_eq!(all(&bucket.object("o").unwrap()).unwrap(), b"text");
    failure::after(0);
    assert!(bucket.complete_upload("o", &id, &named, None, 3).is_err(), "acknowledged when it lasts");
    assert_eq!(all(&bucket.complete_upload("o", &id, &named, None, 3).unwrap()).unwrap(), b"text");
    drop(bucket);
    let fixture = reopened(fixture);
    let bucket = fixture.store.bucket("bucket").unwrap();
    assert_eq!(all(&bucket.object("o").unwrap()).unwrap(), b"text");
    assert!(bucket.uploads("").is_empty());
}

/// An upload that became an object while the directory failed after `synchronized` times, and its directory.
fn half_completed(fixture: &Fixture, synchronized: u32) -> (Arc<Bucket>, String, std::path::PathBuf) {
    let bucket = fixture.store.bucket("bucket").unwrap();
    let id = begun(&bucket, "o");
    let (part, unused) = (stored_plain(&bucket, "o", 1), stored_plain(&bucket, "o", 2));
    let named = [(1, part.part.etag.clone())];
    bucket.put_part("o", &id, part, 1).unwrap();
    bucket.put_part("o", &id, unused, 1).unwrap();
    failure::after(synchronized);
    let completed = bucket.complete_upload("o", &id, &named, None, 3);
    assert_eq!(completed.is_err(), synchronized == 0, "what lasts is acknowledged");
    let directory = fixture.directory.path().join("buckets/bucket/uploads").join(&id);
    assert!(directory.exists());
    (bucket, id, directory)
}

#[test]
fn an_upload_that_became_an_object_does_not_come_back_when_the_object_is_another() {
    type Change = fn(&Bucket, &str, Stored) -> Result<(), Error>;
    let changes: [(&str, Change, &[u8]); 3] = [
        ("put", |it, _, stored| it.put(record("o", None), stored, None).map(drop), b"text"),
        ("delete", |it, _, _| it.delete("o"), b""),
        ("again", |it, id, _| it.complete_upload("o", id, &[], None, 3).map(drop), b"text"),
    ];
    for synchronized in [0, 1] {
        for (name, change, expected) in changes {
            let fixture = fixture();
            let (bucket, id, directory) = half_completed(&fixture, synchronized);
            let before = bucket.object("o").unwrap();
            let stored = stored_plain(&bucket, "o", 0);
            failure::after(0);
            assert!(matches!(change(&bucket, &id, stored), Err(Error::Io(_))), "{name}");
            assert!(Arc::ptr_eq(&before, &bucket.object("o").unwrap()), "{name}: nothing changed");
            drop(before);
            change(&bucket, &id, stored_plain(&bucket, "o", 0)).unwrap();
            assert!(!directory.exists(), "{name}");
            let streams = usize::from(!expected.is_empty());
            assert_eq!(data(&fixture).len(), streams, "{name}: the part that was not named is gone");
            drop(bucket);
            let fixture = reopened(fixture);
            let bucket = fixture.store.bucket("bucket").unwrap();
            assert!(bucket.uploads("").is_empty(), "{name}");
            let object = bucket.object("o").ok();
            assert_eq!(object.map_or(vec![], |object| all(&object).unwrap()), expected, "{name}");
        }
    }
}

#[test]
fn an_upload_that_became_an_object_goes_at_the_next_start() {
    for synchronized in [0, 1] {
        let fixture = fixture();
        let (bucket, _, directory) = half_completed(&fixture, synchronized);
        drop(bucket);
        let fixture = reopened(fixture);
        assert!(!directory.exists() && fixture.store.bucket("bucket").unwrap().uploads("").is_empty());
        assert_eq!(data(&fixture).len(), 1);
    }
}

#[test]
fn what_of_an_upload_cannot_be_looked_at_is_not_taken_for_gone() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let id = begun(&bucket, "o");
    bucket.put_part("o", &id, stored_plain(&bucket, "o", 1), 2).unwrap();
    let (record, stream) = (bucket.upload_path(&id).join("upload.json"), data(&fixture).remove(0));
    drop(bucket);
    let Fixture { directory, store } = fixture;
    drop(store);
    for file in [record, stream] {
        let aside = directory.path().join("aside");
        fs::rename(&file, &aside).unwrap();
        // It leads nowhere but to itself: asking for it fails, other than asking for what is not there.
        symlink(&file, &file).unwrap();
        assert!(matches!(Store::open(directory.path()), Err(Error::Io(_))), "{}", file.display());
        fs::rename(&aside, &file).unwrap();
    }
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.bucket("bucket").unwrap().parts("o", &id).unwrap().len(), 1);
}

/// An upload that was given up while a disk failed, and its directory.
fn half_given_up(fixture: &Fixture) -> (Arc<Bucket>, String, std::path::PathBuf) {
    let bucket = fixture.store.bucket("bucket").unwrap();
    let id = begun(&bucket, "o");
    bucket.put_part("o", &id, stored_plain(&bucket, "o", 1), 1).unwrap();
    failure::after(0);
    assert!(matches!(bucket.abort_upload("o", &id), Err(Error::Io(_))));
    assert!(bucket.uploads("").is_empty());
    let directory = fixture.directory.path().join("buckets/bucket/uploads").join(&id);
    assert!(directory.exists());
    (bucket, id, directory)
}

#[test]
fn an_upload_that_was_given_up_goes_when_that_is_asked_again_or_its_key_changes() {
    type Change = fn(&Bucket, &str, Stored) -> Result<(), Error>;
    let changes: [(&str, Change, usize); 3] = [
        ("again", |it, id, _| it.abort_upload("o", id), 0),
        ("put", |it, _, stored| it.put(record("o", None), stored, None).map(drop), 1),
        ("delete", |it, _, _| it.delete("o"), 0),
    ];
    for (name, change, streams) in changes {
        let fixture = fixture();
        let (bucket, id, directory) = half_given_up(&fixture);
        let stored = stored_plain(&bucket, "o", 0);
        failure::after(0);
        assert!(matches!(change(&bucket, &id, stored), Err(Error::Io(_))), "{name}");
        assert!(bucket.object("o").is_err(), "{name}: nothing changed");
        change(&bucket, &id, stored_plain(&bucket, "o", 0)).unwrap();
        assert!(!directory.exists(), "{name}");
        assert_eq!(data(&fixture).len(), streams, "{name}: its part is gone");
        assert!(matches!(bucket.abort_upload("o", &id), Err(Error::NoSuchUpload)), "{name}");
        drop(bucket);
        assert!(reopened(fixture).store.bucket("bucket").unwrap().uploads("").is_empty(), "{name}");
    }
}

#[test]
fn an_upload_that_was_given_up_is_asked_for_by_its_own_key() {
    let fixture = fixture();
    let (bucket, id, directory) = half_given_up(&fixture);
    assert!(matches!(bucket.abort_upload("another", &id), Err(Error::NoSuchUpload)));
    assert!(matches!(bucket.complete_upload("o", &id, &[], None, 3), Err(Error::NoSuchUpload)));
    assert!(!directory.exists(), "asking to complete it tried again first");
}

#[test]
fn what_is_acknowledged_lasts_though_its_deletion_failed_before() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let id = begun(&bucket, "o");
    let part = stored_plain(&bucket, "o", 1);
    let named = [(1, part.part.etag.clone())];
    bucket.put_part("o", &id, part, 1).unwrap();
    let object = bucket.complete_upload("o", &id, &named, None, 3).unwrap();
    let expected = all(&object).unwrap();
    failure::after(0);
    assert!(matches!(bucket.delete("o"), Err(Error::Io(_))));
    let again = bucket.complete_upload("o", &id, &named, None, 3).unwrap();
    assert!(Arc::ptr_eq(&object, &again));
    drop((bucket, object, again));
    let object = reopened(fixture).store.bucket("bucket").unwrap().object("o");
    assert_eq!(object.unwrap().record.size, u64::try_from(expected.len()).unwrap());
}

#[test]
fn what_could_not_be_made_to_last_is_tried_again() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    put(&bucket, "o", b"text", false);
    failure::after(0);
    assert!(matches!(bucket.delete("o"), Err(Error::Io(_))));
    assert_eq!(data(&fixture).len(), 1);
    bucket.delete("o").unwrap();
    assert!(data(&fixture).is_empty() && bucket.object("o").is_err());
    let id = begun(&bucket, "o");
    failure::after(0);
    assert!(matches!(bucket.abort_upload("o", &id), Err(Error::Io(_))));
    let late = bucket.put_part("o", &id, stored_plain(&bucket, "o", 1), 1);
    assert!(matches!(late, Err(Error::NoSuchUpload)), "it would be lost at the next start");
    let settings = BucketSettings { name: "another".to_owned(), ..(*settings(&fixture)).clone() };
    failure::after(5); // its directories and its record
    assert!(matches!(fixture.store.create_bucket(&settings), Err(Error::Io(_))));
    assert!(fixture.store.bucket("another").is_err());
    fixture.store.create_bucket(&settings).unwrap();
}

#[test]
fn every_directory_that_is_made_is_synchronized() {
    let directory = tempfile::tempdir().unwrap();
    let made = |synchronized: u32| {
        failure::after(synchronized);
        make_directory(&directory.path().join(format!("{synchronized}/a/b")))
    };
    for synchronized in 0..3 {
        assert!(matches!(made(synchronized), Err(Error::Io(_))));
    }
    made(3).unwrap();
}

#[test]
fn records_that_name_files_of_others_are_refused() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    put(&bucket, "o", b"text", false);
    let id = begun(&bucket, "o");
    bucket.put_part("o", &id, stored_plain(&bucket, "o", 1), 1).unwrap();
    let file = bucket.object("o").unwrap().record.parts[0].file.clone();
    let part_file = bucket.parts("o", &id).unwrap()[0].part.file.clone();
    drop(bucket);
    let Fixture { directory, store } = fixture;
    drop(store);
    let bucket = directory.path().join("buckets/bucket");
    let (object, upload) = (first(&bucket.join("objects")), bucket.join("uploads").join(&id));
    for (record, from, to) in [
        (object.clone(), &*file, "../bucket.json"),
        (object.clone(), &*file, "/etc/passwd"),
        (object.clone(), &*file, ""),
        (upload.join("1.json"), &*part_file, "../../bucket.json"),
        (upload.join("1.json"), "\"number\":1", "\"number\":2"),
        (upload.join("upload.json"), &*id, ".."),
        (upload.join("upload.json"), &*id, &*Upload::new_id()),
        (bucket.join("bucket.json"), "\"bucket\"", "\"../bucket\""),
    ] {
        let own = fs::read_to_string(&record).unwrap();
        assert!(own.contains(from), "{own}");
        fs::write(&record, own.replace(from, to)).unwrap();
        let refused = Store::open(directory.path()).unwrap_err();
        assert!(matches!(refused, Error::DamagedRecord { path, .. } if path == record), "{to}");
        fs::write(&record, own).unwrap();
    }
    Store::open(directory.path()).unwrap();
}

#[test]
fn parts_that_are_not_as_named_do_not_become_an_object() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let id = Upload::new_id();
    let begun = UploadRecord {
        id: id.clone(),
        key: "o".to_owned(),
        initiator: "u1".to_owned(),
        started: 1,
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
        encryption: None,
    };
    bucket.begin_upload(begun).unwrap();
    let part = |number| {
        let part = stored(&bucket, &place("o", &id, number), b"small", None);
        let etag = part.part.etag.clone();
        bucket.put_part("o", &id, part, 2).map(|()| (number, etag))
    };
    let (one, two) = (part(1).unwrap(), part(2).unwrap());
    let complete = |named: &[(u32, String)]| bucket.complete_upload("o", &id, named, None, 3).map(drop);
    assert!(matches!(complete(&[]), Err(Error::PartOrder)));
    assert!(matches!(complete(&[two.clone(), one.clone()]), Err(Error::PartOrder)));
    assert!(matches!(complete(&[(1, "0".repeat(32))]), Err(Error::InvalidPart(1))));
    assert!(matches!(complete(&[(3, one.1.clone())]), Err(Error::InvalidPart(3))));
    assert!(matches!(complete(&[one, two]), Err(Error::PartTooSmall(1))));
    assert!(matches!(part(0), Err(Error::PartNumber)));
    assert!(matches!(part(10_001), Err(Error::PartNumber)));
    assert!(matches!(fixture.store.delete_bucket("bucket"), Err(Error::BucketNotEmpty)));
    bucket.abort_upload("o", &id).unwrap();
    assert!(data(&fixture).is_empty());
    fixture.store.delete_bucket("bucket").unwrap();
}

#[test]
fn pages_of_a_listing_show_every_key_once() {
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    for object in ["a", "b/1", "b/2", "b/c/3", "b0", "d/4", "é/5", "z"] {
        put(&bucket, object, b"text", false);
    }
    for limit in 1..9 {
        assert_eq!(pages(&bucket, "", "", limit), ["a", "b/1", "b/2", "b/c/3", "b0", "d/4", "z", "é/5"]);
        assert_eq!(pages(&bucket, "", "/", limit), ["a", "b/", "b0", "d/", "z", "é/"]);
        assert_eq!(pages(&bucket, "b/", "/", limit), ["b/1", "b/2", "b/c/"]);
        assert_eq!(pages(&bucket, "b", "", limit), ["b/1", "b/2", "b/c/3", "b0"]);
    }
    assert!(pages(&bucket, "x", "/", 2).is_empty());
    let none = bucket.list(&Selection { limit: 0, ..Selection::default() });
    assert!(none.objects.is_empty() && none.next.is_none());
}

fn pages(bucket: &Bucket, prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
    let (mut after, mut shown) = (String::new(), Vec::new());
    loop {
        let page = bucket.list(&Selection { prefix, delimiter, after: &after, limit });
        let mut names: Vec<String> = page.objects.iter().map(|object| object.record.key.clone()).collect();
        names.extend(page.prefixes);
        assert!(names.len() <= limit);
        names.sort();
        shown.extend(names);
        match page.next {
            Some(next) => after = next,
            None => return shown,
        }
    }
}

#[test]
fn buckets_have_names_that_are_no_paths() {
    let fixture = fixture();
    let named = |name: &str| {
        let settings = BucketSettings { name: name.to_owned(), ..(*settings(&fixture)).clone() };
        fixture.store.create_bucket(&settings)
    };
    for name in ["", "ab", "..", "a/b", "../x", "Abc", "a..b", "-ab", "ab-", "a.-b", &"a".repeat(64)] {
        assert!(matches!(named(name), Err(Error::BucketName)), "{name}");
    }
    assert!(matches!(named("bucket"), Err(Error::BucketExists)));
    named("a.b-c").unwrap();
    assert_eq!(fixture.store.buckets().len(), 2);
    fixture.store.delete_bucket("a.b-c").unwrap();
    assert!(matches!(fixture.store.bucket("a.b-c"), Err(Error::NoSuchBucket)));
}

fn settings(fixture: &Fixture) -> Arc<BucketSettings> {
    fixture.store.bucket("bucket").unwrap().settings()
}

#[test]
fn what_is_configured_lasts_and_a_bucket_that_is_gone_takes_nothing() {
    let fixture = fixture();
    let encryption =
        BucketEncryption { suite: Suite::Sm4Gcm, key: Some("k".to_owned()), ..BucketEncryption::default() };
    let bucket = fixture.store.bucket("bucket").unwrap();
    bucket.configure(|settings| settings.encryption = Some(encryption.clone())).unwrap();
    drop(bucket);
    let fixture = reopened(fixture);
    assert_eq!(settings(&fixture).encryption, Some(encryption));
    let bucket = fixture.store.bucket("bucket").unwrap();
    fixture.store.delete_bucket("bucket").unwrap();
    assert!(matches!(bucket.configure(|_| {}), Err(Error::NoSuchBucket)));
    assert!(bucket.begin(&place("o", "", 0), None).is_err());
}

#[test]
fn one_directory_is_not_opened_twice_and_a_damaged_record_is_named() {
    let fixture = fixture();
    assert!(matches!(Store::open(fixture.directory.path()), Err(Error::InUse)));
    put(&fixture.store.bucket("bucket").unwrap(), "o", b"text", false);
    let Fixture { directory, store } = fixture;
    drop(store);
    let objects = directory.path().join("buckets/bucket/objects");
    let record = first(&objects);
    let bytes = fs::read(&record).unwrap();
    fs::write(&record, &bytes[..bytes.len() / 2]).unwrap();
    let refused = Store::open(directory.path()).unwrap_err();
    assert!(matches!(refused, Error::DamagedRecord { path, .. } if path == record));
    fs::write(&record, &bytes).unwrap();
    fs::rename(&record, objects.join("0.json")).unwrap();
    assert!(matches!(Store::open(directory.path()), Err(Error::DamagedRecord { .. })));
    assert_eq!(
        fs::read_dir(directory.path().join("buckets/bucket/data")).unwrap().count(),
        1,
        "nothing is lost"
    );
}

fn first(directory: &Path) -> std::path::PathBuf {
    fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn records_from_before_bucket_keys_are_read_and_written_as_they_were() {
    let written = serde_json::to_string(&encryption()).unwrap();
    assert!(!written.contains("bucket_key"), "{written}");
    assert_eq!(serde_json::from_str::<Encryption>(&written).unwrap(), encryption());
    let under_bucket_key = Encryption { bucket_key: true, ..encryption() };
    let written = serde_json::to_string(&under_bucket_key).unwrap();
    assert!(written.contains("\"bucket_key\":true"), "{written}");
    assert_eq!(serde_json::from_str::<Encryption>(&written).unwrap(), under_bucket_key);
    let before = r#"{"suite":"SM4","key":"k"}"#;
    let configured = serde_json::from_str::<BucketEncryption>(before).unwrap();
    assert_eq!(serde_json::to_string(&configured).unwrap(), before);
}
