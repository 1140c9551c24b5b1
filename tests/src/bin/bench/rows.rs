//! The rows of the table: what is measured, against what, and the bound.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use dewpoint_tests::{Clients, Dev, DevOptions};
use kms_proto::v1::CreateKeyRequest;

use crate::{
    echo::Echo,
    load::{self, Call},
};

/// How often both sides of a row are measured.
pub(crate) const ROUNDS: usize = 5;
pub(crate) const DURATION: Duration = Duration::from_secs(2);

/// Which side of its bound a row has to be on.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// The table as it grows.
pub(crate) struct Table {
    held: bool,
}

impl Table {
    #[allow(clippy::print_stdout, reason = "the result of the program")]
    pub(crate) fn row(&mut self, name: &str, detail: &str, mut values: Vec<f64>, goal: &str, bound: Bound) {
        values.sort_by(f64::total_cmp);
        let median = values[values.len() / 2];
        let held = match bound {
            Bound::AtLeast(floor) => median >= floor,
            Bound::AtMost(ceiling) => median <= ceiling,
        };
        self.held &= held;
        let bound = match bound {
            Bound::AtLeast(floor) => format!(">= {floor}"),
            Bound::AtMost(ceiling) => format!("<= {ceiling}"),
        };
        let (low, high) = (values[0], values[values.len() - 1]);
        let verdict = if held { "ok" } else { "BELOW" };
        println!(
            "{name:<44} {median:>7.3} ({low:.3}..{high:.3})  goal {goal:<8} recorded {bound:<8} {verdict:<6} {detail}"
        );
    }
}

/// Measures the rows whose name contains `only`, or all; tells whether all bounds held.
pub(crate) async fn run(only: Option<&str>) -> bool {
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only));
    let mut table = Table { held: true };
    if wanted("access") {
        crate::access::row(&mut table);
    }
    if wanted("traffic") {
        crate::traffic::rates(&mut table).await;
    }
    if wanted("fairness") {
        crate::traffic::fairness(&mut table).await;
    }
    if wanted("log") {
        crate::log::rows(&mut table);
    }
    if wanted("sm4") {
        crate::sm4::rows(&mut table);
    }
    if wanted("objects") {
        crate::objects::rows(&mut table).await;
    }
    if wanted("start") {
        starts(&mut table);
    }
    if !["throughput", "rest", "latency", "durability", "keys"].into_iter().any(wanted) {
        return table.held;
    }
    let on_disk = Bench::start(&own_directory()).await;
    if wanted("throughput") {
        on_disk.throughput(&mut table).await;
    }
    if wanted("rest") {
        on_disk.rest(&mut table).await;
    }
    if wanted("latency") {
        on_disk.latency(&mut table).await;
    }
    if wanted("durability") {
        on_disk.durability(&mut table).await;
    }
    drop(on_disk);
    if wanted("keys") {
        crate::scale::rows(&mut table).await;
    }
    table.held
}

/// A deployment, its floor, and one key.
struct Bench {
    dev: Dev,
    echo: Echo,
    clients: Vec<Clients>,
    echo_clients: Vec<Clients>,
    key_id: String,
}

impl Bench {
    async fn start(directory: &Path) -> Self {
        let data = tempfile::tempdir_in(directory).expect("a directory");
        let options = DevOptions { arguments: vec!["--traffic-control=off".into()], ..DevOptions::default() };
        let dev = Dev::start_in(data.path().to_owned(), options, Some(data));
        let echo = Echo::start(&dev.description);
        let mut clients = load::connections(&dev.description, "admin").await;
        let request = CreateKeyRequest { alias: "bench".into(), ..CreateKeyRequest::default() };
        let key =
            clients[0].keys.create_key(request).await.expect("created").into_inner().key.expect("a key");
        let echo_clients = load::connections(&echo.description, "admin").await;
        Self { dev, echo, clients, echo_clients, key_id: key.key_id }
    }

    async fn decrypt_call(&self) -> Call {
        let mut client = self.clients[0].clone();
        let Call::Generate(request) = load::generate(&self.key_id) else { unreachable!("just made") };
        let made = client.data.generate_data_key(request).await.expect("made").into_inner();
        load::decrypt(made.ciphertext_blob)
    }

    async fn throughput(&self, table: &mut Table) {
        for (name, call, floor) in [
            ("throughput GenerateDataKey / echo, 64", load::generate(&self.key_id), 0.40),
            ("throughput DecryptDataKey / echo, 64", self.decrypt_call().await, 0.40),
        ] {
            let (mut ratios, mut last) = (Vec::new(), String::new());
            for _ in 0..ROUNDS {
                let echo = load::run(&self.echo_clients, &call, 64, DURATION).await;
                let ours = load::run(&self.clients, &call, 64, DURATION).await;
                ratios.push(ours.rate / echo.rate);
                last = format!(
                    "{:.0}/s of {:.0}/s; p50 {:?}, p99 {:?}",
                    ours.rate,
                    echo.rate,
                    ours.quantile(0.5),
                    ours.quantile(0.99)
                );
            }
            table.row(name, &last, ratios, ">= 0.6", Bound::AtLeast(floor));
        }
    }

