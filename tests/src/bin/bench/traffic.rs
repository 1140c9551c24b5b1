//! The rows about traffic control: that what is admitted is what the profile says, and that one tenant who calls far
//! beyond his limit costs another next to nothing.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use dewpoint_tests::{Clients, Dev, DevOptions, by_id};
use kms_proto::v1::{
    GenerateDataKeyRequest, GenerateMacRequest, KeySpec, MacAlgorithm, ReloadTrafficProfileRequest,
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep},
};
use tonic::{Code, Status};

use crate::{
    load,
    rows::{Bound, ROUNDS, Table, own_directory},
};

const BUILT_IN: &str = include_str!("../../../../crates/kms-server/src/traffic/dew.toml");
/// For so long what is admitted is counted, after the bursts are spent.
const COUNTED: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(2);
/// How far the admitted rates may be from those of the profile.
const TOLERANCE: f64 = 0.05;

/// Data keys per second of a user and of all, and HMACs of a user of the first account.
const USER: f64 = 100.0;
const GLOBAL: f64 = 250.0;
const FLOODED: u32 = 20;
/// How many times his limit the flooding tenant calls.
const TIMES: u32 = 100;
/// How often the other tenant calls, per second.
const CALM: u32 = 50;
/// By what factor his p99 may grow.
const FAIR: f64 = 3.0;

fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(BUILT_IN.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

/// A deployment under this profile, and where that lies.
fn start(profile: &str) -> (Dev, PathBuf) {
    let data = tempfile::tempdir_in(own_directory()).expect("a directory");
    let file = data.path().join("profile.toml");
    fs::write(&file, profile).expect("a file");
    let arguments = vec![format!("--profile={}", file.display())];
    let options = DevOptions { arguments, ..DevOptions::default() };
    (Dev::start_in(data.path().to_owned(), options, Some(data)), file)
}

fn generate(key_id: &str) -> GenerateDataKeyRequest {
    GenerateDataKeyRequest {
        key: by_id(key_id),
        length: 32,
        encryption_context: load::context(),
        ..GenerateDataKeyRequest::default()
    }
}

/// Whether a call was admitted. Any other refusal than the one for traffic ends the run.
fn admitted<T>(answer: Result<T, Status>) -> bool {
    match answer {
        Ok(_) => true,
        Err(status) if status.code() == Code::ResourceExhausted => false,
        Err(status) => panic!("{status:?}"),
    }
}

/// Two users of each of two accounts call as fast as they are answered.
pub(crate) async fn rates(table: &mut Table) {
    let (dev, _) = start(&changed(&[
        (
            r#"{ per = "user", calls = 800, window = "second", burst = 800, figure = "documented" }"#,
            r#"{ per = "user", calls = 100, window = "second", burst = 100 }"#,
        ),
        (
            r#"{ per = "global", calls = 1000, window = "second", burst = 1000, figure = "documented" }"#,
            r#"{ per = "global", calls = 250, window = "second", burst = 250 }"#,
        ),
    ]));
    let mut callers = Vec::new();
    for account in [0, 1] {
        let mut admin = dev.user(account, "admin").await;
        let key_id = admin.create("bench").await.key_id;
        callers.push((admin, key_id.clone()));
        callers.push((dev.user(account, "uploader").await, key_id));
    }
    let alone = admitted_rates(&callers[1..3]).await;
    let together: f64 = admitted_rates(&callers).await.iter().sum();
    let off = |rate: f64, expected: f64| (rate / expected - 1.0).abs();
    let worst = alone.iter().map(|rate| off(*rate, USER)).fold(off(together, GLOBAL), f64::max);
    let rounded: Vec<String> = alone.iter().map(|rate| format!("{rate:.1}")).collect();
    let detail = format!(
        "two users of {USER}/s each: {} /s; four, of {GLOBAL}/s for all: {together:.1}/s",
        rounded.join(", ")
    );
    table.row("traffic: admitted rates, off by", &detail, vec![worst], "<= 0.05", Bound::AtMost(TOLERANCE));
}

/// How many calls per second of each caller are admitted.
#[allow(clippy::disallowed_methods, reason = "measures real time")]
async fn admitted_rates(callers: &[(Clients, String)]) -> Vec<f64> {
    let (counting, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let counts: Vec<Arc<AtomicU64>> = callers.iter().map(|_| Arc::default()).collect();
    let mut tasks = Vec::new();
    for ((clients, key_id), count) in callers.iter().zip(&counts) {
        for _ in 0..2 {
            let (mut clients, request, count) = (clients.clone(), generate(key_id), count.clone());
            let (counting, ended) = (counting.clone(), ended.clone());
            tasks.push(tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    if !admitted(clients.data.generate_data_key(request.clone()).await) {
                        // No client that is refused calls again at once.
                        sleep(Duration::from_millis(1)).await;
                    } else if counting.load(Ordering::Relaxed) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
    }
    sleep(WARM_UP).await;
    let started = Instant::now();
    counting.store(true, Ordering::Relaxed);
    sleep(COUNTED).await;
    counting.store(false, Ordering::Relaxed);
    let elapsed = started.elapsed().as_secs_f64();
    ended.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("it ends");
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52 calls")]
    counts.iter().map(|count| count.load(Ordering::Relaxed) as f64 / elapsed).collect()
}

/// One tenant asks for HMACs, of which each is a use of the HSM, at a hundred times his limit; another for data keys.
pub(crate) async fn fairness(table: &mut Table) {
    let (dev, file) = start(BUILT_IN);
    let limit = format!("per = \"user\", calls = {FLOODED}, window = \"second\", burst = {FLOODED}");
    let own = format!(
        "{BUILT_IN}\n[[accounts]]\ndomain_id = {:?}\nlimits = [{{ group = \"signing\", {limit} }}]\n",
        dev.description.account(0).domain_id
    );
    fs::write(&file, own).expect("a file");
    let reload = ReloadTrafficProfileRequest {};
    dev.operator().await.roots.reload_traffic_profile(reload).await.expect("a sound profile");
    let mut flooding = dev.user(0, "admin").await;
    let mac = GenerateMacRequest {
        key: by_id(&flooding.create_of("flood", KeySpec::Hmac256).await.key_id),
        algorithm: MacAlgorithm::HmacSha256.into(),
        message: Bytes::from_static(&[0x42; 60]),
    };
    let mut calm = dev.user(1, "admin").await;
    let request = generate(&calm.create("calm").await.key_id);
    let (mut factors, mut last) = (Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let alone = p99(&calm, &request).await;
        let flood = Flood::start(&flooding, &mac);
        sleep(WARM_UP).await;
        let flooded = p99(&calm, &request).await;
        let (made, passed) = flood.end().await;
        factors.push(flooded.as_secs_f64() / alone.as_secs_f64());
        last = format!("{alone:?} alone, {flooded:?} beside {made:.0} calls/s, of which {passed:.1} pass");
    }
    table.row("fairness: p99 beside a flood / alone", &last, factors, "<= 2", Bound::AtMost(FAIR));
}

/// The latency that one of a hundred calls exceeds, of calls that come at a steady pace.
#[allow(clippy::disallowed_methods, reason = "measures real time")]
async fn p99(clients: &Clients, request: &GenerateDataKeyRequest) -> Duration {
    let mut ticks = interval(Duration::from_secs(1) / CALM);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = Vec::new();
    for _ in 0..CALM * 10 {
        // What the call waits for its turn on this side counts, too.
        let due = ticks.tick().await;
        let (mut clients, request) = (clients.clone(), request.clone());
        calls.push(tokio::spawn(async move {
            clients.data.generate_data_key(request).await.expect("within all limits");
            due.elapsed()
        }));
    }
    let mut latencies = Vec::new();
    for call in calls {
        latencies.push(call.await.expect("it ends"));
    }
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

/// Calls at many times their limit, until it is ended.
struct Flood {
    ended: Arc<AtomicBool>,
    task: JoinHandle<(u64, u64)>,
    started: Instant,
}

impl Flood {
    #[allow(clippy::disallowed_methods, reason = "measures real time")]
    fn start(clients: &Clients, request: &GenerateMacRequest) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (clients, request, told) = (clients.clone(), request.clone(), ended.clone());
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / (FLOODED * TIMES));
            let (passed, mut calls) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
            let mut made = 0;
            while !told.load(Ordering::Relaxed) {
                ticks.tick().await;
                made += 1;
                let (mut clients, request, passed) = (clients.clone(), request.clone(), passed.clone());
                calls.spawn(async move {
                    if admitted(clients.signing.generate_mac(request).await) {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                });
                while calls.try_join_next().is_some() {}
            }
            drop(calls.join_all().await);
            (made, passed.load(Ordering::Relaxed))
        });
        Self { ended, task, started: Instant::now() }
    }

    /// How many calls a second there were, and how many passed.
    async fn end(self) -> (f64, f64) {
        self.ended.store(true, Ordering::Relaxed);
        let (made, passed) = self.task.await.expect("it ends");
        let elapsed = self.started.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52 calls")]
        let rates = (made as f64 / elapsed, passed as f64 / elapsed);
        rates
    }
}
