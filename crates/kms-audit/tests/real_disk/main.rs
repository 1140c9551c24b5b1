//! The log on real files: kills, injected errors, a full disk, files that vanish, two openers.

mod burst;
mod kills;
mod power_cut;

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::channel,
};

use kms_audit::{
    Entry, FileLog, Health, Line, LogConfig, Notarization, OpenError, Problem, VerifyError, read,
    testing::SoftwareSigner, verify,
};
use kms_core::{
    Phase,
    ports::{AuditError, AuditLog, Receipt},
    testing::audit::sample_record,
};
use tempfile::TempDir;

use crate::burst::{Answers, Burst};

/// Small, so that a burst passes several segments.
const CONFIG: LogConfig = LogConfig { segment_bytes: 100_000 };

#[expect(clippy::unnecessary_wraps, reason = "as a log is opened")]
fn notarization() -> Option<Notarization> {
    Some(SoftwareSigner::new([7; 32]).notarization())
}

fn open(directory: &Path) -> FileLog {
    FileLog::open(directory, CONFIG, notarization()).expect("the log opens").0
}

fn append(log: &FileLog, request: u128, phase: Phase) -> Result<Receipt, AuditError> {
    let (sender, answers) = channel();
    log.append(
        sample_record(request, phase),
        Box::new(move |answer| sender.send(answer).expect("the test listens")),
    );
    answers.recv().expect("an answer")
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let mut found: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    found.sort();
    found
}

/// The requests in the log, by their places.
fn requests(directory: &Path) -> BTreeMap<u64, u128> {
    let entries = read(directory).expect("the log can be listed").map(|entry| entry.expect("a line"));
    let records = entries.filter_map(|Entry { line, .. }| match line {
        Line::Record(record) => Some((record.seq, record.request_id.as_u128())),
        Line::Header(_) => None,
    });
    records.collect()
}

/// A burst whose calls of fdatasync fail as `when` says.
fn burst_with_errors(directory: &Path, when: &str) -> Answers {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
    command.arg(format!("inject=fdatasync:error=EIO:when={when}"));
    command.arg(std::env::current_exe().expect("this program has a path"));
    Burst::of(command, directory, CONFIG, 3000).wait()
}

#[test]
fn nothing_is_acknowledged_once_fdatasync_fails_for_good() {
    let directory = TempDir::new().expect("a directory");
    let answers = burst_with_errors(directory.path(), "20+");
    let refusal = answers.outcomes.iter().position(|durable| !durable).expect("refusals");
    assert!(answers.outcomes[refusal..].iter().all(|durable| !durable), "acknowledged afterwards");
    check_burst(directory.path(), &answers);
}

#[test]
fn one_failed_fdatasync_is_answered_and_healed() {
    let directory = TempDir::new().expect("a directory");
    let answers = burst_with_errors(directory.path(), "20");
    let refusal = answers.outcomes.iter().position(|durable| !durable).expect("a refusal");
    let later = answers.outcomes[refusal..].iter().filter(|durable| **durable).count();
    assert!(later > 1000, "the log goes on after the failure");
    check_burst(directory.path(), &answers);
}

/// The log is sound and has all that was acknowledged.
fn check_burst(directory: &Path, answers: &Answers) {
    drop(open(directory));
    verify(directory).expect("a sound log");
    assert!(!answers.durable.is_empty());
    answers.check(directory);
}

