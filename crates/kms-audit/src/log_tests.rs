//! The log over a disk in memory: the contract, and who may open what.

use std::sync::mpsc::channel;

use kms_core::{
    Phase, RequestId,
    ports::{AuditError, AuditLog, Receipt},
    testing::audit::{AuditSubject, audit_log_contract, sample_record},
};

use crate::{
    FileLog, Health, LogConfig, OpenError, Problem, line::Line, memory_storage::MemoryStorage,
    recovery::Kept, segment,
};

const CONFIG: LogConfig = LogConfig { segment_bytes: 4000 };

struct Subject {
    log: FileLog,
    disk: MemoryStorage,
}

fn begin() -> Subject {
    let disk = MemoryStorage::default();
    let (log, opened) = FileLog::start(disk.clone(), CONFIG, Kept::default()).expect("an empty log opens");
    assert!(opened.open_intents.is_empty() && opened.repaired.is_none());
    Subject { log, disk }
}

impl AuditSubject for Subject {
    fn log(&self) -> &dyn AuditLog {
        &self.log
    }

    fn break_next_commit(&self) {
        self.disk.fail_next();
    }

    fn durable(&self) -> Vec<(RequestId, Phase)> {
        let lines = self.disk.verified_lines();
        let records = lines.iter().filter_map(|line| match Line::parse(line) {
            Ok(Line::Record(record)) => Some((record.request_id, record.phase)),
            _ => None,
        });
        records.collect()
    }
}

fn append(log: &FileLog, request: u128, phase: Phase) -> Result<Receipt, AuditError> {
    let (sender, answers) = channel();
    log.append(
        sample_record(request, phase),
        Box::new(move |answer| sender.send(answer).expect("a listener")),
    );
    answers.recv().expect("an answer")
}

#[test]
fn the_log_keeps_the_contract() {
    audit_log_contract(begin);
}

#[test]
fn a_deleted_segment_is_refused_until_a_restart() {
    let Subject { log, disk } = begin();
    append(&log, 1, Phase::Complete).expect("works at first");
    disk.delete(0);
    for request in 2..5 {
        let error = append(&log, request, Phase::Complete).expect_err("the file is gone");
        assert!(error.detail.contains("was deleted"), "{error}");
    }
    assert_eq!(log.health(), Health::Lost);
    assert!(disk.segment_list().is_empty(), "no new file hides the loss");
}

#[test]
fn a_segment_that_is_deleted_when_it_is_full_is_missed_before_the_next_one_begins() {
    let Subject { log, disk } = begin();
    let mut request = 1;
    while disk.verified_lines().iter().map(|line| line.len() as u64 + 1).sum::<u64>() < CONFIG.segment_bytes {
        append(&log, request, Phase::Complete).expect("works");
        request += 1;
    }
    assert_eq!(disk.segment_list(), [0]);
    disk.delete(0);
    let error = append(&log, request, Phase::Complete).expect_err("a whole segment is gone");
    assert!(error.detail.contains("was deleted"), "{error}");
    assert!(disk.segment_list().is_empty(), "no new segment hides the loss");
}

/// A header lists all open intents, and is no longer than a line may be.
#[test]
fn no_segment_begins_while_more_intents_are_open_than_its_header_lists() {
    let Subject { log, disk } = begin();
    for request in 1..=100 {
        append(&log, request, Phase::Intent).expect("works");
    }
    let segments = disk.segment_list().len();
    for request in 1000..1100 {
        append(&log, request, Phase::Complete).expect("works");
    }
    assert_eq!(disk.segment_list().len(), segments);
    for request in 1..=100 {
        append(&log, request, Phase::Outcome).expect("works");
    }
    assert!(disk.segment_list().len() > segments);
    disk.verified_lines();
}

#[test]
fn a_changed_last_record_is_found_when_a_failed_log_is_reopened() {
    let Subject { log, disk } = begin();
    append(&log, 1, Phase::Complete).expect("works at first");
    let end = disk.verified_lines().iter().map(|line| line.len() + 1).sum::<usize>();
    disk.overwrite(0, end - 3, b"x");
    disk.fail_next();
    append(&log, 2, Phase::Complete).expect_err("was told to fail");
    append(&log, 3, Phase::Complete).expect_err("the last record is another");
    assert_eq!(log.health(), Health::Lost);
}

#[test]
fn records_after_the_shutdown_are_refused() {
    let Subject { log, disk } = begin();
    append(&log, 1, Phase::Complete).expect("works at first");
    log.shutdown();
    append(&log, 2, Phase::Complete).expect_err("closed");
    assert_eq!(log.health(), Health::Closed);
    assert_eq!(disk.content(0).last(), Some(&b'\n'), "no zeros are left behind the last line");
}

#[test]
fn open_intents_pass_from_segment_to_segment() {
    let Subject { log, disk } = begin();
    append(&log, 1, Phase::Intent).expect("works");
    append(&log, 2, Phase::Intent).expect("works");
    for request in 10..60 {
        append(&log, request, Phase::Complete).expect("works");
    }
    append(&log, 2, Phase::Outcome).expect("works");
    drop(log);
    assert!(disk.segment_list().len() > 2);
    let (_log, opened) = FileLog::start(disk, CONFIG, Kept::default()).expect("opens again");
    let open: Vec<u128> = opened.open_intents.iter().map(|intent| intent.request_id.as_u128()).collect();
    assert_eq!(open, [1]);
}

fn three_segments() -> MemoryStorage {
    let Subject { log, disk } = begin();
    let mut request = 0;
    while disk.segment_list().len() < 3 {
        request += 1;
        append(&log, request, Phase::Complete).expect("works");
    }
    append(&log, request + 1, Phase::Complete).expect("works");
    drop(log);
    disk
}

fn problem(disk: MemoryStorage) -> Problem {
    match FileLog::start(disk, CONFIG, Kept::default()) {
        Err(OpenError::Damaged(fault)) => fault.problem,
        other => panic!("opened in spite of the damage, or failed otherwise: {other:?}"),
    }
}

#[test]
fn a_missing_segment_is_found_at_start() {
    let disk = three_segments();
    let middle = disk.segment_list()[1];
    disk.delete(middle);
    assert!(matches!(problem(disk), Problem::PreviousMissing));
}

#[test]
fn another_end_of_the_segment_before_is_found_at_start() {
    let disk = three_segments();
    let middle = disk.segment_list()[1];
    let content = disk.content(middle);
    let count = content.windows(9).rposition(|window| window == br#""count":1"#).expect("a count");
    disk.overwrite(middle, count + 8, b"2");
    assert!(matches!(problem(disk), Problem::PreviousDiffers));
}

#[test]
fn a_malformed_line_is_no_torn_tail() {
    let disk = three_segments();
    let last = disk.segment_list()[2];
    let length = disk.content(last).len();
    disk.overwrite(last, length - 3, b"x");
    assert!(matches!(problem(disk), Problem::Line(_)));
}

#[test]
fn names_of_segments_are_their_first_lines() {
    assert_eq!(segment::file_name(42), "00000000000000000042.jsonl");
    assert_eq!(segment::parse_name("00000000000000000042.jsonl"), Some(42));
    for other in ["42.jsonl", "+0000000000000000042.jsonl", "next.tmp", "00000000000000000042.jsonl~"] {
        assert_eq!(segment::parse_name(other), None);
    }
}
