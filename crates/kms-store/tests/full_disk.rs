//! A full disk: refused truthfully, and over as soon as there is space.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
    process::Command,
};

use futures_executor::block_on;
use kms_core::ports::{KeyStore, StoreError};
use kms_store::RedbStore;
use tempfile::TempDir;

mod support;
use support::{open, put, read};

const VALUE: [u8; 16 * 1024] = [5; 16 * 1024];

/// A disk of 4 MiB, unmounted on drop.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    fn mount() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let outcome = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(directory.path())
            .output()
            .expect("this test needs the mount command (Debian: apt install mount)");
        let reason = String::from_utf8_lossy(&outcome.stderr);
        assert!(outcome.status.success(), "this test must be allowed to mount (root): {reason}");
        Self { directory }
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

/// Puts values until the store refuses one; answers how many it took.
fn put_until_refused(store: &RedbStore, prefix: &str) -> usize {
    for number in 0..1000 {
        match put(store, &format!("{prefix}/{number}"), &VALUE) {
            Ok(_) => {}
            Err(StoreError::Unavailable { .. }) => return number,
            Err(other) => panic!("not a truthful answer on a full disk: {other}"),
        }
    }
    panic!("a disk of 4 MiB took 16 MiB");
}

fn check(store: &RedbStore, prefix: &str, taken: usize) {
    for number in 0..taken {
        let found = read(store, &format!("{prefix}/{number}")).expect("the store works");
        assert_eq!(*found.expect("it was acknowledged").value, VALUE);
    }
    assert_eq!(read(store, &format!("{prefix}/{taken}")), Ok(None), "it was refused");
}

#[test]
fn a_full_disk_is_refused_and_recovered_from_without_a_restart() {
    let disk = SmallDisk::mount();
    let store = open(disk.path());
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

    let store = open(disk.path());
    for (prefix, taken) in &taken {
        check(&store, prefix, *taken);
    }
}

#[test]
fn a_disk_that_the_store_itself_filled_still_answers_reads() {
    let disk = SmallDisk::mount();
    let store = open(disk.path());
    let taken = put_until_refused(&store, "key");
    assert!(taken > 0, "there was space");
    drop(store);

    // Opening needs no more space than there is, or says so.
    match RedbStore::open(disk.path()) {
        Ok(store) => {
            check(&store, "key", taken);
            assert_eq!(block_on(store.range(b"key/", None, 1000)).expect("readable").len(), taken);
        }
        Err(error) => panic!("a full disk must not keep the store from opening: {error}"),
    }
}
