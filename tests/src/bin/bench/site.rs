//! A deployment with a given number of keys: made once and kept, and copied for each run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use dewpoint_tests::{ADMIN, Clients, Identity, Serve, valid};
use kms_proto::v1::{GetMeteringRequest, audit_service_client::AuditServiceClient};
use tempfile::TempDir;
use tonic::Code;

use crate::{
    load::{self, Call, Calls},
    process,
    rows::own_directory,
};

/// Names the directories: another one for each change of what lies in them.
const FORMAT: &str = "keys-1";
/// In the directory: the ids of the keys, one a line. Written last.
const IDS: &str = "ids";
/// The service's own default.
pub(crate) const LOADED_KEYS: usize = 10_000;
/// How often a start reads the log's last part: for its lines, for their tree, and for the uses of keys.
const READS_OF_LAST: f64 = 3.0;
/// In so many calls a log is counted, of 256 MiB each.
const MOST_COUNTS: usize = 100;
/// Calls are spread over this many connections.
const CONNECTIONS: usize = 4;

/// The deployment, and its service while it runs.
pub(crate) struct Site {
    pub(crate) size: usize,
    pub(crate) serve: Serve,
    pub(crate) ids: Arc<Vec<String>>,
    pub(crate) clients: Vec<Clients>,
    _copy: TempDir,
}

/// What a start took.
pub(crate) struct Start {
    pub(crate) time: Duration,
    /// What it read from files, but for the last part of the log, in MiB.
    /// Below zero where that part is shorter than it was.
    pub(crate) read: f64,
    /// The process's own memory, in MiB.
    pub(crate) memory: f64,
}

impl Site {
    /// A copy of the deployment with `size` keys, which is made if it is not there yet.
    pub(crate) fn open(size: usize) -> Self {
        let kept = kept(size);
        let copy = tempfile::tempdir_in(own_directory()).expect("a directory");
        copy_tree(&kept, copy.path()).expect("there is space for a copy");
        let serve = Serve::prepare_in(copy.path().to_owned(), &hsm(LOADED_KEYS));
        let text = fs::read_to_string(copy.path().join(IDS)).expect("the file is ours");
        let ids = Arc::new(text.lines().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(ids.len(), size, "all keys were made");
        Self { size, serve, ids, clients: Vec::new(), _copy: copy }
    }

    /// Configures how many keys stay loaded, from the next start on.
    pub(crate) fn keep_loaded(&mut self, keys: usize) {
        self.serve.configure(&hsm(keys));
    }

    /// Starts the service, and connects to it.
    #[allow(clippy::disallowed_methods, reason = "measures real time")]
    pub(crate) async fn start(&mut self) -> Start {
        let last_part = last_segment(&self.serve.directory().join("data/audit"));
        let begun = Instant::now();
        self.serve.start().await;
        let time = begun.elapsed();
        let (id, files) = (self.serve.id(), Some(self.serve.authority.client("admin", &[ADMIN], valid())));
        let read = process::read(id) - READS_OF_LAST * last_part;
        let start = Start { time, read, memory: process::own_memory(id) };
        self.clients.clear();
        for _ in 0..CONNECTIONS {
            let identity = Identity { files: files.clone(), ..Identity::default() };
            self.clients.push(self.serve.connect(identity).await);
        }
        start
    }

    /// Has the whole log counted for metering, a few seconds' work for a million keys that the service does once, at some
    /// moment in the first minute. Memory then holds what it counted.
    pub(crate) async fn counted(&self) {
        let mut reader = AuditServiceClient::new(self.clients[0].channel.clone());
        for _ in 0..MOST_COUNTS {
            match reader.get_metering(GetMeteringRequest::default()).await {
                Ok(_) => return,
                Err(refused) => assert_eq!(refused.code(), Code::Unavailable, "{refused}"),
            }
        }
        panic!("the log is counted in {MOST_COUNTS} calls");
    }

    /// Ends the service orderly.
    pub(crate) fn stop(&mut self) {
        self.clients.clear();
        assert!(self.serve.stop().success(), "it ends well");
    }

    /// Own memory of the service, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        process::own_memory(self.serve.id())
    }

