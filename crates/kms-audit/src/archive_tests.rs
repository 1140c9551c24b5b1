//! The archive: what it holds verifies, what is removed is in it, and no moment of a crash loses a segment.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kms_core::{
    Phase, Record,
    operation::OperationName,
    ports::{AuditLog as _, Receipt},
    testing::audit::sample_record,
};
use tempfile::TempDir;

use crate::{
    Archive, ArchiveError, Expected, FileLog, LogConfig, OpenError, Problem, VerifyError,
    memory::Memory,
    retrace::MOST_FRESH,
    segment::file_name,
    storage::list,
    testing::{ORIGIN, SoftwareSigner},
    tiles::{Tile, WIDTH},
    verify, verify_against,
};

struct Site {
    directory: TempDir,
    signer: std::sync::Arc<SoftwareSigner>,
}

impl Site {
    /// A closed log of several segments, and an empty place for its archive.
    fn new() -> Self {
        let site = Self {
            directory: tempfile::tempdir().expect("a directory"),
            signer: SoftwareSigner::new([7; 32]),
        };
        fs::create_dir(site.place()).expect("a directory");
        fill(&site.open(), 700);
        site
    }

    fn open(&self) -> FileLog {
        let config = LogConfig { segment_bytes: 20_000 };
        FileLog::open(&self.log(), config, Some(self.signer.notarization())).expect("it opens").0
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn place(&self) -> PathBuf {
        self.directory.path().join("place")
    }

    fn held(&self) -> PathBuf {
        self.place().join(ORIGIN.replace('/', "_"))
    }

    fn archive(&self) -> Archive {
        Archive::new(&self.log(), &self.place())
    }

    fn segments(&self) -> Vec<u64> {
        list(&self.log()).expect("a log")
    }

    /// The log and its archive are sound, and together they have every line.
    fn check(&self) {
        let (log, archive) = (verify(&self.log()).expect("sound"), verify(&self.held()).expect("sound"));
        assert_eq!(archive.archived, 0);
        assert!(log.archived <= archive.covered, "{log:?} {archive:?}");
    }
}

fn append(log: &FileLog, record: Record) -> Receipt {
    let (sender, receiver) = std::sync::mpsc::channel();
    log.append(record, Box::new(move |answer| sender.send(answer).expect("the test waits")));
    receiver.recv().expect("an answer").expect("durable")
}

fn fill(log: &FileLog, count: u128) {
    for request in 0..count {
        append(log, sample_record(request, Phase::Complete));
    }
}

fn told(log: &FileLog, lines: u64) {
    let operation = OperationName::ArchiveSegment;
    append(log, Record { operation, archived_lines: Some(lines), ..sample_record(1, Phase::Complete) });
}

fn names(directory: &Path) -> Vec<u64> {
    list(directory).expect("a directory")
}

#[test]
fn all_closed_segments_are_archived_and_the_archive_verifies_by_itself() {
    let site = Site::new();
    let segments = site.segments();
    let active = *segments.last().expect("segments");
    assert!(segments.len() > 5, "{segments:?}");
    assert_eq!(site.archive().copy().expect("archived"), active);
    assert_eq!(names(&site.held()), segments[..segments.len() - 1]);
    let summary = verify(&site.held()).expect("sound");
    assert_eq!((summary.lines, summary.covered), (active, active));
    // Again: there is nothing to do. And later: it goes on where it was.
    assert_eq!(site.archive().copy().expect("archived"), active);
    fill(&site.open(), 300);
    let later = *site.segments().last().expect("segments");
    assert!(later > active);
    assert_eq!(site.archive().copy().expect("archived"), later);
    assert_eq!(verify(&site.held()).expect("sound").covered, later);
}

#[test]
fn few_tiles_are_held_however_long_the_first_copy_is() {
    let site = Site::new();
    fill(&site.open(), 700);
    let lines = site.archive().copy().expect("archived");
    assert!(lines / WIDTH as u64 > 2 * MOST_FRESH as u64, "there are more tiles");
    verify(&site.held()).expect("sound");
    let note = fs::read_to_string(site.held().join("checkpoint")).expect("a checkpoint");
    for index in 0..lines / WIDTH as u64 {
        let path = site.held().join("tile/0").join(format!("{index:03}"));
        assert_eq!(fs::metadata(path).expect("a tile").len(), 32 * WIDTH as u64, "{index}");
    }
    // The same once more, as it comes to what is copied.
    fs::remove_dir_all(site.held().join("tile")).expect("removed");
    fs::remove_file(site.held().join("checkpoint")).expect("removed");
    let archive = Memory::read(&site.held()).expect("read");
    let checkpoint = archive.open_note(&note).expect("its checkpoint");
    let grown = archive.grown_by(&names(&site.held()), 0, checkpoint).expect("as the checkpoint says");
    assert_eq!(grown.tree.size(), lines);
    assert!(grown.fresh.len() <= MOST_FRESH, "{} tiles are held", grown.fresh.len());
}

#[test]
fn a_log_whose_beginning_was_archived_goes_on_and_is_told_from_one_that_was_cut() {
    let site = Site::new();
    let held = site.archive().copy().expect("archived");
    let lines = site.archive().removable(held, 1).expect("listed").expect("several segments");
    let segments = site.segments();
    assert_eq!(lines, segments[segments.len() - 2]);
    let whole = fs::read(site.log().join(file_name(0))).expect("a segment");
    fs::remove_file(site.log().join(file_name(0))).expect("removed");
    match verify(&site.log()) {
        Err(VerifyError::Fault(fault)) => assert!(matches!(fault.problem, Problem::NotArchived), "{fault}"),
        other => panic!("a deleted beginning is not found: {other:?}"),
    }
    let expected = Expected { archived: true, ..Expected::default() };
    verify_against(&site.log(), &expected, |_| ()).expect("who knows better may say so");
    fs::write(site.log().join(file_name(0)), whole).expect("written");

    // A record of fewer lines does not do.
    told(&site.open(), lines - 1);
    assert_eq!(site.archive().remove(lines).expect("removed"), segments.len() as u64 - 2);
    match verify(&site.log()) {
        Err(VerifyError::Fault(fault)) => assert!(matches!(fault.problem, Problem::NotArchived), "{fault}"),
        other => panic!("more is gone than was archived: {other:?}"),
    }
    told(&site.open(), lines);
    site.check();
    fill(&site.open(), 300);
    site.archive().copy().expect("archived");
    site.check();
}

#[test]
fn a_record_above_the_newest_checkpoint_says_nothing() {
    let site = Site::new();
    let lines = site.archive().copy().expect("archived");
    let checkpoint = fs::read(site.log().join("checkpoint")).expect("a checkpoint");
    told(&site.open(), lines);
    site.archive().remove(lines).expect("removed");
    site.check();
    fs::write(site.log().join("checkpoint"), checkpoint).expect("written");
    match verify(&site.log()) {
        Err(VerifyError::Fault(fault)) => assert!(matches!(fault.problem, Problem::NotArchived), "{fault}"),
        other => panic!("anybody could have written it: {other:?}"),
    }
}

#[test]
fn whatever_a_crash_leaves_of_a_copy_is_made_whole() {
    let site = Site::new();
    let held = site.archive().copy().expect("archived");
    fill(&site.open(), 300);
    let before = tempfile::tempdir().expect("a directory");
    copy_all(&site.held(), before.path());
    let later = site.archive().copy().expect("archived");
    assert!(later > held);
    let after = tempfile::tempdir().expect("a directory");
    copy_all(&site.held(), after.path());
    let fresh: Vec<u64> = names(after.path()).into_iter().filter(|first| *first >= held).collect();
    assert!(fresh.len() > 1);
    // So many of the new segments are there, then all tiles, and the checkpoint is the old one in any case.
    for step in 0..=fresh.len() + 1 {
        fs::remove_dir_all(site.held()).expect("removed");
        copy_all(before.path(), &site.held());
        for first in &fresh[..step.min(fresh.len())] {
            fs::copy(after.path().join(file_name(*first)), site.held().join(file_name(*first)))
                .expect("copied");
        }
        if step > fresh.len() {
            fs::remove_dir_all(site.held().join("tile")).expect("removed");
            copy_all(&after.path().join("tile"), &site.held().join("tile"));
        }
        fs::write(site.held().join("segment.tmp"), b"{\"a").expect("written");
        assert_eq!(verify(&site.held()).expect("sound at every step").covered, held);
        assert_eq!(site.archive().copy().expect("archived"), later);
        site.check();
    }
}

#[test]
fn a_crash_amid_the_removal_leaves_a_sound_log() {
    let site = Site::new();
    let lines = site.archive().copy().expect("archived");
    told(&site.open(), lines);
    for first in site.segments() {
        site.check();
        drop(site.open());
        site.check();
        assert_eq!(site.archive().copy().expect("nothing to do"), lines);
        if first < lines {
            let next = site.segments()[1];
            assert_eq!(site.archive().remove(next).expect("removed"), 1);
        }
    }
    assert_eq!(site.segments(), [lines], "the active one stays");
    assert_eq!(site.archive().remove(u64::MAX).expect("nothing to do"), 0);
}

#[test]
fn what_is_not_in_the_archive_is_not_removed() {
    let site = Site::new();
    fs::remove_dir(site.place()).expect("removed");
    assert!(matches!(site.archive().copy(), Err(ArchiveError::Io { .. })), "the place is not there");
    fs::create_dir(site.place()).expect("a directory");
    let lines = site.archive().copy().expect("archived");
    let all = site.segments();
    // Altered, cut short or gone over there: it stays here.
    let second = site.held().join(file_name(all[1]));
    let sound = fs::read(&second).expect("a segment");
    fs::write(&second, &sound[..sound.len() - 1]).expect("written");
    assert!(
        matches!(site.archive().remove(lines), Err(ArchiveError::Differs { segment }) if segment == all[1])
    );
    assert_eq!(site.segments(), all[1..], "the first one was in order");
    fs::remove_file(&second).expect("removed");
    assert!(matches!(site.archive().remove(lines), Err(ArchiveError::Io { .. })));
    assert_eq!(site.segments(), all[1..]);
    // An empty place is not the archive of a log that begins later.
    fs::remove_dir_all(site.held()).expect("removed");
    assert!(matches!(site.archive().copy(), Err(ArchiveError::Gap { held: 0 })));
    assert!(matches!(site.archive().remove(lines), Err(ArchiveError::Io { .. })));
    assert_eq!(site.segments(), all[1..]);
}

#[test]
fn what_is_altered_on_the_way_does_not_count_as_archived() {
    let site = Site::new();
    let path = site.log().join(file_name(0));
    let sound = fs::read_to_string(&path).expect("a segment");
    fs::write(&path, sound.replacen("EnableKey", "DisableKey", 1)).expect("written");
    let refused = site.archive().copy();
    let damaged = |error: &ArchiveError| {
        matches!(error, ArchiveError::Archive(OpenError::Damaged(fault))
            if matches!(fault.problem, Problem::Altered { .. } | Problem::RootDiffers { .. }))
    };
    assert!(refused.as_ref().is_err_and(damaged), "{refused:?}");
    assert!(!site.held().join("checkpoint").exists(), "nothing counts as archived");
    fs::write(&path, sound).expect("written");
    site.archive().copy().expect("archived");
    site.check();
}

#[test]
fn a_segment_whose_end_no_checkpoint_has_waits_for_the_next_one() {
    let site = Site::new();
    let log = site.log().join("checkpoints.log");
    let all = fs::read_to_string(&log).expect("checkpoints");
    let end = format!("\\n{}\\n", site.segments().last().expect("segments"));
    let without: Vec<&str> = all.lines().filter(|line| !line.contains(&end)).collect();
    assert_eq!(without.len() + 1, all.lines().count(), "each end has its checkpoint");
    fs::write(&log, without.join("\n")).expect("written");
    let segments = site.segments();
    assert_eq!(site.archive().copy().expect("archived"), segments[segments.len() - 2]);
}

#[test]
fn the_end_of_a_segment_gets_its_checkpoint_when_the_key_comes_back() {
    let site = Site::new();
    let before = site.segments();
    let log = site.open();
    site.signer.set_working(false);
    fill(&log, 300);
    site.signer.set_working(true);
    drop(log);
    let segments = site.segments();
    assert!(segments.len() > before.len());
    assert_eq!(site.archive().copy().expect("archived"), segments[segments.len() - 1]);
}

#[test]
fn a_power_cut_that_takes_all_tiles_but_the_durable_ones_takes_no_archived_log() {
    let site = Site::new();
    let lines = site.archive().copy().expect("archived");
    told(&site.open(), lines);
    site.archive().remove(lines).expect("removed");
    // Full tiles, and edges beside those that were made durable, but no end of a segment.
    let open = |path: &Path| {
        FileLog::open(path, LogConfig::default(), Some(site.signer.notarization())).map(|(log, _)| log)
    };
    let log = open(&site.log()).expect("it opens");
    fill(&log, 300);
    let followed = site.segments()[0] + 300;
    while log.coverage().is_none_or(|coverage| coverage.signed < followed) {
        std::thread::yield_now();
    }
    let after = tempfile::tempdir().expect("a directory");
    copy_all(&site.log(), after.path());
    let durable: u64 =
        fs::read_to_string(after.path().join("tiles-durable")).expect("a number").parse().expect("a number");
    let edges: Vec<PathBuf> = Tile::edges(durable).map(|tile| after.path().join(tile.path())).collect();
    let mut lost = 0;
    for (path, level, index) in tiles(&after.path().join("tile")) {
        if !edges.contains(&path) && index >= durable >> (8 * (level + 1)) {
            fs::write(path, b"").expect("cut");
            lost += 1;
        }
    }
    assert!(lost > 0, "some tile was not durable yet");
    drop(log);
    drop(open(after.path()).expect("it opens"));
    verify(after.path()).expect("sound");
}

/// All tiles of a log that is not long, with their levels and indices.
fn tiles(directory: &Path) -> Vec<(PathBuf, u32, u64)> {
    let mut found = Vec::new();
    for level in fs::read_dir(directory).expect("a directory") {
        let level = level.expect("an entry");
        let number = level.file_name().to_str().expect("text").parse().expect("a level");
        for tile in fs::read_dir(level.path()).expect("a directory") {
            let tile = tile.expect("an entry");
            let name = tile.file_name().into_string().expect("text");
            let partial = name.strip_suffix(".p");
            let index = partial.unwrap_or(&name).parse().expect("an index");
            if partial.is_some() {
                let forms = fs::read_dir(tile.path()).expect("a directory");
                found.extend(forms.map(|form| (form.expect("an entry").path(), number, index)));
            } else {
                found.push((tile.path(), number, index));
            }
        }
    }
    found
}

#[test]
fn what_is_kept_is_counted_in_closed_segments() {
    let site = Site::new();
    let segments = site.segments();
    let (archive, last) = (site.archive(), segments.len() - 1);
    let removable = |below, keep| archive.removable(below, keep).expect("listed");
    assert_eq!(removable(u64::MAX, 0), Some(segments[last]), "the active one stays");
    assert_eq!(removable(u64::MAX, 2), Some(segments[last - 2]));
    assert_eq!(removable(segments[2], 0), Some(segments[2]));
    assert_eq!(removable(segments[2] - 1, 0), Some(segments[1]), "what is needed stays with its segment");
    assert_eq!((removable(u64::MAX, last), removable(segments[1] - 1, 0)), (None, None));
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
