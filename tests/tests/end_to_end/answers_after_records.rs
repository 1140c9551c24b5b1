//! No answer leaves before its record is on stable storage: proved from a trace of system calls.

use std::{collections::HashMap, fs, process::Command};

use dewpoint_tests::{Dev, DevOptions, by_id, context, eventually};

/// How many calls are traced; one is in flight at a time.
const CALLS: usize = 50;
/// Requests, which carry a context of [`FILLER`], and answers are longer than this; whatever else HTTP/2
/// sends is shorter.
const SHORTEST_MESSAGE: i64 = 200;
/// How long the context of each request is.
const FILLER: usize = 300;
const READS: [&str; 3] = ["read", "recvfrom", "readv"];
const WRITES: [&str; 6] = ["write", "writev", "sendto", "sendmsg", "pwrite64", "pwritev"];

/// A system call that ended.
#[derive(Debug)]
struct SystemCall {
    name: String,
    /// What its descriptor stands for, as strace -y tells it.
    target: String,
    /// In which line of the trace it began, and in which it ended.
    began: usize,
    ended: usize,
    result: i64,
}

impl SystemCall {
    fn is(&self, names: &[&str], target: &str) -> bool {
        names.contains(&&*self.name) && self.target.contains(target)
    }
}

/// Reads `PID name(FD<target>, …) = result`, also where another thread's line stands in between.
fn parse(trace: &str) -> Vec<SystemCall> {
    let mut open: HashMap<&str, (String, String, usize)> = HashMap::new();
    let mut calls = Vec::new();
    for (line_number, line) in trace.lines().enumerate() {
        let Some((thread, text)) = line.trim_start().split_once(' ') else { continue };
        let text = text.trim_start();
        if !text.starts_with("<... ") {
            let Some((name, rest)) = text.split_once('(') else { continue };
            let target = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            let target = target.map_or_else(String::new, |(target, _)| target.to_owned());
            open.insert(thread, (name.to_owned(), target, line_number));
        }
        if text.ends_with("<unfinished ...>") {
            continue;
        }
        let result = text.rsplit_once(" = ").and_then(|(_, result)| result.split(' ').next()?.parse().ok());
        if let (Some((name, target, began)), Some(result)) = (open.remove(thread), result) {
            calls.push(SystemCall { name, target, began, ended: line_number, result });
        }
    }
    calls
}

/// Checks the last `count` requests: between the arrival of each and its answer, bytes are written to
/// the audit log, and an fdatasync of it that begins after that ends well.
fn check(trace: &str, count: usize) -> Result<(), String> {
    let calls = parse(trace);
    let messages = |names: &[&str]| -> Vec<&SystemCall> {
        let long = calls.iter().filter(|call| call.is(names, "socket:") && call.result >= SHORTEST_MESSAGE);
        long.collect()
    };
    let (arrivals, answers) = (messages(&READS), messages(&WRITES));
    if arrivals.len() < count || answers.len() < count {
        return Err(format!("{} arrivals and {} answers", arrivals.len(), answers.len()));
    }
    let last = |all: &[&SystemCall]| all.len() - count;
    for (arrival, answer) in arrivals[last(&arrivals)..].iter().zip(&answers[last(&answers)..]) {
        let within = |call: &SystemCall| call.began > arrival.ended && call.ended < answer.began;
        let written =
            calls.iter().find(|call| call.is(&WRITES, "/audit/") && within(call) && call.result > 0);
        let written = written.ok_or_else(|| format!("no record between {arrival:?} and {answer:?}"))?;
        let synced = calls.iter().any(|call| {
            call.is(&["fdatasync"], "/audit/")
                && within(call)
                && call.began > written.ended
                && call.result == 0
        });
        if !synced {
            return Err(format!("no fdatasync after {written:?} and before {answer:?}"));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_leaves_after_the_fdatasync_of_its_record() {
    let strace = Command::new("strace").arg("--version").output();
    assert!(strace.is_ok(), "strace is missing: apt-get install strace");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    let names = [&["fdatasync"], &READS[..], &WRITES[..]].concat().join(",");
    let command = format!("strace -f -y -qq -s 0 -e trace={names} -o");
    let mut through: Vec<String> = command.split(' ').map(str::to_owned).collect();
    through.push(path.to_str().expect("a text").to_owned());
    let arguments = vec!["--traffic-control=off".into()];
    let options = DevOptions { arguments, through, ..DevOptions::default() };
    let mut dev = Dev::start_in(directory.path().join("dev"), options, None);
    let mut admin = dev.user(0, "admin").await;
    let key_id = admin.create("k").await.key_id;
    let filler = context(&[("filler", &"x".repeat(FILLER))]);
    for _ in 0..CALLS {
        admin.generate(by_id(&key_id), filler.clone()).await.expect("made");
    }
    dev.stop();
    let trace = eventually("the end of the trace", async || {
        let trace = fs::read_to_string(&path).expect("a trace");
        trace.ends_with('\n').then_some(trace)
    });
    check(&trace.await, CALLS).expect("each record is durable before its answer leaves");
}

#[test]
fn the_check_finds_every_way_to_answer_too_early() {
    let read = "1 recvfrom(9<socket:[7]>, \"\"..., 8192, 0, NULL, NULL) = 480\n";
    let record = "2 pwrite64(5</d/audit/0.jsonl>, \"\"..., 700, 99) = 700\n";
    let sync = "2 fdatasync(5</d/audit/0.jsonl>) = 0\n";
    let answer = "1 writev(9<socket:[7]>, [{...}], 2) = 300\n";
    let window_update = "1 writev(9<socket:[7]>, [{...}], 1) = 35\n";
    let begun = "2 fdatasync(5</d/audit/0.jsonl> <unfinished ...>\n";
    let resumed = "2 <... fdatasync resumed>) = 0\n";
    for sound in [
        vec![read, record, sync, answer],
        vec![read, window_update, record, begun, window_update, resumed, answer],
        vec![read, record, sync, answer, read, record, begun, resumed, answer],
    ] {
        check(&sound.concat(), 1).expect("sound");
    }
    let failed = sync.replace("= 0", "= -1 EIO (Input/output error) (INJECTED)");
    let elsewhere = sync.replace("audit/0.jsonl", "store/keys.redb");
    for early in [
        vec![read, answer, record, sync],
        vec![read, record, answer, sync],
        vec![read, record, &failed, answer],
        vec![read, record, &elsewhere, answer],
        vec![read, sync, record, answer],
        vec![read, record, begun, answer, resumed],
        vec![read, begun, record, resumed, answer],
        vec![record, sync, read, answer],
    ] {
        assert!(check(&early.concat(), 1).is_err(), "{early:?}");
    }
}
