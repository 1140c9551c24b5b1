//! Opening: what is kept, what is refused, and how it is said.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ::redb::{Database, TableDefinition};
use futures_executor::block_on;
use kms_core::ports::{KeyStore as _, MAX_VALUE_BYTES, StoreError, Versioned};
use kms_store::{EmbeddedStore, EngineKind, OpenError};
use tempfile::TempDir;

mod support;
use support::{create, data_file, on_every_engine, open, put, read};

on_every_engine!(
    reopening_keeps_everything,
    files_are_for_their_owner_only,
    a_missing_directory_is_an_error_of_the_system,
    a_second_store_on_the_directory_is_refused,
    a_store_that_was_never_finished_is_made_anew,
    a_database_of_another_engine_is_named,
    another_kind_of_file_is_damaged,
    altered_or_cut_bytes_never_make_opening_panic,
    another_format_is_named,
    a_database_of_another_program_is_damaged,
    writes_to_a_deleted_file_are_refused,
    records_of_any_size_lie_in_one_file,
);

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

/// The one thing in a store's directory.
fn database(directory: &Path, engine: EngineKind) -> PathBuf {
    directory.join(format!("keys.{engine}"))
}

fn filled(engine: EngineKind) -> TempDir {
    let directory = directory();
    let store = open(directory.path(), engine);
    for number in 0..200 {
        put(&store, &format!("key/{number}"), &[7; 300]).expect("the store works");
    }
    directory
}

fn reopening_keeps_everything(engine: EngineKind) {
    let directory = directory();
    assert!(!EmbeddedStore::exists(directory.path()));
    let store = open(directory.path(), engine);
    assert!(EmbeddedStore::exists(directory.path()));
    let first = put(&store, "key", b"value").expect("the store works");
    drop(store);

    let store = open(directory.path(), engine);
    assert_eq!(read(&store, "key"), Ok(Some(Versioned { revision: first, value: b"value"[..].into() })));
    assert_eq!(create(&store, "key", b"other"), Err(StoreError::Conflict { index: 0 }));
    assert!(put(&store, "key", b"other").expect("the store works") > first, "revisions go on");
}

fn files_are_for_their_owner_only(engine: EngineKind) {
    let directory = directory();
    let _store = open(directory.path(), engine);
    let names: Vec<_> = fs::read_dir(directory.path()).expect("readable").flatten().collect();
    assert_eq!(names.len(), 1, "one file, or one directory: {names:?}");
    let mode = fs::metadata(database(directory.path(), engine)).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

fn a_missing_directory_is_an_error_of_the_system(engine: EngineKind) {
    let directory = directory();
    let outcome = EmbeddedStore::open(&directory.path().join("none"), engine);
    assert!(matches!(outcome, Err(OpenError::Io { .. })), "{outcome:?}");
}

fn a_second_store_on_the_directory_is_refused(engine: EngineKind) {
    let directory = directory();
    let first = open(directory.path(), engine);
    let second = EmbeddedStore::open(directory.path(), engine);
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    drop(first);
    open(directory.path(), engine);
}

fn a_store_that_was_never_finished_is_made_anew(engine: EngineKind) {
    let directory = directory();
    let unfinished = directory.path().join(format!("keys.{engine}.new"));
    match engine {
        EngineKind::Redb => fs::write(unfinished, [0; 5000]).expect("writable"),
        EngineKind::Sled => {
            fs::create_dir(&unfinished).expect("writable");
            fs::write(unfinished.join("db"), [0; 5000]).expect("writable");
        }
    }
    let store = open(directory.path(), engine);
    put(&store, "key", b"value").expect("the store works");
}

fn a_database_of_another_engine_is_named(engine: EngineKind) {
    let directory = directory();
    drop(open(directory.path(), engine));
    for other in EngineKind::ALL.into_iter().filter(|other| *other != engine) {
        let outcome = EmbeddedStore::open(directory.path(), other);
        let named = matches!(&outcome, Err(OpenError::OtherEngine { found, expected, .. })
            if (*found, *expected) == (engine, other));
        assert!(named, "{outcome:?}");
    }
    open(directory.path(), engine);
}

/// sled takes a log that ends early for one that a crash cut off: only redb can tell.
#[test]
fn a_truncated_file_of_redb_is_damaged() {
    let engine = EngineKind::Redb;
    let length = fs::metadata(data_file(filled(engine).path(), engine)).expect("the file is there").len();
    for kept in [0, 1, 9, 100, 4096, length / 2, length - 1] {
        let directory = filled(engine);
        File::options()
            .write(true)
            .open(data_file(directory.path(), engine))
            .and_then(|file| file.set_len(kept))
            .expect("the file can be cut");
        let outcome = EmbeddedStore::open(directory.path(), engine);
        assert!(matches!(outcome, Err(OpenError::Damaged { .. })), "{kept} bytes: {outcome:?}");
    }
}

fn another_kind_of_file_is_damaged(engine: EngineKind) {
    let directory = directory();
    let file = data_file(directory.path(), engine);
    fs::create_dir_all(file.parent().expect("it lies in a directory")).expect("writable");
    fs::write(file, "not a database, but some text\n".repeat(1000)).expect("writable");
    let outcome = EmbeddedStore::open(directory.path(), engine);
    assert!(matches!(outcome, Err(OpenError::Damaged { .. })), "{outcome:?}");
}

fn altered_or_cut_bytes_never_make_opening_panic(engine: EngineKind) {
    let original = filled(engine);
    let length = fs::metadata(data_file(original.path(), engine)).expect("it is there").len();
    // The header, then a place in each page; sled fills up its segment with nothing.
    let pages = (4096..length.min(400_000)).step_by(4096 + 61);
    for offset in (0..512).step_by(64).chain(pages) {
        for cut in [false, true] {
            let directory = directory();
            copy(&database(original.path(), engine), &database(directory.path(), engine));
            let path = data_file(directory.path(), engine);
            let mut file = File::options().read(true).write(true).open(path).expect("writable");
            if cut {
                file.set_len(offset).expect("writable");
            } else {
                alter(&mut file, offset);
            }
            match EmbeddedStore::open(directory.path(), engine) {
                // Whether what is read is what was written, its authentication tells.
                Ok(store) => drop(block_on(store.range(b"", None, 1000))),
                Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "at {offset}: {error:?}"),
            }
        }
    }
}

