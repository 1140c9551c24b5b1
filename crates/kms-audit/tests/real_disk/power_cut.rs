//! A loss of power: what was acknowledged is there afterwards, and the log opens and verifies.

use std::{fs, path::Path};

use dewpoint_test_disks::Disk;
use kms_audit::{Archive, Expected, LogConfig, prove_inclusion, verify, verify_against};
use tempfile::TempDir;

use crate::{
    CONFIG,
    burst::{Answers, Burst},
    open, segments,
};

/// Cuts the power under a burst, which is then over.
fn cut(disk: &Disk, burst: Burst) -> Answers {
    disk.cut_power();
    let answers = burst.kill();
    disk.restore_power();
    answers
}

fn check(directory: &Path, answers: &Answers) {
    verify(directory).expect("no crash is taken for damage");
    answers.check(directory);
    drop(open(directory));
    let summary = verify(directory).expect("a sound log");
    assert_eq!((summary.torn_bytes, summary.covered), (0, summary.lines));
    answers.check(directory);
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_of_a_new_log() {
    for acknowledged in [1, 30, 500, 3000] {
        let Some(disk) = Disk::make() else { return };
        let directory = disk.path().join("audit");
        let mut burst = Burst::endless(&directory, CONFIG);
        burst.await_durable(acknowledged);
        check(&directory, &cut(&disk, burst));
    }
}

#[test]
fn what_was_acknowledged_survives_power_cuts_of_an_old_log() {
    let Some(disk) = Disk::make() else { return };
    let directory = disk.path().join("audit");
    let mut all = Answers::default();
    for round in 0..6 {
        let mut burst = Burst::endless(&directory, CONFIG);
        burst.await_durable(500 + round * 37);
        all.durable.extend(cut(&disk, burst).durable);
        check(&directory, &all);
    }
}

/// How many lines need no lines for their hashes.
fn hashed(directory: &Path) -> u64 {
    fs::read_to_string(directory.join("tiles-durable")).map_or(0, |text| text.parse().expect("a number"))
}

/// Whether two segments have ended, so that all is done that the end of the first one demands.
fn has_settled(directory: &Path) -> bool {
    let third = segments(directory).get(2).and_then(|path| path.file_stem()?.to_str()?.parse().ok());
    third.is_some_and(|first: u64| hashed(directory) >= first)
}

/// Tiles that a killed process had written, but not synced, are as durable as `tiles-durable` says: the lines that
/// they stand for may be gone.
#[test]
fn tiles_that_a_killed_process_wrote_are_durable_before_anything_relies_on_them() {
    let Some(disk) = Disk::make() else { return };
    let directory = disk.path().join("audit");
    // Three full tiles and more, in one segment.
    let config = LogConfig { segment_bytes: 500_000 };
    let mut burst = Burst::endless(&directory, config);
    burst.await_durable(900);
    burst.kill();
    assert_eq!(hashed(&directory), 0, "no segment has ended");
    assert!(directory.join("tile/0/000").exists(), "a tile is full");
    let mut burst = Burst::endless(&directory, config);
    let mut more = 0;
    while !has_settled(&directory) {
        more += 100;
        burst.await_durable(more);
    }
    cut(&disk, burst);

    let place = TempDir::new().expect("a directory");
    let archive = Archive::new(&directory, place.path());
    let lines = archive.copy().expect("a segment has ended");
    assert!(lines > 900 && archive.remove(lines).expect("it may go") > 0);
    drop(open(&directory));
    let expected = Expected { archived: true, ..Expected::default() };
    verify_against(&directory, &expected, |_| ()).expect("a sound log");
    // Some of each tile.
    for sequence in (0..lines).step_by(50) {
        prove_inclusion(&directory, sequence, None).expect("its tiles are there");
    }
}
