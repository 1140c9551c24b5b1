//! What is stored comes back, also after a start; what was harmed does not.

use std::{collections::BTreeMap, fs, sync::Arc};

use kms_client::SecretBytes;

use super::support::{
    Fixture, all, data, encryption, fixture, key, place, put, read, record, reopened, stored, text,
};
use crate::{
    format::{self, ObjectKey, SEGMENT_LENGTH, Suite},
    store::*,
};

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

fn file(fixture: &Fixture, object: &Object, part: usize) -> std::path::PathBuf {
    fixture.directory.path().join("buckets/bucket/data").join(&object.record.parts[part].file)
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
