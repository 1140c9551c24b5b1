//! The audit log of a real service: signed by its token, carried elsewhere, and proved without it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    path::Path,
    process::{Command, Output},
    sync::mpsc,
    thread,
};

use dewpoint_tests::{Dev, Serve, check_log, eventually, get};
use kms_audit::{Expected, Problem, SignedCheckpoint, Summary, VerifierKey, VerifyError, verify_against};
use kms_proto::v1::{CreateKeyRequest, DescribeRootRequest};

fn key(audit: &Path) -> VerifierKey {
    let text = fs::read_to_string(audit.join("log-key")).expect("the log has a key");
    VerifierKey::parse(&text).expect("a verifier key")
}

fn verify(audit: &Path, key: VerifierKey, checkpoints: &[String]) -> Result<Summary, VerifyError> {
    let expected = Expected { key: Some(key), checkpoints: checkpoints.to_vec(), ..Expected::default() };
    verify_against(audit, &expected, |_| ())
}

/// What the Go program says, which shares no code with this one.
fn go_verifier(data: &Path, more: &[&str]) -> Output {
    independent_checks().arg("verify-log").arg(data).args(more).output().expect("bash is there")
}

fn independent_checks() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/independent-checks.sh"))
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

async fn make_keys(dev: &Dev, names: std::ops::Range<u32>) {
    let mut admin = dev.user(0, "admin").await;
    for name in names {
        let request = CreateKeyRequest { alias: format!("key-{name}"), ..CreateKeyRequest::default() };
        admin.keys.create_key(request).await.expect("made");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_under_a_checkpoint_of_the_token_when_the_service_has_ended() {
    let mut dev = Dev::start();
    make_keys(&dev, 0..5).await;
    dev.stop();
    let audit = dev.directory().join("audit");
    let (key, first) = (key(&audit), fs::read_to_string(audit.join("checkpoint")).expect("a checkpoint"));
    let summary = verify(&audit, key.clone(), &[]).expect("sound");
    assert_eq!((summary.covered, summary.checkpoints), (summary.lines, 1));

    // The same token goes on with the same key, and the later tree continues the earlier one.
    dev.start_again();
    make_keys(&dev, 5..8).await;
    dev.stop();
    let later = verify(&audit, key.clone(), std::slice::from_ref(&first)).expect("sound");
    assert!(later.covered == later.lines && later.lines > summary.lines);
    let earlier = dev.directory().join("earlier");
    fs::write(&earlier, &first).expect("written");
    let earlier = earlier.to_str().expect("a path");
    let sound = go_verifier(dev.directory(), &["--earlier", earlier]);
    assert!(sound.status.success(), "{}", told(&sound));

    // One record exchanged for another valid one.
    let segment = audit.join("00000000000000000000.jsonl");
    let sound = fs::read_to_string(&segment).expect("text");
    let line = sound.lines().position(|line| line.contains("\"CreateKey\"")).expect("a record");
    let forged = sound.replacen("\"CreateKey\"", "\"EnableKey\"", 1);
    fs::write(&segment, forged).expect("written");
    match verify(&audit, key, &[first]) {
        Err(VerifyError::Fault(fault)) => {
            assert!(matches!(fault.problem, Problem::Altered { .. }), "{fault}");
            assert_eq!(fault.sequence, line as u64, "{fault}");
        }
        other => panic!("not found: {other:?}"),
    }
    let found = go_verifier(dev.directory(), &["--earlier", earlier]);
    assert_eq!(found.status.code(), Some(1), "{}", told(&found));
    assert!(told(&found).contains(&format!("{line}")), "{}", told(&found));
}

/// A webhook on this machine: sends what it was told, and answers the first call with 503.
fn webhook() -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (sender, notes) = mpsc::channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).expect("a header");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
            }
            let mut note = vec![0; length];
            stream.read_exact(&mut note).expect("a body");
            let answer = if number == 0 { "503 Service Unavailable" } else { "204 No Content" };
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).expect("answered");
            if number > 0 && sender.send(String::from_utf8(note).expect("text")).is_err() {
                return;
            }
        }
    });
    (port, notes)
}

