//! A full disk: refused truthfully, and over as soon as there is space.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
    process::Command,
};

use futures_executor::block_on;
use kms_core::ports::{KeyStore, StoreError};
use kms_store::{EmbeddedStore, EngineKind, OpenError};
use tempfile::TempDir;

mod support;
use support::{on_every_engine, open, put, read};

on_every_engine!(
    a_full_disk_is_refused_and_recovered_from_without_a_restart,
    a_disk_that_the_store_itself_filled_still_answers_reads,
);

const VALUE: [u8; 16 * 1024] = [5; 16 * 1024];

/// A small disk, unmounted on drop.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// redb's file grows as it is needed; a segment of sled's log alone has 8 MiB.
    fn mount(engine: EngineKind) -> Self {
        let size = match engine {
            EngineKind::Redb => "size=4m",
            EngineKind::Sled => "size=48m",
        };
        let directory = TempDir::new().expect("a temporary directory");
        let outcome = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "tmpfs"])
            .arg(directory.path())
            .output()
            .expect("this test needs the mount command (Debian: apt install mount)");
        let reason = String::from_utf8_lossy(&outcome.stderr);
        assert!(outcome.status.success(), "this test must be allowed to mount (root): {reason}");
        Self { directory }
    }

    fn grow(&self) {
        let remount = Command::new("mount").args(["-o", "remount,size=96m"]).arg(self.path()).status();
        assert!(remount.is_ok_and(|status| status.success()), "it can be made larger");
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).expect("writable");
        loop {
            match ballast.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("cannot fill the disk: {error}"),
            }
        }
    }

    fn make_space(&self) {
        fs::remove_file(self.path().join("ballast")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "cannot unmount {}", self.path().display());
    }
}

/// Puts values until the store does not take one; answers how many it took, and whether it said of the
/// next one that it was refused. Where it cannot open its database again at once, it cannot know.
fn put_until_refused(store: &EmbeddedStore, prefix: &str) -> (usize, bool) {
    for number in 0..10_000 {
        match put(store, &format!("{prefix}/{number}"), &VALUE) {
            Ok(_) => {}
            Err(StoreError::Unavailable { .. }) => return (number, true),
            Err(StoreError::Unknown { .. }) => return (number, false),
            Err(other) => panic!("not a truthful answer on a full disk: {other}"),
        }
    }
    panic!("a small disk took more than it has");
}

fn check(store: &EmbeddedStore, prefix: &str, (taken, refused): (usize, bool)) {
    for number in 0..taken {
        let found = read(store, &format!("{prefix}/{number}")).expect("the store works");
        assert_eq!(*found.expect("it was acknowledged").value, VALUE);
    }
    let next = read(store, &format!("{prefix}/{taken}")).expect("the store works");
    assert!(next.is_none() || !refused, "it was refused");
}

fn a_full_disk_is_refused_and_recovered_from_without_a_restart(engine: EngineKind) {
    let disk = SmallDisk::mount(engine);
    let store = open(disk.path(), engine);
    put(&store, "before", b"value").expect("there is space");

    let mut taken = Vec::new();
    for round in 0..3 {
        disk.fill();
        let prefix = format!("full-{round}");
        taken.push((prefix.clone(), put_until_refused(&store, &prefix)));
        match read(&store, "before") {
            Ok(found) => assert!(found.is_some(), "what was acknowledged is there"),
            Err(error) => assert!(matches!(error, StoreError::Unavailable { .. }), "{error}"),
        }

        disk.make_space();
        put(&store, &format!("space-{round}"), b"value").expect("there is space again");
        for (prefix, taken) in &taken {
            check(&store, prefix, *taken);
        }
    }
    drop(store);

    let store = open(disk.path(), engine);
    for (prefix, taken) in &taken {
        check(&store, prefix, *taken);
    }
}

fn a_disk_that_the_store_itself_filled_still_answers_reads(engine: EngineKind) {
    let disk = SmallDisk::mount(engine);
    let store = open(disk.path(), engine);
    let taken = put_until_refused(&store, "key");
    assert!(taken.0 > 0, "there was space");
    drop(store);

    let store = match EmbeddedStore::open(disk.path(), engine) {
        Ok(store) => store,
        // sled writes to the end of its log when it opens, and says what it needs.
        Err(OpenError::Io { source, .. }) if engine == EngineKind::Sled => {
            assert_eq!(source.kind(), ErrorKind::StorageFull);
            disk.grow();
            open(disk.path(), engine)
        }
        Err(error) => panic!("a full disk must not keep the store from opening: {error}"),
    };
    check(&store, "key", taken);
    let found = block_on(store.range(b"key/", None, 10_000)).expect("readable").len();
    assert!(found == taken.0 || (!taken.1 && found == taken.0 + 1), "{found} of {}", taken.0);
}
