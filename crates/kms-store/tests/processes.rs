//! Processes that are killed, and disks that fail under them: nothing acknowledged is lost, and
//! what was refused did not happen.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead as _, BufReader, Lines, Write as _},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use kms_core::ports::{Revision, StoreError};
use kms_store::{OpenError, RedbStore};
use tempfile::TempDir;

mod support;
use support::{open, put, read};

const DIRECTORY: &str = "STORE_CHILD_DIRECTORY";
const TASK: &str = "STORE_CHILD_TASK";

/// Not a test of its own: the other tests run this program again, for this one function.
#[test]
fn child() {
    let (Some(directory), Ok(task)) = (env::var_os(DIRECTORY), env::var(TASK)) else { return };
    let directory = Path::new(&directory);
    say("");
    match task.as_str() {
        "open" => match RedbStore::open(directory) {
            Err(OpenError::InUse { .. }) => say("in-use"),
            other => say(&format!("unexpected {other:?}")),
        },
        "burst" => write_from_many_threads(directory),
        "sequence" => {
            let store = open(directory);
            write_in_sequence(&store, 0..60);
            say(if read(&store, "0").is_ok() { "readable" } else { "unreadable" });
        }
        "read-only" => {
            let store = open(directory);
            while put(&store, "key", b"value").is_ok() {}
            say(if read(&store, "key").is_ok() { "readable" } else { "unreadable" });
            // From here on only reads ask for the store; a minute is far more than it needs.
            let pause = || thread::sleep(Duration::from_millis(20));
            if (0..3000).any(|_| read(&store, "key").inspect_err(|_| pause()).is_ok()) {
                say("readable");
            }
        }
        other => panic!("no such task: {other}"),
    }
}

/// One write call, so that a kill cannot tear the line.
fn say(line: &str) {
    io::stdout().write_all(format!("{line}\n").as_bytes()).expect("the parent reads");
}

fn write_from_many_threads(directory: &Path) {
    let store = &open(directory);
    thread::scope(|scope| {
        for writer in 0..16 {
            scope.spawn(move || write_in_sequence(store, (writer << 32)..u64::MAX));
        }
    });
}

fn write_in_sequence(store: &RedbStore, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        match put(store, &number.to_string(), &[1; 600]) {
            Ok(revision) => say(&format!("written {number} {revision}")),
            Err(StoreError::Unavailable { .. }) => say(&format!("refused {number} 0")),
            Err(StoreError::Unknown { .. }) => say(&format!("unknown {number} 0")),
            Err(other) => panic!("unexpected: {other}"),
        }
    }
}

/// A child's words, until it ends.
struct Words {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Words {
    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("cannot run {command:?}: {error}: this test needs strace (Debian: apt install strace)")
        });
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Option<String> {
        self.lines.next().map(|line| line.expect("the child writes text"))
    }

    fn rest(mut self) -> Vec<String> {
        let rest = std::iter::from_fn(|| self.next()).collect();
        self.child.wait().expect("it is our child");
        rest
    }
}

/// What the child said of each number.
#[derive(Default)]
struct Answers {
    written: BTreeMap<u64, Revision>,
    refused: Vec<u64>,
    unknown: Vec<u64>,
    /// Whether a read worked after the last write.
    readable: bool,
}

impl Answers {
    fn note(&mut self, line: &str) {
        self.readable |= line == "readable";
        let words: Vec<_> = line.split(' ').collect();
        let [answer @ ("written" | "refused" | "unknown"), number, revision] = words[..] else { return };
        let number = number.parse().expect("a number");
        match answer {
            "written" => drop(self.written.insert(number, revision.parse().expect("a revision"))),
            "refused" => self.refused.push(number),
            _ => self.unknown.push(number),
        }
    }

    fn of(words: Words) -> Self {
        let mut answers = Self::default();
        words.rest().iter().for_each(|line| answers.note(line));
        answers
    }

