//! Opening: what is kept, what is refused, and how it is said.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kms_core::ports::{StoreError, Versioned};
use kms_store::{OpenError, RedbStore};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

mod support;
use support::{create, open, put, read};

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn file(directory: &Path) -> PathBuf {
    directory.join("keys.redb")
}

fn filled() -> TempDir {
    let directory = directory();
    let store = open(directory.path());
    for number in 0..200 {
        put(&store, &format!("key/{number}"), &[7; 300]).expect("the store works");
    }
    directory
}

#[test]
fn reopening_keeps_everything() {
    let directory = directory();
    let store = open(directory.path());
    let first = put(&store, "key", b"value").expect("the store works");
    drop(store);

    let store = open(directory.path());
    assert_eq!(read(&store, "key"), Ok(Some(Versioned { revision: first, value: b"value"[..].into() })));
    assert_eq!(create(&store, "key", b"other"), Err(StoreError::Conflict { index: 0 }));
    assert!(put(&store, "key", b"other").expect("the store works") > first, "revisions go on");
}

#[test]
fn the_file_is_for_its_owner_only() {
    let directory = directory();
    let _store = open(directory.path());
    let names: Vec<_> = fs::read_dir(directory.path()).expect("readable").flatten().collect();
    assert_eq!(names.len(), 1, "one file: {names:?}");
    let mode = fs::metadata(file(directory.path())).expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_missing_directory_is_an_error_of_the_system() {
    let directory = directory();
    let outcome = RedbStore::open(&directory.path().join("none"));
    assert!(matches!(outcome, Err(OpenError::Io { .. })), "{outcome:?}");
}

#[test]
fn a_second_store_on_the_directory_is_refused() {
    let directory = directory();
    let first = open(directory.path());
    let second = RedbStore::open(directory.path());
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    drop(first);
    open(directory.path());
}

#[test]
fn a_store_that_was_never_finished_is_made_anew() {
    let directory = directory();
    fs::write(directory.path().join("keys.redb.new"), [0; 5000]).expect("writable");
    let store = open(directory.path());
    put(&store, "key", b"value").expect("the store works");
}

#[test]
fn a_truncated_file_is_damaged() {
    let length = fs::metadata(file(filled().path())).expect("the file is there").len();
    for kept in [0, 1, 9, 100, 4096, length / 2, length - 1] {
        let directory = filled();
        File::options()
            .write(true)
            .open(file(directory.path()))
            .and_then(|file| file.set_len(kept))
            .expect("the file can be cut");
        let outcome = RedbStore::open(directory.path());
        assert!(matches!(outcome, Err(OpenError::Damaged { .. })), "{kept} bytes: {outcome:?}");
    }
}

#[test]
fn another_kind_of_file_is_damaged() {
    let directory = directory();
    fs::write(file(directory.path()), "not a database, but some text\n".repeat(1000)).expect("writable");
    let outcome = RedbStore::open(directory.path());
    assert!(matches!(outcome, Err(OpenError::Damaged { .. })), "{outcome:?}");
}

#[test]
fn altered_bytes_never_make_opening_panic() {
    let original = fs::read(file(filled().path())).expect("readable");
    // Every 64th byte of the header, then one byte in each page.
    for offset in (0..512).step_by(64).chain((4096..original.len()).step_by(4096 + 61)) {
        let directory = directory();
        fs::write(file(directory.path()), &original).expect("writable");
        let mut altered = File::options().write(true).open(file(directory.path())).expect("writable");
        altered.seek(SeekFrom::Start(offset as u64)).expect("within the file");
        altered.write_all(&[original[offset] ^ 0xff]).expect("writable");
        if let Err(error) = RedbStore::open(directory.path()) {
            assert!(matches!(error, OpenError::Damaged { .. }), "at {offset}: {error:?}");
        }
    }
}

#[test]
fn another_format_is_named() {
    let directory = directory();
    drop(open(directory.path()));
    let database = Database::open(file(directory.path())).expect("it is a database");
    let write = database.begin_write().expect("writable");
    write
        .open_table(TableDefinition::<&str, u64>::new("meta"))
        .expect("the table is there")
        .insert("format", 2)
        .expect("writable");
    write.commit().expect("writable");
    drop(database);

    let outcome = RedbStore::open(directory.path());
    assert!(matches!(outcome, Err(OpenError::Format { found: 2, expected: 1, .. })), "{outcome:?}");
}

#[test]
fn a_database_of_another_program_is_damaged() {
    let directory = directory();
    drop(Database::create(file(directory.path())).expect("writable"));
    let outcome = RedbStore::open(directory.path());
    assert!(matches!(outcome, Err(OpenError::Damaged { .. })), "{outcome:?}");
}

#[test]
fn writes_to_a_deleted_file_are_refused() {
    let directory = directory();
    let store = open(directory.path());
    put(&store, "key", b"value").expect("the store works");
    fs::remove_file(file(directory.path())).expect("the file is there");

    let outcome = put(&store, "other", b"value");
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
    assert!(read(&store, "key").expect("what was written is still readable").is_some());
    assert_eq!(read(&store, "other"), Ok(None));
}

#[test]
fn a_crash_leaves_a_file_that_opens_without_being_read_whole() {
    let directory = filled();
    let store = open(directory.path());
    put(&store, "last", b"value").expect("the store works");
    // What a kill leaves, for everything acknowledged is in the file.
    let crashed = self::directory();
    fs::copy(file(directory.path()), file(crashed.path())).expect("copied");

    let repaired = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&repaired);
    let opened = redb::Builder::new()
        .set_repair_callback(move |_| seen.store(true, Ordering::Relaxed))
        .open(file(crashed.path()))
        .expect("it opens");
    assert!(!repaired.load(Ordering::Relaxed), "the engine walked through the whole file");
    drop(opened);
    let reopened = open(crashed.path());
    assert!(read(&reopened, "last").is_ok_and(|found| found.is_some()));
}
