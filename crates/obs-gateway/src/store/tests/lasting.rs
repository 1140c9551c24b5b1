//! Uploads that broke off, disks that fail, and what is there after them.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, sync::Arc};

use super::support::{
    Fixture, all, data, first, fixture, key, place, put, record, reopened, settings, stored, text,
};
use crate::store::{
    files::{failure, make_directory},
    *,
};

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
fn an_upload_that_goes_at_a_start_does_not_come_back_after_a_power_cut() {
    let fixture = fixture();
    let (bucket, _, upload) = half_completed(&fixture, 0);
    drop(bucket);
    let Fixture { directory, store } = fixture;
    drop(store);
    // First its record is there, then not any more, which may not have come to the disk.
    for is_there in [true, false] {
        assert_eq!(upload.join("upload.json").exists(), is_there);
        failure::after(2); // behind what every start makes
        assert!(matches!(Store::open(directory.path()), Err(Error::Io(_))));
        assert!(upload.exists(), "nothing of it goes before its record is gone for good");
    }
    let store = Store::open(directory.path()).unwrap();
    assert!(!upload.exists() && store.bucket("bucket").unwrap().uploads("").is_empty());
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