/// A short life of the service, in which something happens.
async fn live(serve: &mut Serve) {
    serve.start().await;
    serve.operator().await.roots.describe_root(DescribeRootRequest {}).await.expect("an operator");
    assert!(serve.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_leave_the_machine_and_outlive_what_is_done_to_the_log() {
    let syslog = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (port, notes) = webhook();
    let mut serve = Serve::prepare();
    let elsewhere = serve.directory().join("elsewhere");
    let config = format!(
        "[audit.checkpoints]\ndirectory = {elsewhere:?}\nsyslog = \"{}\"\n\
         [audit.checkpoints.webhook]\nurl = \"http://127.0.0.1:{port}/checkpoints\"\n",
        syslog.local_addr().expect("bound")
    );
    serve.add_configuration(&config);
    assert!(serve.run("init").status.success());
    live(&mut serve).await;

    let data = serve.directory().join("data");
    let audit = data.join("audit");
    let key = key(&audit);
    let newest = fs::read_to_string(audit.join("checkpoint")).expect("a checkpoint");
    let own = elsewhere.join(key.name().replace('/', "_"));
    assert_eq!(fs::read_to_string(own.join("checkpoint")).expect("it was carried"), newest);
    assert!(notes.try_iter().any(|note| note == newest), "the webhook has it, too");
    let mut message = [0; 4096];
    let length = syslog.recv(&mut message).expect("a message");
    let message = std::str::from_utf8(&message[..length]).expect("text");
    let (head, content) = message.split_once(" - checkpoint - ").expect("the form of RFC 5424");
    assert!(head.starts_with("<109>1 "), "{head}");
    let content: serde_json::Value = serde_json::from_str(content).expect("JSON");
    let note = content["checkpoint"].as_str().expect("a note");
    SignedCheckpoint::open(note, &key).expect("signed by the token");

    // The whole log is put back to what it was: only the copy elsewhere knows better.
    let older = tempfile::tempdir().expect("a directory");
    let copied = Command::new("cp").arg("-a").arg(&audit).arg(older.path()).status();
    assert!(copied.expect("cp is there").success());
    live(&mut serve).await;
    let newest = fs::read_to_string(own.join("checkpoint")).expect("it was carried");
    verify(&older.path().join("audit"), key.clone(), &[]).expect("sound by itself");
    match verify(&older.path().join("audit"), key, &[newest]) {
        Err(VerifyError::Fault(fault)) => assert!(matches!(fault.problem, Problem::CutOff { .. }), "{fault}"),
        other => panic!("not found: {other:?}"),
    }
    let found =
        go_verifier(older.path(), &["--checkpoint", own.join("checkpoint").to_str().expect("a path")]);
    assert_eq!(found.status.code(), Some(1), "{}", told(&found));
}

/// What a metric says of one place.
fn of_place(serve: &Serve, metric: &str, place: &str) -> u64 {
    let text = get(&serve.admin().expect("it listens"), "/metrics");
    let line = format!("dewpoint_{metric}_total{{place=\"{place}\"}} ");
    let found = text.lines().find_map(|one| one.strip_prefix(&line)).expect("a metric");
    found.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_leave_the_machine_is_counted_until_it_does() {
    let mut serve = Serve::prepare();
    let elsewhere = serve.directory().join("elsewhere");
    // Nobody listens there any more.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[audit.checkpoints]\ndirectory = {elsewhere:?}\n\
         [audit.checkpoints.webhook]\nurl = \"http://{closed}/checkpoints\"\n",
    );
    serve.add_configuration(&config);
    assert!(serve.run("init").status.success());
    serve.start().await;
    // A file stands in the way of the directory.
    let aside = serve.directory().join("aside");
    eventually("the directory", async || fs::rename(&elsewhere, &aside).ok()).await;
    fs::write(&elsewhere, b"in the way").expect("written");
    let before = of_place(&serve, "checkpoint_carried_lines", "directory");
    serve.operator().await.roots.describe_root(DescribeRootRequest {}).await.expect("an operator");
    for place in ["directory", "webhook"] {
        eventually("failures", async || {
            (of_place(&serve, "checkpoint_carry_failures", place) > 0).then_some(())
        })
        .await;
    }
    assert_eq!(of_place(&serve, "checkpoint_carried_lines", "webhook"), 0);
    fs::remove_file(&elsewhere).expect("removed");
    eventually("the directory has it", async || {
        (of_place(&serve, "checkpoint_carried_lines", "directory") > before).then_some(())
    })
    .await;
    assert!(serve.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_goes_on_from_its_checkpoint() {
    let mut dev = Dev::start();
    for round in 0..5 {
        make_keys(&dev, round * 10..round * 10 + 3).await;
        dev.kill();
        dev.start_again();
    }
    dev.stop();
    let audit = dev.directory().join("audit");
    let summary = verify(&audit, key(&audit), &[]).expect("sound");
    assert_eq!(summary.covered, summary.lines);
    let note = fs::read_to_string(audit.join("checkpoint")).expect("a checkpoint");
    let signed = SignedCheckpoint::open(&note, &key(&audit)).expect("signed");
    assert_eq!(signed.checkpoint.size, summary.lines);
    check_log(dev.directory());
}

/// What `dewctl` prints, and whether it ended well.
fn dewctl(dev: &Dev, arguments: &[&str]) -> (bool, String) {
    let output = dev.dewctl(arguments).output().expect("dewctl runs");
    (output.status.success(), told(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn dewctl_verifies_the_files_and_proves_by_call() {
    let mut dev = Dev::start();
    make_keys(&dev, 0..3).await;
    let audit = dev.directory().join("audit");
    let path = |name: &str| dev.directory().join(name).to_str().expect("a path").to_owned();
    let (kept, record, key) = (path("kept"), path("record"), format!("@{}", path("audit/log-key")));

    let newest = ["audit", "checkpoint", "--operator", "--log-key", &key];
    let note = eventually("a checkpoint", async || {
        let (done, note) = dewctl(&dev, &newest);
        done.then_some(note)
    })
    .await;
    fs::write(&kept, &note).expect("written");
    make_keys(&dev, 3..6).await;
    let growth = ["audit", "prove-growth", &kept, "--operator", "--log-key", &key, "--json"];
    let (done, said) = dewctl(&dev, &growth);
    assert!(done && said.contains("\"proved\": true"), "{said}");

    let lines = fs::read_to_string(audit.join("00000000000000000000.jsonl")).expect("text");
    let third = lines.lines().nth(2).expect("a record");
    fs::write(&record, third).expect("written");
    let prove = |seq| ["audit", "prove", seq, "--record", &record, "--operator", "--log-key", &key, "--json"];
    // A checkpoint covers it within a second.
    let said = eventually("a proof", async || {
        let (done, said) = dewctl(&dev, &prove("2"));
        done.then_some(said)
    })
    .await;
    assert!(said.contains("\"proved\": true"), "{said}");
    let (done, said) = dewctl(&dev, &prove("1"));
    assert!(!done && said.contains("another record"), "{said}");
    let (done, said) = dewctl(&dev, &prove("1000000"));
    assert!(!done && said.contains("seq"), "{said}");

    // The files, while the service runs and afterwards.
    let data = dev.directory().to_str().expect("a path").to_owned();
    let verify = ["audit", "verify", &data, "--log-key", &key, "--checkpoint", &kept, "--json"];
    let (done, said) = dewctl(&dev, &verify);
    assert!(done && said.contains("\"sound\": true"), "{said}");
    dev.stop();
    let (done, said) = dewctl(&dev, &verify);
    assert!(done && said.contains("\"uncovered_lines\": 0"), "{said}");
    let lines = fs::read_to_string(audit.join("00000000000000000000.jsonl")).expect("text");
    let altered = lines.replacen(third, &third.replacen("succeeded", "failed", 1), 1);
    assert_ne!(altered, lines);
    fs::write(audit.join("00000000000000000000.jsonl"), altered).expect("written");
    let (done, said) = dewctl(&dev, &verify);
    assert!(!done && said.contains("not sound") && said.contains("line 2"), "{said}");
}

/// What whoever can write the log may do to one of its lines.
const HARMS: [&str; 6] = ["flip", "forge", "drop", "swap", "insert", "cut"];

/// How many bytes are altered, one at a time.
const ALTERED: u64 = 150;

/// Does it to the line at this place; the first bad line is there, or for a copy of a line right behind it.
fn harm(lines: &mut Vec<String>, at: usize, how: &str) -> usize {
    match how {
        "flip" => {
            let flipped = lines[at].replacen("\"v\":1", "\"v\":3", 1);
            lines[at] = flipped;
        }
        // Another valid record.
        "forge" => {
            let (before, latency) = lines[at].split_once("\"latency_us\":").expect("a record");
            let (digits, after) = latency.split_once(',').expect("more members");
            let other = digits.parse::<u64>().expect("a number") + 1;
            let forged = format!("{before}\"latency_us\":{other},{after}");
            lines[at] = forged;
        }
        "drop" => drop(lines.remove(at)),
        "swap" => lines.swap(at, at + 1),
        "insert" => {
            lines.insert(at + 1, lines[at].clone());
            return at + 1;
        }
        _ => lines.truncate(at),
    }
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn both_verifiers_name_the_line_that_was_harmed() {
    let mut dev = Dev::start();
    make_keys(&dev, 0..10).await;
    dev.stop();
    let (audit, segment) = (dev.directory().join("audit"), "00000000000000000000.jsonl");
    let (key, note) = (key(&audit), fs::read_to_string(audit.join("checkpoint")).expect("a checkpoint"));
    let sound = fs::read_to_string(audit.join(segment)).expect("text");
    let lines = sound.lines().map(str::to_owned).collect::<Vec<_>>();
    let program = dev.directory().join("verifier");
    let built = independent_checks().arg("build-verifier").arg(&program).output().expect("bash is there");
    assert!(built.status.success(), "{}", told(&built));
    let log_key = format!("@{}", audit.join("log-key").display());
    let check = |harmed: &[u8], place: usize, story: &str| {
        fs::write(audit.join(segment), harmed).expect("written");
        match verify(&audit, key.clone(), std::slice::from_ref(&note)) {
            Err(VerifyError::Fault(fault)) => assert_eq!(fault.sequence, place as u64, "{story}: {fault}"),
            other => panic!("{story} was not found: {other:?}"),
        }
        let found = Command::new(&program).args(["--key", &log_key]).arg(dev.directory()).output();
        let found = found.expect("it was built");
        assert_eq!(found.status.code(), Some(1), "{story}: {}", told(&found));
        assert!(told(&found).contains(&format!("line {place}: ")), "{story}: {}", told(&found));
    };
    for how in HARMS {
        for at in 1..lines.len() - 1 {
            let mut harmed = lines.clone();
            let place = harm(&mut harmed, at, how);
            check((harmed.join("\n") + "\n").as_bytes(), place, &format!("{how} at {at}"));
        }
    }
    // An older state of the file, as long as the file is.
    for at in 1..lines.len() {
        let mut older = (lines[..at].join("\n") + "\n").into_bytes();
        older.resize(sound.len(), 0);
        check(&older, at, &format!("only {at} lines"));
    }
    for number in 1..=ALTERED {
        // Any bytes, the same ones in every run.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = usize::try_from(mixed >> 32).expect("small") % sound.len();
        let mut altered = sound.clone().into_bytes();
        altered[at] ^= mixed.to_le_bytes()[1].max(1);
        let place = sound[..at].matches('\n').count();
        check(&altered, place, &format!("byte {at} is {}", altered[at]));
    }
}
