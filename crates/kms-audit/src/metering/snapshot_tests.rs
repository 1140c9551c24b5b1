//! What was kept is believed beside its own log alone, and counting goes on from it as if it had never stopped.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::channel,
};

use kms_core::{
    Phase, Record, Timestamp, Verdict, identity::Stranger, key::KeyId, operation::OperationName,
    ports::AuditLog as _, testing::audit::sample_record,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{FileLog, LogConfig, end, segment::file_name, storage::list, testing::SoftwareSigner};

const DAY: i64 = 86_400_000_000;

/// A closed log of several segments: keys that are made, scheduled for deletion and destroyed, calls, and changes that are
/// still under way.
struct Site {
    directory: TempDir,
    whole: Meter,
}

impl Site {
    fn new(shift: i64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = LogConfig { segment_bytes: 5_000 };
        let notarization = SoftwareSigner::new([7; 32]).notarization();
        let path = directory.path().join("log");
        fs::create_dir(&path).expect("a directory");
        let (log, _) = FileLog::open(&path, config, Some(notarization)).expect("a log");
        for number in 0..80_u128 {
            for record in records(number, shift) {
                let (sender, answers) = channel();
                log.append(record, Box::new(move |answer| sender.send(answer).expect("a listener")));
                answers.recv().expect("an answer").expect("durable");
            }
        }
        drop(log);
        let mut site = Self { directory, whole: Meter::default() };
        site.whole = site.counted(Meter::default(), site.end());
        assert!(site.whole.keys() > 0 && !site.whole.opened.is_empty() && site.whole.accounts.len() > 2);
        site
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("metering")
    }

    fn end(&self) -> u64 {
        end(&self.log()).expect("a log")
    }

    fn counted(&self, mut meter: Meter, end: u64) -> Meter {
        while !count(&mut meter, &self.log(), end).expect("a log") {}
        meter
    }

    fn keep(&self, lines: u64) -> Meter {
        let meter = self.counted(Meter::default(), lines);
        meter.keep(&self.log(), &self.file()).expect("kept");
        meter
    }

    fn resume(&self) -> Result<Option<Meter>, SnapshotError> {
        Meter::resume(&self.log(), &self.file())
    }
}

/// What the service writes for one call.
fn records(number: u128, shift: i64) -> Vec<Record> {
    use OperationName::{CancelKeyDeletion, CreateKey, DestroyKey, GenerateRandom, ScheduleKeyDeletion};
    // Of how many keys ago.
    let (operation, back) = match number % 5 {
        0 => (CreateKey, 0),
        1 => (GenerateRandom, 0),
        2 => (ScheduleKeyDeletion, 1),
        3 => (CancelKeyDeletion, 2),
        _ => (DestroyKey, 3),
    };
    let time =
        Timestamp::from_micros(1_795_526_645_000_000 + shift + i64::try_from(number).expect("small") * DAY);
    let account = ["acme", "globex"][usize::from(number.is_multiple_of(3))];
    // Some calls are of nobody who is known.
    let caller = (operation != GenerateRandom || number.is_multiple_of(2)).then(|| tests::caller(account));
    let stranger =
        caller.is_none().then(|| Stranger { source: ([192, 0, 2, 1], 4711).into(), credential: None });
    let key_id = Some(KeyId::from_uuid(Uuid::from_u128(5 + number / 5 - back)));
    let done = Record { operation, time, caller, stranger, key_id, ..sample_record(number, Phase::Outcome) };
    if operation == GenerateRandom {
        return vec![Record { phase: Phase::Complete, ..done }];
    }
    let intent = Record { phase: Phase::Intent, verdict: Verdict::Pending, ..done.clone() };
    // Some never end.
    if number.is_multiple_of(11) { vec![intent] } else { vec![intent, done] }
}

#[test]
fn counting_goes_on_where_it_was_kept_as_if_it_had_never_stopped() {
    let site = Site::new(0);
    assert!(site.resume().expect("no file").is_none());
    // Wherever a crash comes: the file counts some lines, and the log has as many or more.
    for lines in 1..=site.end() {
        let kept = site.keep(lines);
        let resumed = site.resume().expect("its own log").expect("kept");
        assert_eq!(resumed, kept, "{lines} lines");
        assert_eq!(site.counted(resumed, site.end()), site.whole, "{lines} lines");
    }
    // A crash while it is being written leaves the one before.
    fs::write(site.file().with_extension("tmp"), b"{\"me").expect("written");
    assert_eq!(site.resume().expect("its own log"), Some(site.keep(site.end())));
}

#[test]
fn what_was_kept_makes_up_for_segments_that_are_gone() {
    let site = Site::new(0);
    let segments = list(&site.log()).expect("a log");
    site.keep(segments[3] + 2);
    let before = fs::read(site.file()).expect("kept");
    site.keep(segments[1]);
    let earlier = fs::read(site.file()).expect("kept");
    for first in &segments[..3] {
        fs::remove_file(site.log().join(file_name(*first))).expect("removed");
    }
    fs::write(site.file(), earlier).expect("written");
    assert!(matches!(site.resume(), Err(SnapshotError::OtherLog { .. })), "lines behind it are gone");
    fs::write(site.file(), before).expect("written");
    let resumed = site.resume().expect("its own log").expect("kept");
    let resumed = site.counted(resumed, site.end());
    assert_eq!((&resumed, resumed.whole_since()), (&site.whole, None));
    assert!(site.counted(Meter::default(), site.end()).whole_since().is_some(), "it is the file that helps");
}

#[test]
fn tiles_that_a_power_cut_took_do_not_matter() {
    let site = Site::new(0);
    let kept = site.keep(site.end());
    fs::remove_dir_all(site.log().join("tile")).expect("removed");
    assert!(site.resume().is_err(), "nothing tells the lines before the last segment");
    fs::write(site.log().join("tiles-durable"), "0").expect("written");
    assert_eq!(site.resume().expect("its own log"), Some(kept));
}

#[test]
fn a_damaged_file_is_not_believed() {
    let site = Site::new(0);
    site.keep(14);
    let sound = fs::read(site.file()).expect("kept");
    let refused = |bytes: &[u8], how: &str| {
        fs::write(site.file(), bytes).expect("written");
        assert!(matches!(site.resume(), Err(SnapshotError::Damaged { .. })), "{how}");
    };
    for at in 0..sound.len() {
        refused(&sound[..at], "cut");
        let mut flipped = sound.clone();
        flipped[at] ^= 1;
        refused(&flipped, "flipped");
    }
    refused(&[&sound[..], b"\n"].concat(), "more follows");
    // Of another build, and whole.
    let text = String::from_utf8(sound).expect("text");
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    let lines = &newer[..=newer[..newer.len() - 1].rfind('\n').expect("lines")];
    let end = format!("{{\"end\":\"{}\"}}\n", hex::encode(Sha256::digest(lines)));
    refused(format!("{lines}{end}").as_bytes(), "of another version");
}

#[test]
fn the_file_of_another_log_or_of_a_later_state_is_not_believed() {
    let (site, other) = (Site::new(0), Site::new(1));
    assert_eq!(site.end(), other.end());
    site.keep(site.end());
    fs::copy(site.file(), other.file()).expect("copied");
    assert!(matches!(other.resume(), Err(SnapshotError::OtherLog { .. })), "another log");
    let segments = list(&site.log()).expect("a log");
    let last = segments[segments.len() - 1];
    fs::remove_file(site.log().join(file_name(last))).expect("removed");
    assert!(matches!(site.resume(), Err(SnapshotError::OtherLog { lines }) if lines > last), "put back");
}

#[test]
fn what_cannot_be_kept_leaves_what_was() {
    let site = Site::new(0);
    let kept = site.keep(30);
    let ahead = Meter { next: site.end() + 1, ..site.keep(30) };
    ahead.keep(&site.log(), &site.file()).expect_err("the log does not have these lines");
    let nowhere = Path::new("/nonexistent/metering");
    kept.keep(&site.log(), nowhere).expect_err("no such directory");
    assert_eq!(site.resume().expect("its own log"), Some(kept));
}