fn alter(file: &mut File, offset: u64) {
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut byte)).expect("within the file");
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(&[byte[0] ^ 0xff])).expect("writable");
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir(to).expect("writable");
        for entry in fs::read_dir(from).expect("readable").flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).expect("copied");
    }
}

fn another_format_is_named(engine: EngineKind) {
    let directory = directory();
    drop(open(directory.path(), engine));
    let path = database(directory.path(), engine);
    match engine {
        EngineKind::Redb => {
            let database = Database::open(path).expect("it is a database");
            let write = database.begin_write().expect("writable");
            let meta = write.open_table(TableDefinition::<&str, u64>::new("meta"));
            meta.expect("the table is there").insert("format", 2).expect("writable");
            write.commit().expect("writable");
        }
        EngineKind::Sled => {
            let database = sled_database(&path);
            database.insert(b"mformat", &2_u64.to_be_bytes()).expect("writable");
            database.flush().expect("writable");
        }
    }
    let outcome = EmbeddedStore::open(directory.path(), engine);
    assert!(matches!(outcome, Err(OpenError::Format { found: 2, expected: 1, .. })), "{outcome:?}");
}

fn a_database_of_another_program_is_damaged(engine: EngineKind) {
    let directory = directory();
    let path = database(directory.path(), engine);
    match engine {
        EngineKind::Redb => drop(Database::create(path).expect("writable")),
        EngineKind::Sled => drop(sled_database(&path)),
    }
    let outcome = EmbeddedStore::open(directory.path(), engine);
    assert!(matches!(outcome, Err(OpenError::Damaged { .. })), "{outcome:?}");
}

fn sled_database(path: &Path) -> ::sled::Db {
    ::sled::Config::new().path(path).segment_size(8 * 1024 * 1024).open().expect("it opens")
}

fn writes_to_a_deleted_file_are_refused(engine: EngineKind) {
    let directory = directory();
    let store = open(directory.path(), engine);
    put(&store, "key", b"value").expect("the store works");
    fs::remove_file(data_file(directory.path(), engine)).expect("the file is there");

    let outcome = put(&store, "other", b"value");
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
    assert!(read(&store, "key").expect("what was written is still readable").is_some());
    assert_eq!(read(&store, "other"), Ok(None));
}

/// sled puts long pages into files of their own, which it does not sync; there must be none.
fn records_of_any_size_lie_in_one_file(engine: EngineKind) {
    let directory = directory();
    let store = open(directory.path(), engine);
    for round in 0..3 {
        for number in 0..100 {
            put(&store, &format!("{number}/{}", "k".repeat(500)), &vec![round; MAX_VALUE_BYTES])
                .expect("the store works");
        }
    }
    drop(store);
    let blobs = fs::read_dir(database(directory.path(), engine).join("blobs"));
    assert_eq!(blobs.map_or(0, Iterator::count), 0);
    let store = open(directory.path(), engine);
    let found = read(&store, &format!("99/{}", "k".repeat(500))).expect("the store works");
    assert_eq!(*found.expect("it was acknowledged").value, vec![2; MAX_VALUE_BYTES]);
}

#[test]
fn a_crash_leaves_a_file_of_redb_that_opens_without_being_read_whole() {
    let engine = EngineKind::Redb;
    let directory = filled(engine);
    let store = open(directory.path(), engine);
    put(&store, "last", b"value").expect("the store works");
    // What a kill leaves, for everything acknowledged is in the file.
    let crashed = self::directory();
    fs::copy(data_file(directory.path(), engine), data_file(crashed.path(), engine)).expect("copied");

    let repaired = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&repaired);
    let opened = ::redb::Builder::new()
        .set_repair_callback(move |_| seen.store(true, Ordering::Relaxed))
        .open(data_file(crashed.path(), engine))
        .expect("it opens");
    assert!(!repaired.load(Ordering::Relaxed), "the engine walked through the whole file");
    drop(opened);
    let reopened = open(crashed.path(), engine);
    assert!(read(&reopened, "last").is_ok_and(|found| found.is_some()));
}
