//! Searches against the plain reader, over several segments.

use std::{ops::Range, path::Path, sync::mpsc::channel};

use kms_core::{Phase, ports::AuditLog as _, testing::audit::sample_record};
use tempfile::TempDir;

use crate::{Entry, FileLog, Found, Line, LogConfig, Order, ReadError, Search, end, read, search};

const RECORDS: u128 = 500;

fn begun() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A log of several segments, each longer than a block, that is still open: zeros follow its last line.
fn filled(directory: &Path) -> FileLog {
    let (log, _) = FileLog::open(directory, LogConfig { segment_bytes: 20_000 }, None).expect("an empty log");
    append(&log, 0..RECORDS);
    log
}

fn append(log: &FileLog, requests: Range<u128>) {
    for request in requests {
        let (sender, answers) = channel();
        let acknowledge = Box::new(move |answer| sender.send(answer).expect("a listener"));
        log.append(sample_record(request, Phase::Complete), acknowledge);
        answers.recv().expect("an answer").expect("durable");
    }
}

fn records(directory: &Path) -> Vec<Entry> {
    let entries = read(directory).expect("a log").map(|entry| entry.expect("a line"));
    entries.filter(|entry| matches!(entry.line, Line::Record(_))).collect()
}

fn every_third(entry: &Entry) -> bool {
    matches!(&entry.line, Line::Record(record) if record.request_id.as_u128().is_multiple_of(3))
}

/// All pages of a search for every third record.
fn pages(directory: &Path, mut places: Range<u64>, order: Order, limit: usize) -> Vec<Entry> {
    let mut all = Vec::new();
    loop {
        let wanted = Search { places, order, limit };
        let Found { entries, left } =
            search(directory, &wanted, |record| record.request_id.as_u128().is_multiple_of(3))
                .expect("a whole log");
        assert!(entries.len() <= limit);
        all.extend(entries);
        if left.is_empty() {
            return all;
        }
        places = left;
    }
}

#[test]
fn pages_hold_what_the_reader_reads_in_either_order_whatever_the_places_and_the_size() {
    let directory = begun();
    let _log = filled(directory.path());
    let files = std::fs::read_dir(directory.path()).expect("a directory").count();
    assert!(files > 3, "{files} segments are too few");
    let last = end(directory.path()).expect("a log");
    assert_eq!(last, records(directory.path()).last().expect("a record").line.sequence() + 1);
    for places in [0..last, 0..1, 1..last - 1, last / 2..last, last / 2..last / 2, 17..91, last - 1..last] {
        let fits = |entry: &Entry| places.contains(&entry.line.sequence()) && every_third(entry);
        let mut expected: Vec<_> = records(directory.path()).into_iter().filter(fits).collect();
        for limit in [1, 7, 1000] {
            let found = pages(directory.path(), places.clone(), Order::OldestFirst, limit);
            assert_eq!(found, expected, "{places:?} by {limit}");
        }
        expected.reverse();
        for limit in [1, 7, 1000] {
            let found = pages(directory.path(), places.clone(), Order::NewestFirst, limit);
            assert_eq!(found, expected, "{places:?} by {limit}, backwards");
        }
    }
}

#[test]
fn the_end_of_a_log_is_behind_its_last_line_whether_or_not_it_is_open() {
    let directory = begun();
    assert_eq!(end(directory.path()).expect("no segment yet"), 0);
    let (log, _) = FileLog::open(directory.path(), LogConfig::default(), None).expect("an empty log");
    assert_eq!(end(directory.path()).expect("a header"), 1);
    append(&log, 0..2);
    assert_eq!(end(directory.path()).expect("two records"), 3);
    log.shutdown();
    assert_eq!(end(directory.path()).expect("closed"), 3);
}

#[test]
fn what_was_written_meanwhile_is_found_by_the_next_search() {
    let directory = begun();
    let log = filled(directory.path());
    let seen = end(directory.path()).expect("a log");
    append(&log, 600..630);
    let now = end(directory.path()).expect("a log");
    let found = pages(directory.path(), seen..now, Order::OldestFirst, 4);
    let requests = found.iter().map(|entry| match &entry.line {
        Line::Record(record) => record.request_id.as_u128(),
        Line::Header(_) => panic!("a header was found"),
    });
    assert_eq!(requests.collect::<Vec<_>>(), (600..630).step_by(3).collect::<Vec<_>>());
}

#[test]
fn a_log_whose_beginning_went_is_read_from_the_line_that_it_begins_with() {
    let directory = begun();
    let _log = filled(directory.path());
    let last = end(directory.path()).expect("a log");
    let first = directory.path().join(crate::segment::file_name(0));
    std::fs::remove_file(first).expect("it is there");
    let expected: Vec<_> = records(directory.path()).into_iter().filter(every_third).collect();
    assert_eq!(pages(directory.path(), 0..last, Order::OldestFirst, 1000), expected);
    let mut found = pages(directory.path(), 0..last, Order::NewestFirst, 1000);
    found.reverse();
    assert_eq!(found, expected);
}

#[test]
fn a_log_that_lacks_lines_is_not_taken_to_hold_nothing_there() {
    let directory = begun();
    let log = filled(directory.path());
    log.shutdown();
    let last = end(directory.path()).expect("a log");
    let all = |mut places: Range<u64>, order| {
        while !places.is_empty() {
            places = search(directory.path(), &Search { places, order, limit: 1000 }, |_| true)?.left;
        }
        Ok::<_, ReadError>(())
    };
    for order in [Order::OldestFirst, Order::NewestFirst] {
        all(0..last, order).expect("whole");
        let error = all(0..last + 1, order).expect_err("there is no such line");
        assert!(matches!(error, ReadError::Io { .. }), "{error}");
    }
    let mut segments = crate::storage::list(directory.path()).expect("a directory");
    let amid = directory.path().join(crate::segment::file_name(segments.remove(2)));
    std::fs::remove_file(amid).expect("it is there");
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let error = all(0..last, order).expect_err("a segment is missing");
        assert!(matches!(error, ReadError::Io { .. }), "{error}");
    }
}

#[test]
fn a_search_ends_before_it_looked_or_found_too_much() {
    let directory = begun();
    let _log = filled(directory.path());
    let last = end(directory.path()).expect("a log");
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let places = 0..last;
        let wanted = Search { places, order, limit: 1000 };
        let nothing = search(directory.path(), &wanted, |_| false).expect("whole");
        assert_eq!(nothing.entries, []);
        let looked_at = last - (nothing.left.end - nothing.left.start);
        assert!(looked_at > 20 && !nothing.left.is_empty(), "{order:?}: {looked_at} lines");
        let found = search(directory.path(), &wanted, |_| true).expect("whole");
        let bytes: usize = found.entries.iter().map(|entry| entry.bytes.len()).sum();
        assert!((4 << 10..6 << 10).contains(&bytes) && !found.left.is_empty(), "{order:?}: {bytes} bytes");
    }
}
