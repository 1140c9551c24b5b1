//! This program as the child of its own tests: what it does, and what it says of it.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead as _, BufReader, Lines, Write as _},
    path::Path,
    process::{self, Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use kms_core::ports::{Revision, StoreError};
use kms_store::{EmbeddedStore, EngineKind, OpenError};

use crate::support::{open, put, read};

const DIRECTORY: &str = "STORE_CHILD_DIRECTORY";
const TASK: &str = "STORE_CHILD_TASK";
const ENGINE: &str = "STORE_CHILD_ENGINE";

/// Far more than any task needs: a child that hangs fails its test instead of holding it up for good.
const PATIENCE: Duration = Duration::from_secs(300);

/// What this program does when a test has started it; nothing if it is the test runner itself.
pub(crate) fn run_task() {
    let (Some(directory), Ok(task)) = (env::var_os(DIRECTORY), env::var(TASK)) else { return };
    let directory = Path::new(&directory);
    let named = |engine: &EngineKind| env::var(ENGINE).is_ok_and(|name| name == engine.name());
    let engine = EngineKind::ALL.into_iter().find(named).expect("the parent names an engine");
    say("");
    thread::spawn(|| {
        thread::sleep(PATIENCE);
        eprintln!("the child hangs");
        process::abort();
    });
    match task.as_str() {
        "open" => match EmbeddedStore::open(directory, engine) {
            Err(OpenError::InUse { .. }) => say("in-use"),
            other => say(&format!("unexpected {other:?}")),
        },
        burst if burst.starts_with("burst-") => {
            write_from_many_threads(directory, engine, burst[6..].parse().expect("a number"));
        }
        "sequence" => {
            let store = open(directory, engine);
            write_in_sequence(&store, 0..60);
            say(if read(&store, "0").is_ok() { "readable" } else { "unreadable" });
        }
        "read-only" => {
            let store = open(directory, engine);
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

/// Writes new records until it is killed, each in between others that are written over and over.
fn write_from_many_threads(directory: &Path, engine: EngineKind, round: u64) {
    let store = &open(directory, engine);
    thread::scope(|scope| {
        for writer in 0..16 {
            scope.spawn(move || {
                let first = (round << 40) + (writer << 32);
                write_in_sequence(
                    store,
                    (first..u64::MAX).inspect(|number| {
                        drop(put(store, &format!("again/{writer}/{}", number % 50), &[2; 2000]));
                    }),
                );
            });
        }
    });
}

fn write_in_sequence(store: &EmbeddedStore, numbers: impl Iterator<Item = u64>) {
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
pub(crate) struct Words {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Words {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("cannot run {command:?}: {error}: this test needs strace (Debian: apt install strace)")
        });
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    pub(crate) fn next(&mut self) -> Option<String> {
        self.lines.next().map(|line| line.expect("the child writes text"))
    }

    pub(crate) fn rest(mut self) -> Vec<String> {
        let rest = std::iter::from_fn(|| self.next()).collect();
        self.child.wait().expect("it is our child");
        rest
    }
}

/// What the child said of each number.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) written: BTreeMap<u64, Revision>,
    pub(crate) refused: Vec<u64>,
    pub(crate) unknown: Vec<u64>,
    /// Whether a read worked after the last write.
    pub(crate) readable: bool,
}

impl Answers {
    pub(crate) fn note(&mut self, line: &str) {
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

    pub(crate) fn of(words: Words) -> Self {
        let mut answers = Self::default();
        words.rest().iter().for_each(|line| answers.note(line));
        answers
    }

    pub(crate) fn check(&self, directory: &Path, engine: EngineKind) {
        let store = open(directory, engine);
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

pub(crate) fn this_program(
    directory: &Path,
    engine: EngineKind,
    task: &str,
    mut command: Command,
) -> Command {
    command.args(["child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, directory).env(TASK, task).env(ENGINE, engine.name());
    command
}

pub(crate) fn itself() -> Command {
    Command::new(env::current_exe().expect("this program has a path"))
}

/// Runs the task with system calls that fail as `inject` says; counted for each thread alone.
pub(crate) fn under_strace(inject: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["--follow-forks", "--quiet=all", "--output=/dev/null", "--inject", inject]);
    command.arg(env::current_exe().expect("this program has a path"));
    command
}
