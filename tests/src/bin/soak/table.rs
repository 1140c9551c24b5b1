//! `soak table`: each fault alone, several times, under light load; a table of what it costs, in Markdown.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use kms_client::{Client, KeyReference};
use tokio::time::{Instant, sleep};

use crate::{
    faults::Fault,
    injector::works,
    load::{DEADLINE, context},
    observer::{Look, Observer, take, trouble, troubles},
    site::Site,
};

/// How often each fault happens.
const ROUNDS: usize = 5;
/// Between the end of one fault and the next: more than one look at health.
const REST: Duration = Duration::from_secs(2);
/// Before a worker dies: one that has served for 10 s is replaced at once, and who dies sooner may be in a crash loop.
const REST_BEFORE_DEATH: Duration = Duration::from_secs(11);
/// How long those faults last that last.
const STORM: Duration = Duration::from_secs(2);

/// What happens.
enum Cause {
    Fault(Fault),
    /// The token is initialised anew, and after this time its files are restored.
    TokenAnew(Duration),
    /// A caller sends altered ciphertexts for so long, to a key that seals in the HSM.
    BadCiphertexts(Duration),
}

/// A row of the table.
struct Row {
    name: &'static str,
    cause: Cause,
    /// The cause is over with the first call that met it.
    counted: bool,
}

/// What one row came to.
#[derive(Default)]
struct Measured {
    once: BTreeMap<String, usize>,
    retrying: BTreeMap<String, usize>,
    calls: usize,
    longest_once: Duration,
    longest_retrying: Duration,
    heals: Vec<Duration>,
    unhealthy_after: Vec<Duration>,
    healthy_after: Vec<Duration>,
}

fn module(name: &'static str, lines: &str, lasts: Duration) -> Row {
    let counted = lasts < Duration::from_secs(1);
    Row { name, cause: Cause::Fault(Fault::Module { name, lines: lines.to_owned(), lasts }), counted }
}

fn rows(token_can_move: bool) -> Vec<Row> {
    let short = Duration::from_millis(300);
    let lasting = |name, fault| Row { name, cause: Cause::Fault(fault), counted: false };
    let mut rows = vec![
        module("one call fails (`CKR_DEVICE_ERROR`)", "C_Sign error 0x30 1", short),
        module("lost session (`CKR_SESSION_HANDLE_INVALID`)", "C_SignInit error 0xb3 1", short),
        module("lost object (`CKR_KEY_HANDLE_INVALID`)", "C_SignInit error 0x60 1", short),
        module("lost login (`CKR_USER_NOT_LOGGED_IN`)", "C_SignInit error 0x101 1", short),
        module("every call fails for 2 s (`CKR_DEVICE_ERROR`)", "* error 0x30", STORM),
        module("every call fails for 2 s (`CKR_GENERAL_ERROR`)", "* error 0x5", STORM),
        module("`C_Decrypt` alone fails for 2 s (`CKR_GENERAL_ERROR`)", "C_Decrypt error 0x5", STORM),
        module("one call hangs for 3 s", "C_Sign hang 3000 1", Duration::from_secs(3)),
        module("both workers hang for 3 s", "C_Sign hang 3000 2", Duration::from_secs(3)),
        module("both workers hang for 15 s", "C_Sign hang 15000 2", Duration::from_secs(15)),
    ];
    if token_can_move {
        rows.push(lasting("token files away for 2 s", Fault::TokenAway(STORM)));
        rows.push(Row {
            name: "token initialised anew, restored after 2 s",
            cause: Cause::TokenAnew(STORM),
            counted: false,
        });
    }
    rows.push(lasting("worker killed (`kill -9`)", Fault::Kill));
    rows.push(lasting("crash inside the module (SIGSEGV)", Fault::Crash("C_Sign")));
    rows.push(Row {
        name: "altered ciphertexts for 2 s, of a key that seals in the HSM",
        cause: Cause::BadCiphertexts(STORM),
        counted: false,
    });
    rows
}

