//! `seed DATA_DIR MODULE PIN_FILE COUNT`: makes custom keys in a deployment whose service does not run.
//!
//! Each is made as the service makes it: by the pipeline, with its own key wrapped by the token, its two
//! records in the log and its commit in the store; only the transport is left out, and many are under way at
//! once. Their ids go to standard output in the order in which they were made, progress to standard error.

mod clock;

use std::{
    collections::VecDeque,
    io::{self, BufWriter, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use dewpoint_tests::ACCOUNT;
use kms_audit::{FileLog, LogConfig};
use kms_core::{
    AccountQuotas, Call, Ports, Service, Settings,
    identity::{AccountId, Caller, Credential, ProjectId, Region, UserId},
    key::{KeyId, KeySpec},
    operation::Permissions,
    ops::{Alias, CreateKey, Description},
};
use kms_hsm::{Pkcs11Config, Pkcs11Hsm};
use kms_store::{EmbeddedStore, EngineKind};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::clock::MachineClock;

/// So many creations are under way at once: commits of the log and of the store carry hundreds.
const IN_FLIGHT: usize = 1024;
/// How often progress is told.
const TOLD_EVERY: usize = 50_000;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = || arguments.next().expect("DATA_DIR MODULE PIN_FILE COUNT");
    let (data, module, pin_file) = (PathBuf::from(next()), PathBuf::from(next()), PathBuf::from(next()));
    let count = next().to_str().and_then(|count| count.parse().ok()).expect("a number of keys");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(seed(&data, module, pin_file, count));
}

async fn seed(data: &Path, module: PathBuf, pin_file: PathBuf, count: usize) {
    let (hsm, log) = (Arc::new(open_token(module, pin_file)), Arc::new(open_log(data)));
    let store = data.join("store");
    std::fs::create_dir_all(&store).expect("a directory");
    let ports = Ports {
        keystores: std::collections::BTreeMap::new(),
        hsm: hsm.clone(),
        store: Arc::new(EmbeddedStore::open(&store, EngineKind::Redb).expect("the store opens")),
        audit: log.clone(),
        clock: Arc::new(MachineClock::start()),
    };
    let quotas = AccountQuotas { custom_keys: u64::MAX, ..AccountQuotas::default() };
    let settings = Settings { quotas, ..Settings::default() };
    let service = Arc::new(Service::start(ports, settings).await.expect("the service starts"));
    make_all(&service, count).await;
    drop(service);
    hsm.shut_down();
    log.shutdown();
}

#[allow(clippy::disallowed_methods, reason = "tells how fast it is")]
async fn make_all(service: &Arc<Service>, count: usize) {
    let caller = caller();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut under_way: VecDeque<JoinHandle<KeyId>> = VecDeque::new();
    let mut tell = |id: KeyId| writeln!(out, "{id}").expect("standard output takes it");
    let started = Instant::now();
    for number in 0..count {
        if under_way.len() == IN_FLIGHT {
            let oldest = under_way.pop_front().expect("it is full");
            tell(oldest.await.expect("it ends"));
        }
        under_way.push_back(tokio::spawn(make(service.clone(), caller.clone(), number)));
        if number % TOLD_EVERY == TOLD_EVERY - 1 {
            eprintln!("seed: {} of {count} keys after {:.0?}", number + 1, started.elapsed());
        }
    }
    for made in under_way {
        tell(made.await.expect("it ends"));
    }
    eprintln!("seed: {count} keys in {:.1?}", started.elapsed());
}

/// Makes one key under an alias that its number scatters over the store, as names do.
async fn make(service: Arc<Service>, caller: Caller, number: usize) -> KeyId {
    let request_id = Uuid::new_v4();
    let alias = format!("{}-{number}", &request_id.simple().to_string()[..8]);
    let operation = CreateKey {
        description: Description::parse("made by seed").expect("a description"),
        ..CreateKey::new(Alias::parse(&alias).expect("an alias"), KeySpec::Aes256)
    };
    let call = Call { request_id, caller, patience: Duration::from_secs(60), dry_run: false };
    let made = service.run(call, Ok(operation)).await;
    made.map_err(|refused| refused.error().clone()).expect("the key is made").into_inner().id
}

fn caller() -> Caller {
    Caller {
        account: AccountId::parse(ACCOUNT).expect("a name"),
        user: UserId::parse("admin").expect("a name"),
        project: ProjectId::parse("p1").expect("a name"),
        region: Region::parse("r1").expect("a name"),
        projects: Arc::new([]),
        acting_service: None,
        permissions: Permissions::all(),
        credential: Credential::Certificate([0; 32]),
        source: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

fn open_token(module: PathBuf, pin_file: PathBuf) -> Pkcs11Hsm {
    let config = Pkcs11Config {
        module,
        token_label: "dewpoint".to_owned(),
        pin_file,
        root_label: "dewpoint-root".to_owned(),
        workers: 1, // the token makes one key at a time
        loaded_keys: 1,
        renew_after: kms_hsm::DEFAULT_RENEW_AFTER,
        sm4: None,
    };
    Pkcs11Hsm::open(&config).expect("the token opens: it has its root key")
}

fn open_log(data: &Path) -> FileLog {
    let (log, opened) =
        FileLog::open(&data.join("audit"), LogConfig::default(), None).expect("the log opens");
    assert!(opened.open_intents.is_empty(), "the service was not ended orderly");
    log
}