    async fn rest(&self, table: &mut Table) {
        let call = load::generate(&self.key_id);
        let (mut ratios, mut last) = (Vec::new(), String::new());
        for _ in 0..ROUNDS {
            let grpc = load::run(&self.clients, &call, 64, DURATION).await;
            let ours = crate::rest::run(&self.dev.description, &self.key_id, 64, DURATION).await;
            ratios.push(ours.rate / grpc.rate);
            last = format!(
                "{:.0}/s of {:.0}/s; p50 {:?}, p99 {:?}",
                ours.rate,
                grpc.rate,
                ours.quantile(0.5),
                ours.quantile(0.99)
            );
        }
        table.row("rest create-datakey / GenerateDataKey, 64", &last, ratios, ">= 0.6", Bound::AtLeast(0.6));
    }

    async fn latency(&self, table: &mut Table) {
        let call = load::generate(&self.key_id);
        let (mut ratios, mut last) = (Vec::new(), String::new());
        for _ in 0..ROUNDS {
            let echo = load::run(&self.echo_clients, &call, 1, DURATION).await.quantile(0.5);
            let sync = fdatasync_p50(self.dev.directory());
            let ours = load::run(&self.clients, &call, 1, DURATION).await.quantile(0.5);
            ratios.push(ours.as_secs_f64() / (echo + sync).as_secs_f64());
            last = format!("{ours:?} against echo {echo:?} + fdatasync {sync:?} (HSM calls not counted)");
        }
        table.row(
            "latency p50, 1 in flight / (echo + fdatasync)",
            &last,
            ratios,
            "<= 1.5",
            Bound::AtMost(2.1),
        );
    }

    /// The same server with all its files in memory: there fdatasync costs nothing. Lines, tree and checkpoints are made
    /// on both sides: this is what it costs that they are durable, and not what it costs that they are.
    async fn durability(&self, table: &mut Table) {
        let in_memory = Bench::start(Path::new("/dev/shm")).await;
        let (call, memory_call) = (load::generate(&self.key_id), load::generate(&in_memory.key_id));
        let (mut ratios, mut last) = (Vec::new(), String::new());
        for _ in 0..ROUNDS {
            let memory = load::run(&in_memory.clients, &memory_call, 64, DURATION).await;
            let disk = load::run(&self.clients, &call, 64, DURATION).await;
            ratios.push(disk.rate / memory.rate);
            last = format!("{:.0}/s on disk, {:.0}/s in memory", disk.rate, memory.rate);
        }
        table.row("durability, files on disk / in memory, 64", &last, ratios, ">= 0.8", Bound::AtLeast(0.7));
        drop(in_memory.echo);
    }
}

#[allow(clippy::disallowed_methods, reason = "measures real time")]
fn starts(table: &mut Table) {
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let mut dev = Dev::start();
        first.push(started.elapsed().as_secs_f64());
        assert!(dev.stop().success(), "it ends well");
        let started = Instant::now();
        dev.start_again();
        again.push(started.elapsed().as_secs_f64());
    }
    table.row("start, first, seconds to ready", "", first, "<= 1.5", Bound::AtMost(1.5));
    table.row("start, again, seconds to ready", "", again, "<= 0.5", Bound::AtMost(0.5));
}

/// One record's worth of bytes into space that is there already, made durable: again and again.
#[allow(clippy::disallowed_methods, reason = "measures real time")]
fn fdatasync_p50(directory: &Path) -> Duration {
    let path = directory.join("fdatasync.bench");
    let mut file = File::create(&path).expect("a file");
    file.write_all(&vec![0; 1 << 20]).and_then(|()| file.sync_all()).expect("space");
    let mut times: Vec<Duration> = (0..1000)
        .map(|index| {
            let started = Instant::now();
            file.write_all_at(&[b'x'; 600], index * 600).and_then(|()| file.sync_data()).expect("durable");
            started.elapsed()
        })
        .collect();
    std::fs::remove_file(path).expect("removed");
    times.sort_unstable();
    times[times.len() / 2]
}

/// On the disk that the sources are on; a temporary directory may be in memory.
pub(crate) fn own_directory() -> std::path::PathBuf {
    std::env::current_exe().expect("a path").parent().expect("a directory").to_owned()
}