/// Measures all rows, or those in whose names one of these words is.
pub(crate) async fn run(words: &[String]) -> bool {
    let mut site = Site::open(2).await;
    let keys = site.one_of_each();
    let (once, retrying) = (site.probe(DEADLINE).await, site.client().await);
    let observer = Observer::start(&once, &retrying, &site.generated().await, &keys);
    println!(
        "| fault | without retry | with kms-client's retry | heals in (worst) | NOT_SERVING after | SERVING after |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let wanted = |row: &Row| words.is_empty() || words.iter().any(|word| row.name.contains(word));
    settled(&once, &keys).await;
    for row in rows(site.token_directory().is_some()).into_iter().filter(wanted) {
        eprintln!("{}", row.name);
        let mut measured = Measured::default();
        for _ in 0..ROUNDS {
            round(&site, &once, &keys, &row, &observer, &mut measured).await;
        }
        println!("{}", line(row.name, &measured));
    }
    drop(observer);
    site.supervised.stop().success()
}

/// Waits until all works, and a while longer.
async fn settled(client: &Client, keys: &[String]) {
    while !works(client, keys).await {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(REST).await;
}

async fn round(
    site: &Site,
    client: &Client,
    keys: &[String; 3],
    row: &Row,
    observer: &Observer,
    measured: &mut Measured,
) {
    if matches!(row.cause, Cause::Fault(Fault::Kill | Fault::Crash(_))) {
        sleep(REST_BEFORE_DEATH).await;
    }
    let all = [&observer.once, &observer.retrying, &observer.health];
    for looks in all {
        drop(take(looks));
    }
    let begin = Instant::now();
    match &row.cause {
        Cause::Fault(fault) => fault.happen(site).await,
        Cause::TokenAnew(lasts) => token_anew(site, *lasts).await,
        Cause::BadCiphertexts(lasts) => bad_ciphertexts(client, &keys[2], *lasts).await,
    }
    let over = Instant::now();
    settled(client, keys).await;
    let [once, retrying, health] = all.map(take);
    measured.calls += once.len();
    for (counts, looks) in [(&mut measured.once, &once), (&mut measured.retrying, &retrying)] {
        for (trouble, count) in troubles(looks) {
            *counts.entry(trouble).or_default() += count;
        }
    }
    measured.longest_once = measured.longest_once.max(longest(&once));
    measured.longest_retrying = measured.longest_retrying.max(longest(&retrying));
    let first = once.iter().find(|look| look.trouble.is_some()).map_or(begin, |look| look.end);
    let over = if row.counted { first } else { over };
    measured.heals.extend(healed(&once, over));
    if let Some(not_serving) = health.iter().find(|look| look.trouble.is_some()) {
        measured.unhealthy_after.push(not_serving.end - begin);
        measured.healthy_after.extend(healed(&health, over));
    }
}

fn longest(looks: &[Look]) -> Duration {
    looks.iter().map(|look| look.end - look.begin).max().unwrap_or_default()
}

/// From the end of the cause to the first good answer after the last bad one.
fn healed(looks: &[Look], over: Instant) -> Option<Duration> {
    let bad = looks.iter().filter(|look| look.trouble.is_some());
    let last = bad.map(|look| look.end).max().unwrap_or(over).max(over);
    let good = looks.iter().filter(|look| look.trouble.is_none() && look.end >= last);
    good.map(|look| look.end).min().map(|end| end - over)
}

async fn token_anew(site: &Site, lasts: Duration) {
    let tokens = site.token_directory().expect("only a directory is copied");
    let kept = tokens.with_extension("kept");
    let copied = Command::new("cp").arg("-a").arg(&tokens).arg(&kept).status().expect("cp runs");
    assert!(copied.success());
    let token = tokens.with_file_name("");
    let so_pin = fs::read_to_string(token.join("so-pin")).expect("the token's SO PIN");
    let mut tool = Command::new("softhsm2-util");
    tool.args(["--init-token", "--token", "dewpoint", "--label", "dewpoint", "--pin", "another-pin"]);
    tool.args(["--so-pin", &so_pin]).env("SOFTHSM2_CONF", token.join("softhsm2.conf"));
    let output = tool.output().expect("softhsm2-util runs");
    assert!(output.status.success(), "{output:?}");
    sleep(lasts).await;
    fs::remove_dir_all(&tokens).expect("the directory is ours");
    fs::rename(&kept, &tokens).expect("the directory is ours");
}

async fn bad_ciphertexts(client: &Client, key_id: &str, lasts: Duration) {
    let key = KeyReference::KeyId(key_id.to_owned());
    let made = client.generate_data_key(&key, 32, &context(0)).await.expect("nothing fails yet");
    let mut altered = made.ciphertext;
    *altered.last_mut().expect("a ciphertext") ^= 1;
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        let refused = client.decrypt_data_key(&altered, None, &context(0)).await.expect_err("it is altered");
        assert_eq!(trouble(&refused), "INVALID_ARGUMENT CANNOT_DECRYPT");
    }
}

fn line(name: &str, measured: &Measured) -> String {
    let Measured { once, retrying, calls, .. } = measured;
    let seen = |counts: &BTreeMap<String, usize>, longest: Duration| {
        let texts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} x {what}")).collect();
        let texts = if texts.is_empty() { "no failed call".to_owned() } else { texts.join(", ") };
        (texts, format!("longest {longest:.2?}"))
    };
    let (once, longest_once) = seen(once, measured.longest_once);
    let (retrying, longest_retrying) = seen(retrying, measured.longest_retrying);
    format!(
        "| {name} | {once}, of {calls} calls; {longest_once} | {retrying}; {longest_retrying} | {} | {} | {} |",
        span(&measured.heals),
        span(&measured.unhealthy_after),
        span(&measured.healthy_after),
    )
}

/// Median and worst.
fn span(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let Some(worst) = times.last() else { return "–".to_owned() };
    format!("{:.2?} ({worst:.2?}, {} times)", times[times.len() / 2], times.len())
}