    fn check(&self, directory: &Path) {
        let store = open(directory);
        for (number, revision) in &self.written {
            let found = read(&store, &number.to_string()).expect("the store works");
            let found = found.unwrap_or_else(|| panic!("{number} was acknowledged and is lost"));
            assert_eq!((found.revision, &*found.value), (*revision, &[1; 600][..]));
        }
        for number in &self.refused {
            let found = read(&store, &number.to_string()).expect("the store works");
            assert_eq!(found, None, "{number} was refused, so it must not be there");
        }
        put(&store, "after", b"value").expect("the store works on");
    }
}

fn this_program(directory: &Path, task: &str, mut command: Command) -> Command {
    command.args(["child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, directory).env(TASK, task);
    command
}

fn itself() -> Command {
    Command::new(env::current_exe().expect("this program has a path"))
}

/// Runs the task with system calls that fail as `inject` says; counted for each thread alone.
fn under_strace(inject: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["--follow-forks", "--quiet=all", "--output=/dev/null", "--inject", inject]);
    command.arg(env::current_exe().expect("this program has a path"));
    command
}

fn new_store() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    drop(open(directory.path()));
    directory
}

fn sequence_under_strace(inject: &str) -> Answers {
    let directory = new_store();
    let words = Words::of(this_program(directory.path(), "sequence", under_strace(inject)));
    let answers = Answers::of(words);
    let said = answers.written.len() + answers.refused.len() + answers.unknown.len();
    assert_eq!(said, 60, "the child answered every call");
    answers.check(directory.path());
    answers
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let directory = new_store();
    let _store = open(directory.path());
    let words = Words::of(this_program(directory.path(), "open", itself()));
    let said = words.rest();
    assert!(said.iter().any(|line| line == "in-use"), "{said:?}");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    for round in 1..=5 {
        let directory = new_store();
        let mut words = Words::of(this_program(directory.path(), "burst", itself()));
        let mut answers = Answers::default();
        while answers.written.len() < 150 * round {
            answers.note(&words.next().expect("the child goes on writing"));
        }
        words.child.kill().expect("it is our child");
        words.rest().iter().for_each(|line| answers.note(line));
        answers.check(directory.path());
    }
}

#[test]
fn a_disk_that_fails_to_sync_for_good_loses_nothing_acknowledged() {
    let answers = sequence_under_strace("fdatasync,fsync:error=EIO:when=20+");
    assert!(!answers.written.is_empty(), "the disk worked at first");
    assert_eq!(answers.unknown.len(), 1, "nobody can say what became of the first that failed");
    assert!(!answers.refused.is_empty(), "the others were refused");
    assert!(!answers.readable, "the database stays closed");
}

#[test]
fn a_sync_that_fails_once_is_resolved() {
    let answers = sequence_under_strace("fdatasync,fsync:error=EIO:when=20");
    assert_eq!(answers.unknown, [0; 0], "the file tells what became of it");
    assert!(answers.written.len() >= 59, "the store recovered by itself");
    assert!(answers.readable);
}

#[test]
fn a_write_that_fails_once_is_resolved() {
    let answers = sequence_under_strace("pwrite64:error=EIO:when=30");
    assert_eq!(answers.unknown, [0; 0], "the file tells what became of it");
    assert!(answers.written.len() >= 59, "the store recovered by itself");
    assert!(answers.readable);
}

#[test]
fn a_disk_that_fails_to_write_for_good_loses_nothing_acknowledged() {
    let answers = sequence_under_strace("pwrite64:error=EIO:when=30+");
    assert!(!answers.written.is_empty(), "the disk worked at first");
    assert!(!answers.refused.is_empty(), "then it refused");
    assert!(!answers.readable, "the database stays closed");
}

#[test]
fn a_store_that_only_reads_ask_for_is_opened_again() {
    let directory = new_store();
    // The commit, the attempt right after it and one more fail.
    let inject = under_strace("fdatasync:error=EIO:when=20..22");
    let said = Words::of(this_program(directory.path(), "read-only", inject)).rest();
    let said: Vec<_> = said.iter().filter(|line| line.ends_with("readable")).collect();
    assert_eq!(said, ["unreadable", "readable"]);
}