/// The kernel says once that pages could not be written, and then takes them to be clean.
#[test]
fn a_tile_whose_fsync_failed_is_written_anew() {
    let directory = TempDir::new().expect("a directory");
    let (path, trace) = (directory.path().join("audit"), directory.path().join("trace"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=openat,fsync", "-e", "inject=fsync:error=EIO:when=1", "-o"]);
    let (tile, unfinished) = (path.join("tile/0/000"), path.join("tile/0/000.tmp"));
    command.arg(&trace).arg("-P").arg(tile).arg("-P").arg(unfinished).arg("--");
    command.arg(std::env::current_exe().expect("this program has a path"));
    let answers = Burst::of(command, &path, CONFIG, 3000).wait();
    assert!(answers.outcomes.iter().all(|durable| *durable), "records do not wait for tiles");
    let trace = fs::read_to_string(&trace).expect("a trace");
    let calls = trace.lines().filter_map(|line| match line {
        line if line.contains("000.tmp") => Some("written"),
        line if line.contains("INJECTED") => Some("refused"),
        line if line.contains("fsync") => Some("synced"),
        _ => None, // opened to be synced
    });
    assert!(calls.eq(["written", "refused", "written", "synced"]), "{trace}");
    check_burst(&path, &answers);
}

/// A small file system in memory, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// Absent where the test may not mount.
    fn mount() -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(directory.path())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then(|| Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_records_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        assert!(std::env::var_os("CI").is_none(), "CI has to be able to mount a tmpfs");
        eprintln!("skipped: this user may not mount a tmpfs");
        return;
    };
    let path = disk.0.path().join("audit");
    let log = FileLog::open(&path, LogConfig::default(), notarization()).expect("the log opens").0;
    append(&log, 0, Phase::Intent).expect("there is room");
    let ballast = disk.0.path().join("ballast");
    // More than the disk holds: what fits is written, and the rest fails.
    fs::write(&ballast, vec![1; 5 << 20]).expect_err("the disk is full");
    let full = (1..20_000).find(|request| append(&log, *request, Phase::Complete).is_err());
    let full = full.expect("the zeros written ahead do not last");
    append(&log, 0, Phase::Outcome).expect_err("the disk is still full");
    assert_eq!(log.health(), Health::Failed);
    fs::remove_file(&ballast).expect("there is room again");
    while append(&log, 30_000, Phase::Complete).is_err() {
        std::thread::yield_now();
    }
    assert!(log.healthy() && log.statistics().failures > 0);
    drop(log);
    let summary = verify(&path).expect("a sound log");
    assert!(summary.open_intents.is_empty(), "the outcome that was owed is there");
    let present: Vec<u128> = requests(&path).into_values().collect();
    assert_eq!(present.len() as u128, full + 2, "the intent, what fitted, the outcome, the last record");
}

#[test]
fn a_file_that_was_deleted_is_not_written_on() {
    let directory = TempDir::new().expect("a directory");
    let log = open(directory.path());
    append(&log, 1, Phase::Complete).expect("works");
    fs::remove_file(&segments(directory.path())[0]).expect("deleted");
    for request in 2..4 {
        append(&log, request, Phase::Complete).expect_err("the file is gone");
    }
    assert_eq!(log.health(), Health::Lost);
    assert!(segments(directory.path()).is_empty(), "no new file hides the loss");
}

#[test]
fn a_file_that_was_moved_away_is_written_on_when_it_is_back() {
    let directory = TempDir::new().expect("a directory");
    let log = open(directory.path());
    append(&log, 1, Phase::Intent).expect("works");
    let segment = segments(directory.path()).remove(0);
    let aside = directory.path().join("aside");
    fs::rename(&segment, &aside).expect("moved");
    append(&log, 2, Phase::Complete).expect_err("the file is gone");
    append(&log, 1, Phase::Outcome).expect_err("and owed");
    assert_eq!(log.health(), Health::Lost);
    fs::rename(&aside, &segment).expect("moved back");
    while append(&log, 3, Phase::Complete).is_err() {
        std::thread::yield_now();
    }
    assert!(log.healthy());
    drop(log);
    let summary = verify(directory.path()).expect("a sound log");
    assert!(summary.open_intents.is_empty() && summary.covered == summary.lines, "{summary:?}");
    assert_eq!(requests(directory.path()).into_values().collect::<Vec<_>>(), [1, 1, 3]);
}

#[test]
fn a_file_that_was_cut_is_not_written_on() {
    let directory = TempDir::new().expect("a directory");
    let log = open(directory.path());
    append(&log, 1, Phase::Complete).expect("works");
    let segment = segments(directory.path()).remove(0);
    OpenOptions::new().write(true).open(&segment).expect("opens").set_len(0).expect("cut");
    append(&log, 2, Phase::Complete).expect_err("the file is cut");
    assert_eq!(log.health(), Health::Lost);
    drop(log);
    assert!(matches!(
        FileLog::open(directory.path(), CONFIG, notarization()),
        Err(OpenError::Damaged(fault)) if matches!(fault.problem, Problem::HeaderMissing)
    ));
}

/// A log of so many records in one segment, whose last one it was answered, and the segment.
fn one_segment(directory: &Path) -> (FileLog, PathBuf) {
    let log = open(directory);
    for request in 1..=300 {
        append(&log, request, Phase::Complete).expect("works");
    }
    append(&log, 0, Phase::Intent).expect("works");
    (log, segments(directory).pop().expect("a segment"))
}

/// Puts another file in the segment's place, and sees it refused.
fn replace(log: &FileLog, segment: &Path, content: &[u8]) {
    let copy = segment.with_file_name("copy");
    fs::write(&copy, content).expect("written");
    fs::rename(&copy, segment).expect("replaced");
    append(log, 0, Phase::Outcome).expect_err("another file has the name");
    assert_eq!(log.health(), Health::Lost);
}

/// Returns when records are refused for this reason: the file has been looked at.
fn await_refusal(log: &FileLog, reason: &str) {
    await_refusal_of(log, 500, reason);
}

fn await_refusal_of(log: &FileLog, request: u128, reason: &str) {
    while !append(log, request, Phase::Complete).expect_err("not adopted").detail.contains(reason) {
        std::thread::yield_now();
    }
}

#[test]
fn a_copy_of_the_file_is_written_on() {
    let directory = TempDir::new().expect("a directory");
    let (log, segment) = one_segment(directory.path());
    let content = fs::read(&segment).expect("readable");
    replace(&log, &segment, &content);
    while append(&log, 400, Phase::Complete).is_err() {
        std::thread::yield_now();
    }
    assert!(log.healthy());
    drop(log);
    let summary = verify(directory.path()).expect("a sound log");
    assert!(summary.open_intents.is_empty() && summary.covered == summary.lines, "{summary:?}");
    let last: Vec<_> = requests(directory.path()).into_values().rev().take(3).collect();
    assert_eq!(last, [400, 0, 0], "the intent, the outcome that was owed, and what came then");
}

#[test]
fn a_copy_that_was_altered_is_not_written_on() {
    let directory = TempDir::new().expect("a directory");
    let (log, segment) = one_segment(directory.path());
    let content = fs::read_to_string(&segment).expect("readable");
    let lines: Vec<&str> = content.lines().collect();
    // In the middle, and no shorter than before.
    let altered = content.replacen(lines[100], &lines[100].replace(":250,", ":251,"), 1);
    assert_ne!(altered, content);
    replace(&log, &segment, altered.as_bytes());
    await_refusal(&log, "by a file with other lines");
    // One that begins as the file does, and ends earlier.
    replace(&log, &segment, lines[..200].join("\n").as_bytes());
    await_refusal(&log, "was cut");
    // The true one.
    replace(&log, &segment, content.as_bytes());
    while append(&log, 400, Phase::Complete).is_err() {
        std::thread::yield_now();
    }
    drop(log);
    verify(directory.path()).expect("a sound log");
}

/// The file stays the same one for the system, and as long as it was: only what it holds is an earlier state.
#[test]
fn an_older_state_written_into_the_file_is_not_written_on() {
    let directory = TempDir::new().expect("a directory");
    let log = open(directory.path());
    append(&log, 1, Phase::Complete).expect("works");
    let segment = segments(directory.path()).remove(0);
    let older = fs::read(&segment).expect("readable");
    for request in 2..100 {
        append(&log, request, Phase::Complete).expect("works");
    }
    let content = fs::read(&segment).expect("readable");
    assert_eq!(older.len(), content.len(), "zeros are written ahead");
    let refused = |request, content: &[u8]| {
        fs::write(&segment, content).expect("written over");
        await_refusal_of(&log, request, "has lost the last acknowledged record");
        assert_eq!(log.health(), Health::Lost);
    };
    refused(100, &older);
    refused(101, &vec![0; content.len()]);
    // The last line alone is not what was acknowledged.
    let end = content.iter().rposition(|byte| *byte == b'\n').expect("a line") + 1;
    let begin = content[..end - 1].iter().rposition(|byte| *byte == b'\n').expect("a line before") + 1;
    let mut hollow = vec![0; content.len()];
    hollow[begin..end].copy_from_slice(&content[begin..end]);
    fs::write(&segment, &hollow).expect("written over");
    await_refusal(&log, "by a file with other lines");
    fs::write(&segment, &content).expect("written over");
    while append(&log, 102, Phase::Complete).is_err() {
        std::thread::yield_now();
    }
    drop(log);
    verify(directory.path()).expect("a sound log");
    let found: Vec<_> = requests(directory.path()).into_values().collect();
    assert_eq!(found, (1..100).chain([102]).collect::<Vec<_>>());
}

/// Whoever holds the lock on the copy may write there.
#[test]
fn a_copy_of_the_whole_directory_is_not_written_on() {
    let parent = TempDir::new().expect("a directory");
    let (path, aside) = (parent.path().join("audit"), parent.path().join("aside"));
    let (log, segment) = one_segment(&path);
    fs::rename(&path, &aside).expect("moved");
    fs::create_dir(&path).expect("made");
    let content = fs::read(aside.join(segment.file_name().expect("a name"))).expect("readable");
    replace(&log, &segment, &content);
    await_refusal(&log, "together with its directory");
}

#[test]
fn a_second_opener_is_refused_until_the_first_has_shut_down() {
    let directory = TempDir::new().expect("a directory");
    let log = open(directory.path());
    assert!(matches!(FileLog::open(directory.path(), CONFIG, notarization()), Err(OpenError::InUse)));
    log.shutdown();
    append(&open(directory.path()), 1, Phase::Complete).expect("works");
}

#[test]
fn a_torn_tail_is_cut_and_reported() {
    let directory = TempDir::new().expect("a directory");
    let log = open(directory.path());
    append(&log, 1, Phase::Complete).expect("works");
    drop(log);
    let segment = segments(directory.path()).remove(0);
    let whole = fs::read(&segment).expect("readable");
    fs::write(&segment, [&whole[..], b"{\"action\":\0\0\0\0piece\n\0\0"].concat()).expect("writable");
    let (log, opened) =
        FileLog::open(directory.path(), CONFIG, notarization()).expect("a torn tail is no damage");
    let repaired = opened.repaired.expect("reported");
    assert_eq!((repaired.offset, repaired.bytes), (whole.len() as u64, 20));
    append(&log, 2, Phase::Complete).expect("works");
    drop(log);
    assert_eq!(requests(directory.path()).into_values().collect::<Vec<_>>(), [1, 2]);
}

fn several_segments() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let (log, _) =
        FileLog::open(directory.path(), LogConfig { segment_bytes: 2000 }, notarization()).expect("opens");
    for request in 0..40 {
        append(&log, request, Phase::Complete).expect("works");
    }
    drop(log);
    assert!(segments(directory.path()).len() > 3);
    directory
}

