//! Kills, and disks that fail: nothing acknowledged is lost, and what was refused did not happen.

use kms_store::EngineKind;
use tempfile::TempDir;

use crate::{
    children::{Answers, Words, itself, this_program, under_strace},
    support::{on_every_engine, open},
};

on_every_engine!(
    a_second_process_is_told_that_the_store_is_in_use,
    what_was_acknowledged_survives_a_kill,
    a_disk_that_fails_to_sync_for_good_loses_nothing_acknowledged,
    a_sync_that_fails_once_is_resolved,
    a_write_that_fails_once_is_resolved,
    a_disk_that_fails_to_write_for_good_loses_nothing_acknowledged,
    a_disk_that_is_slow_to_fail_holds_nobody_up,
    a_store_that_only_reads_ask_for_is_opened_again,
);

fn new_store(engine: EngineKind) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    drop(open(directory.path(), engine));
    directory
}

fn sequence_under_strace(engine: EngineKind, inject: &str) -> Answers {
    let directory = new_store(engine);
    let words = Words::of(this_program(directory.path(), engine, "sequence", under_strace(inject)));
    let answers = Answers::of(words);
    let said = answers.written.len() + answers.refused.len() + answers.unknown.len();
    assert_eq!(said, 60, "the child answered every call");
    answers.check(directory.path(), engine);
    answers
}

fn a_second_process_is_told_that_the_store_is_in_use(engine: EngineKind) {
    let directory = new_store(engine);
    let _store = open(directory.path(), engine);
    let words = Words::of(this_program(directory.path(), engine, "open", itself()));
    let said = words.rest();
    assert!(said.iter().any(|line| line == "in-use"), "{said:?}");
}

fn what_was_acknowledged_survives_a_kill(engine: EngineKind) {
    for round in 1..=5 {
        let directory = new_store(engine);
        let mut words = Words::of(this_program(directory.path(), engine, "burst-0", itself()));
        let mut answers = Answers::default();
        while answers.written.len() < 150 * round {
            answers.note(&words.next().expect("the child goes on writing"));
        }
        words.child.kill().expect("it is our child");
        words.rest().iter().for_each(|line| answers.note(line));
        answers.check(directory.path(), engine);
    }
}

fn a_disk_that_fails_to_sync_for_good_loses_nothing_acknowledged(engine: EngineKind) {
    let answers = sequence_under_strace(engine, "fdatasync,fsync:error=EIO:when=20+");
    assert!(!answers.written.is_empty(), "the disk worked at first");
    assert_eq!(answers.unknown.len(), 1, "nobody can say what became of the first that failed");
    assert!(!answers.refused.is_empty(), "the others were refused");
    assert!(!answers.readable, "the database stays closed");
}

fn a_sync_that_fails_once_is_resolved(engine: EngineKind) {
    let answers = sequence_under_strace(engine, "fdatasync,fsync:error=EIO:when=20");
    assert_eq!(answers.unknown, [0; 0], "the file tells what became of it");
    assert!(answers.written.len() >= 59, "the store recovered by itself");
    assert!(answers.readable);
}

/// Which of a thread's writes fails. redb's are all the writer's; sled's are those of many threads.
fn failing_write(engine: EngineKind) -> u32 {
    match engine {
        EngineKind::Redb => 30,
        EngineKind::Sled => 4,
    }
}

fn a_write_that_fails_once_is_resolved(engine: EngineKind) {
    let answers =
        sequence_under_strace(engine, &format!("pwrite64:error=EIO:when={}", failing_write(engine)));
    // sled writes when it opens, too: while that fails, nobody can say what became of the one before.
    let (unknown, failed) = if engine == EngineKind::Sled { (1, 20) } else { (0, 1) };
    assert!(answers.unknown.len() <= unknown, "the database tells what became of it");
    assert!(answers.written.len() >= 60 - failed, "the store recovered by itself");
    assert!(answers.readable);
}

fn a_disk_that_fails_to_write_for_good_loses_nothing_acknowledged(engine: EngineKind) {
    let answers =
        sequence_under_strace(engine, &format!("pwrite64:error=EIO:when={}+", failing_write(engine)));
    assert!(!answers.written.is_empty(), "the disk worked at first");
    assert!(answers.written.len() < 60, "then it did not");
    assert!(!answers.readable, "the database stays closed");
}

/// sled does not wake a commit whose write fails on another thread after the commit began to wait for it.
fn a_disk_that_is_slow_to_fail_holds_nobody_up(engine: EngineKind) {
    let when = failing_write(engine);
    let answers =
        sequence_under_strace(engine, &format!("pwrite64:error=EIO:when={when}+:delay_enter=100000"));
    assert!(!answers.written.is_empty(), "the disk worked at first");
    assert!(!answers.readable, "the database stays closed");
}

fn a_store_that_only_reads_ask_for_is_opened_again(engine: EngineKind) {
    let directory = new_store(engine);
    // The commit, the attempt right after it and one more fail.
    let inject = under_strace("fdatasync:error=EIO:when=20..22");
    let said = Words::of(this_program(directory.path(), engine, "read-only", inject)).rest();
    let said: Vec<_> = said.iter().filter(|line| line.ends_with("readable")).collect();
    assert_eq!(said, ["unreadable", "readable"]);
}
