//! A process that appends to a log until it is killed or its system calls break, and what it says of each record.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead as _, BufReader, Lines, Write as _},
    path::Path,
    process::{self, Child, ChildStdout, Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use kms_audit::{FileLog, LogConfig};
use kms_core::{Phase, ports::AuditLog, testing::audit::sample_record};

use crate::{notarization, requests};

const DIRECTORY: &str = "LOG_CHILD_DIRECTORY";
const SEGMENT_BYTES: &str = "LOG_CHILD_SEGMENT_BYTES";
const COUNT: &str = "LOG_CHILD_COUNT";

/// Far more than any burst needs: a child that hangs fails its test instead of holding it up for good.
const PATIENCE: Duration = Duration::from_secs(300);

/// So many records wait for their answers at a time.
const AT_ONCE: u128 = 16;

/// Not a test of its own: the other tests run this program again, for this one function.
#[test]
fn child() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok()).expect("the parent says it");
    thread::spawn(|| {
        thread::sleep(PATIENCE);
        eprintln!("the child hangs");
        process::abort();
    });
    append_many(Path::new(&directory), LogConfig { segment_bytes: number(SEGMENT_BYTES) }, number(COUNT));
}

/// Says `durable PLACE REQUEST` or `refused REQUEST`, one a line, of so many records.
fn append_many(directory: &Path, config: LogConfig, count: u64) {
    let (log, _) = FileLog::open(directory, config, notarization()).expect("the log opens");
    let start = u128::from(process::id()) << 64;
    let (sender, answers) = channel();
    let append = |request: u128| {
        let sender = sender.clone();
        let acknowledge = move |answer| drop(sender.send((request, answer)));
        log.append(sample_record(request, Phase::Complete), Box::new(acknowledge));
    };
    say(""); // what the test runner has written ends here
    (start..start + AT_ONCE).for_each(append);
    for next in start + AT_ONCE..start + AT_ONCE + u128::from(count) {
        let (request, answer) = answers.recv().expect("an answer");
        match answer {
            Ok(receipt) => say(&format!("durable {} {request}", receipt.sequence())),
            Err(_) => say(&format!("refused {request}")),
        }
        append(next);
    }
}

/// One write call, so that a kill cannot tear the line.
fn say(line: &str) {
    io::stdout().write_all(format!("{line}\n").as_bytes()).expect("the parent reads");
}

/// A child that appends.
pub(crate) struct Burst {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) answers: Answers,
}

impl Burst {
    /// Appends until it is killed.
    pub(crate) fn endless(directory: &Path, config: LogConfig) -> Self {
        Self::of(itself(), directory, config, u64::MAX)
    }

    /// Appends so many records by a command that runs this program.
    pub(crate) fn of(mut command: Command, directory: &Path, config: LogConfig, count: u64) -> Self {
        command.args(["burst::child", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(DIRECTORY, directory).env(COUNT, count.to_string());
        command.env(SEGMENT_BYTES, config.segment_bytes.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the process starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines, answers: Answers::default() }
    }

    /// Returns when so many records have been acknowledged.
    pub(crate) fn await_durable(&mut self, count: usize) {
        while self.answers.durable.len() < count {
            let line = self.lines.next().expect("the child goes on").expect("text");
            self.answers.note(&line);
        }
    }

    /// Kills it, and takes what it had said.
    pub(crate) fn kill(mut self) -> Answers {
        self.child.kill().expect("SIGKILL");
        self.wait()
    }

    /// What it says up to its end.
    pub(crate) fn wait(mut self) -> Answers {
        self.lines.map(|line| line.expect("text")).for_each(|line| self.answers.note(&line));
        self.child.wait().expect("ends");
        self.answers
    }
}

/// What a burst says, in its order.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The acknowledged requests, by their places.
    pub(crate) durable: BTreeMap<u64, u128>,
    /// For each answer, whether the record was acknowledged.
    pub(crate) outcomes: Vec<bool>,
}

impl Answers {
    fn note(&mut self, line: &str) {
        match *line.split_whitespace().collect::<Vec<_>>() {
            ["durable", sequence, request] => {
                let request = request.parse().expect("a request");
                self.durable.insert(sequence.parse().expect("a place"), request);
                self.outcomes.push(true);
            }
            ["refused", _] => self.outcomes.push(false),
            _ => {} // of the test runner
        }
    }

    /// Every acknowledged record is in its place in the log.
    pub(crate) fn check(&self, directory: &Path) {
        let present = requests(directory);
        for (sequence, request) in &self.durable {
            assert_eq!(present.get(sequence), Some(request), "record {sequence}");
        }
    }
}

/// This program.
pub(crate) fn itself() -> Command {
    Command::new(env::current_exe().expect("this program has a path"))
}