    /// Calls that make data keys under `keys` keys, each drawn from all of the first `keys` ones alike.
    pub(crate) fn generate_under(&self, keys: usize) -> Calls {
        let (ids, draw) = (self.ids.clone(), Draw::default());
        Arc::new(move || load::generate(&ids[draw.below(keys)]))
    }

    /// Ciphertexts of `count` keys of the store, a fixed distance apart.
    pub(crate) async fn seal(&self, count: usize) -> Vec<Bytes> {
        let (ids, step) = (self.ids.clone(), self.size / count);
        load::make(&self.clients, count, move |number| load::generate(&ids[number * step])).await
    }

    /// One data key under each of the first `keys` keys.
    pub(crate) async fn seal_first(&self, keys: usize) -> Vec<Bytes> {
        let ids = self.ids.clone();
        load::make(&self.clients, keys, move |number| load::generate(&ids[number])).await
    }

    /// Processor time of the service for each call, in µs, and calls per second.
    pub(crate) async fn cost(&self, calls: &Calls, duration: Duration) -> (f64, f64) {
        let figures = load::run_each(&self.clients, calls, 64, duration, self.serve.id()).await;
        (figures.processor, figures.rate)
    }
}

/// The directory of the deployment that copies are made of.
fn kept(size: usize) -> PathBuf {
    let directory = own_directory().join(FORMAT).join(size.to_string());
    if directory.join(IDS).exists() {
        return directory;
    }
    // What an interrupted run left is not whole.
    drop(fs::remove_dir_all(&directory));
    let serve = Serve::prepare_in(directory.clone(), &hsm(LOADED_KEYS));
    assert!(serve.run("init").status.success(), "the root key is made");
    eprintln!("making {size} keys in {}", directory.display());
    let text = serve.seed(size).join("\n");
    fs::write(directory.join("new"), text).expect("the directory is ours");
    fs::rename(directory.join("new"), directory.join(IDS)).expect("the directory is ours");
    directory
}

/// Copies a deployment. The log's parts that are full never change: they are linked.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    let mut entries: Vec<PathBuf> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    let last = entries.last().cloned();
    for path in entries {
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else if from.ends_with("audit") && Some(&path) != last.as_ref() {
            fs::hard_link(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// The size of the log's last part, in MiB.
fn last_segment(log: &Path) -> f64 {
    let paths = fs::read_dir(log).expect("the log's directory").map(|entry| entry.expect("an entry").path());
    let segments = paths.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let last = segments.max().expect("the log has a part");
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let bytes = fs::metadata(last).expect("it is there").len() as f64;
    bytes / f64::from(1 << 20)
}

fn hsm(loaded_keys: usize) -> String {
    format!("loaded_keys = {loaded_keys}\n")
}

/// Calls that open `sealed`, one after the other and again: a distance that no cache of fewer keys spans.
pub(crate) fn open_in_turn(sealed: Vec<Bytes>) -> Calls {
    let next = AtomicUsize::new(0);
    Arc::new(move || -> Call {
        load::decrypt(sealed[next.fetch_add(1, Ordering::Relaxed) % sealed.len()].clone())
    })
}

/// Numbers that look random, the same ones in every run.
#[derive(Default)]
pub(crate) struct Draw(AtomicUsize);

impl Draw {
    /// A number below `bound`.
    pub(crate) fn below(&self, bound: usize) -> usize {
        // SplitMix64, of Steele, Lea and Flood, 2014: a counter, mixed.
        let counter = self.0.fetch_add(1, Ordering::Relaxed) as u64;
        let mut mixed = (counter + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a bound of that type")
    }
}
