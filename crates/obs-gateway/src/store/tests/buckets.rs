//! Listings, configurations, and what a directory of buckets has to be.

use std::fs;

use super::support::{Fixture, encryption, first, fixture, place, put, reopened, settings};
use crate::{format::Suite, store::*};

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

#[test]
fn a_prefix_of_nothing_but_the_last_character_is_shown_once_and_ends_the_listing() {
    const LAST: &str = "\u{10ffff}";
    let fixture = fixture();
    let bucket = fixture.store.bucket("bucket").unwrap();
    let (twice, deep) = (LAST.repeat(2), LAST.repeat(3));
    for object in ["a", LAST, &format!("{LAST}b"), &format!("{twice}c"), &deep] {
        put(&bucket, object, b"text", false);
    }
    for limit in 1..6 {
        assert_eq!(pages(&bucket, "", LAST, limit), ["a", LAST]);
        assert_eq!(pages(&bucket, "", &twice, limit), ["a", LAST, &format!("{LAST}b"), &twice]);
        assert_eq!(pages(&bucket, LAST, LAST, limit), [LAST, &format!("{LAST}b"), &twice]);
    }
    for (delimiter, after) in [(LAST, LAST), (&*twice, &*twice), (LAST, &*deep)] {
        let page = bucket.list(&Selection { delimiter, after, limit: 9, ..Selection::default() });
        assert!(page.objects.is_empty() && page.prefixes.is_empty(), "{delimiter} {after}");
        assert_eq!(page.next, None, "{delimiter} {after}");
    }
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