fn fault(directory: &Path) -> kms_audit::Fault {
    match verify(directory) {
        Err(VerifyError::Fault(fault)) => fault,
        other => panic!("no fault found: {other:?}"),
    }
}

#[test]
fn the_verifier_names_the_first_bad_record() {
    let directory = several_segments();
    let segment = &segments(directory.path())[1];
    let text = fs::read_to_string(segment).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let place = |line: &str| match Line::parse(line.as_bytes()).expect("a line") {
        Line::Record(record) => record.seq,
        Line::Header(header) => header.seq,
    };

    fs::write(segment, text.replacen(lines[2], &lines[2].replace(",\"count\":1", ""), 1)).expect("written");
    let found = fault(directory.path());
    assert!(matches!(found.problem, Problem::Line(_)));
    assert_eq!(found.sequence, place(lines[2]));
    assert_eq!(found.offset, (lines[0].len() + lines[1].len() + 2) as u64);

    fs::write(segment, text.replacen(&format!("{}\n", lines[3]), "", 1)).expect("written");
    let found = fault(directory.path());
    assert!(matches!(found.problem, Problem::Sequence(_)));
    assert_eq!(found.sequence, place(lines[3]));

    fs::remove_file(segment).expect("deleted");
    assert!(matches!(fault(directory.path()).problem, Problem::Missing { .. }));
}

#[test]
fn files_and_directory_are_for_the_service_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = TempDir::new().expect("a directory");
    let path = parent.path().join("audit");
    let _log = open(&path);
    let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&segments(&path)[0]), 0o600);
}
