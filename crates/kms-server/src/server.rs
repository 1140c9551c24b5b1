//! The composition root: adapters, pipeline, listeners, and their orderly end.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use kms_audit::{FileLog, LogConfig};
use kms_core::{Ports, Service, StartError, key::BackingKind, ports::Clock};
use kms_hsm::{Pkcs11Config, Pkcs11Hsm};
use kms_proto::v1::{
    data_key_service_server::DataKeyServiceServer, key_service_server::KeyServiceServer,
    operator_service_server::OperatorServiceServer,
};
use kms_store::RedbStore;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{server::NamedService, transport::Server as TonicServer};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    admin,
    backup::unfinished_store,
    clock::SystemClock,
    config::{CipherPlace, Config, FileError},
    gate::Gate,
    grpc::{self, Grpc},
    identity::Identities,
    listeners::{Inherited, ListenError, Listeners},
    metrics::Metrics,
    rotation, tls,
    traffic::TrafficControl,
};

/// How many calls one connection may have in flight.
const STREAMS_PER_CONNECTION: u32 = 1024;
/// How often health is looked at.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// How long the HSM and the store may take to prove that they work.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// For how many looks at its health a stuck HSM is waited for before a supervised process gives up.
const STUCK_LIMIT: u32 = 20;
/// How often idle users' traffic budgets are forgotten.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// How long calls in flight may take to end once the service is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What health checking answers for: all of it, and each service.
const HEALTH_NAMES: [&str; 4] = [
    "",
    KeyServiceServer::<Grpc>::NAME,
    DataKeyServiceServer::<Grpc>::NAME,
    OperatorServiceServer::<Grpc>::NAME,
];

/// Why the service cannot start: one clear line.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file of the configuration.
    #[error(transparent)]
    File(#[from] FileError),
    /// The data directory.
    #[error("data_dir {path}: {problem}")]
    DataDirectory {
        /// Which one.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The key store.
    #[error("the key store cannot be opened: {0}")]
    Store(#[from] kms_store::OpenError),
    /// The audit log.
    #[error("the audit log cannot be opened: {0}")]
    Log(#[from] kms_audit::OpenError),
    /// What new keys are to be, the token does not offer.
    #[error(
        "hsm.cipher.{0} is `hsm`, and the token does not offer that cipher; `dewctl hsm probe` shows what it offers"
    )]
    CipherNotOffered(&'static str),
    /// The token.
    #[error("the HSM cannot be used: {0}")]
    Hsm(#[from] kms_hsm::OpenError),
    /// The token has no root key, and no store needs one yet.
    #[error("the token has no root key; if this is a new deployment, make one with `dewpoint init`")]
    NoRootKey,
    /// The store has keys, but the token lost what opens them.
    #[error(
        "the key store exists, but the token has no root key: this is not the token that the store belongs to, or \
         it was initialised anew; restore the token from a backup"
    )]
    RootKeyLost,
    /// The store has keys, but what was done with them is not there any more.
    #[error(
        "the key store exists, but the audit log is missing: it was removed, or its volume is not mounted; restore it \
         before the service may go on"
    )]
    LogLost,
    /// A store that was to be made of a backup was not finished.
    #[error(
        "a restore was interrupted: run `dewpoint restore` again, or remove `store.restoring` and begin anew"
    )]
    RestoreUnfinished,
    /// Store and token.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What a crash left could not be put in order.
    #[error("the changes that a crash cut off cannot be settled: {0}")]
    Reconcile(String),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Supervisor and worker cannot deal with each other.
    #[error("supervision failed: {0}")]
    Supervise(io::Error),
    /// The gRPC server failed while it ran.
    #[error("the gRPC server failed: {0}")]
    Grpc(String),
}

/// A service that answers calls.
#[allow(missing_debug_implementations, reason = "holds the service, which has nothing to show")]
pub struct RunningServer {
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where metrics and health are, if anywhere.
    pub admin: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    background: Vec<JoinHandle<()>>,
    adapters: Adapters,
}

/// What has to be closed in order when the service ends.
#[derive(Clone)]
pub(crate) struct Adapters {
    pub(crate) hsm: Arc<Pkcs11Hsm>,
    pub(crate) log: Arc<FileLog>,
    clock: Arc<SystemClock>,
    changes: TaskTracker,
}

/// Makes the root keys of a new deployment: once, before its first start.
///
/// `None`: the token has them already, and keeps them.
pub fn initialise(config: &Config) -> Result<Option<kms_hsm::RootKeys>, ServeError> {
    check_data_directory(&config.data_dir)?;
    if store_exists(&config.data_dir) {
        return match Pkcs11Hsm::open(&pkcs11_config(config)) {
            Ok(_) => Ok(None),
            Err(kms_hsm::OpenError::RootKeysMissing { .. }) => Err(ServeError::RootKeyLost),
            Err(error) => Err(error.into()),
        };
    }
    match Pkcs11Hsm::create_root_keys(&pkcs11_config(config)) {
        Ok(made) => Ok(Some(made)),
        Err(kms_hsm::OpenError::RootKeysExist { .. }) => {
            // Who made them may have died before they were on the disk.
            rustix::fs::sync();
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the data directory holds a key store.
pub(crate) fn store_exists(data_dir: &Path) -> bool {
    data_dir.join("store").exists()
}

/// Whether it holds an audit log.
pub(crate) fn log_exists(data_dir: &Path) -> bool {
    let entries = fs::read_dir(data_dir.join("audit")).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
}

/// Opens everything, settles what a crash left, and listens.
pub async fn start(config: &Config) -> Result<RunningServer, ServeError> {
    start_on(config, Inherited::default()).await
}

/// As [`start`], on sockets that listen already.
pub async fn start_on(config: &Config, inherited: Inherited) -> Result<RunningServer, ServeError> {
    let identities = Identities::load(&config.identity_file)?;
    let tls = tls::server_config(&config.grpc)?;
    let opened = config.clone();
    let Opened { ports, adapters, open_intents } = tokio::task::spawn_blocking(move || open(&opened))
        .await
        .map_err(|error| ServeError::Grpc(error.to_string()))??;
    let service = Arc::new(Service::start(ports, config.hsm.cipher.settings()).await?);
    service.reconcile(&open_intents).await.map_err(|error| {
        ServeError::Reconcile(error.operator_detail().unwrap_or_else(|| error.to_string()))
    })?;
    let rotation = Arc::<rotation::Rotation>::default();
    let gate = Arc::new(Gate {
        service,
        identities,
        traffic: TrafficControl::new(config.traffic_control.mode),
        metrics: Metrics::new(adapters.hsm.clone(), adapters.log.clone(), rotation.clone()),
        rotation,
        clock: adapters.clock.clone(),
        changes: adapters.changes.clone(),
    });
    listen(Listeners::open(config, inherited)?, tls, gate, adapters).await
}

/// A deployment's parts, opened; nothing is put in order yet.
pub(crate) struct Opened {
    pub(crate) ports: Ports,
    pub(crate) adapters: Adapters,
    /// What a crash may have cut off.
    pub(crate) open_intents: Vec<kms_core::OpenIntent>,
}

impl Opened {
    pub(crate) fn of(hsm: Pkcs11Hsm, store: RedbStore, (log, opened): (FileLog, kms_audit::Opened)) -> Self {
        let clock = Arc::new(SystemClock::start());
        let changes = TaskTracker::new();
        let adapters = Adapters { hsm: Arc::new(hsm), log: Arc::new(log), clock, changes };
        let ports = Ports {
            hsm: adapters.hsm.clone(),
            store: Arc::new(store),
            audit: adapters.log.clone(),
            clock: adapters.clock.clone(),
        };
        Self { ports, adapters, open_intents: opened.open_intents }
    }
}

/// Opens the parts of a deployment; a new one begins with an empty log and an empty store.
pub(crate) fn open(config: &Config) -> Result<Opened, ServeError> {
    let existed = store_exists(&config.data_dir);
    let hsm = open_hsm(config, existed)?;
    if !existed && unfinished_store(&config.data_dir).exists() {
        return Err(ServeError::RestoreUnfinished);
    }
    // The log is begun before the store: a store without a log has lost it.
    if existed && !log_exists(&config.data_dir) {
        return Err(ServeError::LogLost);
    }
    let log = open_log(config)?;
    let store = open_store(&config.data_dir.join("store"))?;
    Ok(Opened::of(hsm, store, log))
}

/// Opens the token; `existed`: there is a store that belongs to it.
pub(crate) fn open_hsm(config: &Config, existed: bool) -> Result<Pkcs11Hsm, ServeError> {
    check_data_directory(&config.data_dir)?;
    let hsm = Pkcs11Hsm::open(&pkcs11_config(config)).map_err(|error| match error {
        kms_hsm::OpenError::RootKeysMissing { .. } if existed => ServeError::RootKeyLost,
        kms_hsm::OpenError::RootKeysMissing { .. } => ServeError::NoRootKey,
        error => error.into(),
    })?;
    let wanted = [
        ("aes_256", config.hsm.cipher.aes_256, BackingKind::Aes256),
        ("sm4", config.hsm.cipher.sm4, BackingKind::Sm4),
    ];
    for (name, place, kind) in wanted {
        if place == CipherPlace::Hsm && !hsm.offers(kind) {
            return Err(ServeError::CipherNotOffered(name));
        }
    }
    for label in hsm.strangers() {
        tracing::warn!(label, "the token holds an object that is none of Dewpoint's; it is left alone");
    }
    Ok(hsm)
}

pub(crate) fn open_log(config: &Config) -> Result<(FileLog, kms_audit::Opened), ServeError> {
    let (log, opened) = FileLog::open(&config.data_dir.join("audit"), LogConfig::default())?;
    if let Some(repaired) = &opened.repaired {
        tracing::warn!(?repaired, "an unfinished, unacknowledged record was cut off the audit log");
    }
    Ok((log, opened))
}

pub(crate) fn open_store(directory: &Path) -> Result<RedbStore, ServeError> {
    private_directory(directory)?;
    Ok(RedbStore::open(directory)?)
}

async fn listen(
    listeners: Listeners,
    tls: rustls::ServerConfig,
    gate: Arc<Gate>,
    adapters: Adapters,
) -> Result<RunningServer, ServeError> {
    let address = |listener: &TcpListener| listener.local_addr().map_err(ListenError::Socket);
    let grpc_address = address(&listeners.grpc)?;
    let (stop, told_stop) = watch::channel(false);
    let (ready_sender, ready) = watch::channel(true);
    let (reporter, health) = tonic_health::server::health_reporter();
    report_health(&reporter, true).await;
    let mut background = vec![
        tokio::spawn(watch_health(
            gate.clone(),
            adapters.log.clone(),
            reporter,
            ready_sender,
            told_stop.clone(),
        )),
        tokio::spawn(tidy(gate.clone(), told_stop.clone())),
        carry_out_rotations(&gate, told_stop.clone()),
    ];
    let mut admin = None;
    if let Some(listener) = listeners.admin {
        admin = Some(address(&listener)?);
        background.push(tokio::spawn(admin::serve(listener, gate.clone(), ready, told_stop.clone())));
    }
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(kms_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let described = |error: tonic_reflection::server::Error| ServeError::Grpc(error.to_string());
    let reflection = descriptors().build_v1().map_err(described)?;
    // Tools of before 2023 know only this one.
    let older_reflection = descriptors().build_v1alpha().map_err(described)?;
    let (keys, data_keys, operators) = grpc::services(gate);
    let router = TonicServer::builder()
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .add_service(health)
        .add_service(reflection)
        .add_service(older_reflection)
        .add_service(keys)
        .add_service(data_keys)
        .add_service(operators);
    let incoming = ReceiverStream::new(tls::accept(listeners.grpc, tls));
    let mut told = told_stop;
    let until_told = async move { stopped(&mut told).await };
    let serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, until_told));
    Ok(RunningServer { grpc: grpc_address, admin, stop, serving, background, adapters })
}

impl RunningServer {
    /// Ends when the HSM has not returned from its calls for so long that only another process helps. For a
    /// process that a supervisor replaces.
    pub fn beyond_help(&self) -> impl Future<Output = ()> + Send + 'static {
        let hsm = self.adapters.hsm.clone();
        async move {
            let mut ticks = interval(HEALTH_INTERVAL);
            let mut stuck = 0;
            while stuck < STUCK_LIMIT {
                ticks.tick().await;
                stuck = if hsm.is_stuck() { stuck + 1 } else { 0 };
            }
        }
    }

    /// Runs until `told` resolves, then drains: no new calls, those in flight end, what they
    /// recorded is durable, the token is left in order.
    pub async fn run_until(mut self, told: impl Future<Output = ()>) -> Result<(), ServeError> {
        let failed = tokio::select! {
            () = told => None,
            ended = &mut self.serving => Some(ended),
        };
        self.stop.send_replace(true);
        let ended = match failed {
            Some(ended) => Ok(ended),
            None => timeout(DRAIN_TIMEOUT, &mut self.serving).await,
        };
        if ended.is_err() {
            tracing::warn!(
                "calls were still in flight after {DRAIN_TIMEOUT:?}; their connections are closed"
            );
            self.serving.abort();
        }
        for task in self.background {
            drop(timeout(DRAIN_TIMEOUT, task).await);
        }
        // Clients that hung up do not hold the end up, but what they asked for may still be under way.
        self.adapters.changes.close();
        if timeout(DRAIN_TIMEOUT, self.adapters.changes.wait()).await.is_err() {
            tracing::warn!(
                "changes were still under way after {DRAIN_TIMEOUT:?}; the next start settles them"
            );
        }
        let adapters = self.adapters;
        let closed = tokio::task::spawn_blocking(move || {
            adapters.hsm.shut_down();
            adapters.log.shutdown();
        });
        drop(closed.await);
        match ended {
            Ok(Ok(Err(error))) => Err(ServeError::Grpc(error.to_string())),
            Ok(Err(error)) => Err(ServeError::Grpc(error.to_string())),
            Ok(Ok(Ok(()))) | Err(_) => Ok(()),
        }
    }
}

/// Resolves when the service is told to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the service.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Tells load balancers and probes whether calls can be answered.
async fn watch_health(
    gate: Arc<Gate>,
    log: Arc<FileLog>,
    mut reporter: HealthReporter,
    ready: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = interval(HEALTH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut stop) => {
                ready.send_replace(false);
                report_health(&reporter, false).await;
                // Who watches would keep its connection, and so the service, open.
                for name in HEALTH_NAMES {
                    reporter.clear_service_status(name).await;
                }
                return;
            }
        }
        let probed = timeout(HEALTH_TIMEOUT, gate.service.probe()).await;
        let healthy = matches!(probed, Ok(Ok(()))) && log.healthy();
        if ready.send_replace(healthy) != healthy {
            if healthy {
                tracing::info!("healthy again");
            } else {
                tracing::error!(?probed, audit = ?log.health(), "not healthy");
            }
        }
        report_health(&reporter, healthy).await;
    }
}

async fn report_health(reporter: &HealthReporter, healthy: bool) {
    let status = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in HEALTH_NAMES {
        reporter.set_service_status(name, status).await;
    }
}

fn carry_out_rotations(gate: &Gate, stop: watch::Receiver<bool>) -> JoinHandle<()> {
    let (rotation, service) = (gate.rotation.clone(), gate.service.clone());
    tokio::spawn(rotation::drive(rotation, service, gate.clock.clone(), stop))
}

async fn tidy(gate: Arc<Gate>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(TIDY_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => gate.traffic.forget_idle_users(),
            () = stopped(&mut stop) => return,
        }
    }
}

fn check_data_directory(path: &Path) -> Result<(), ServeError> {
    let probe = path.join(".writable");
    let written = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe));
    written.map_err(|error| data_directory_error(path, &error))
}

fn private_directory(path: &Path) -> Result<(), ServeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| data_directory_error(path, &error))
}

fn data_directory_error(path: &Path, error: &io::Error) -> ServeError {
    ServeError::DataDirectory {
        path: path.display().to_string(),
        problem: format!("cannot be written: {error}"),
    }
}

fn pkcs11_config(config: &Config) -> Pkcs11Config {
    let hsm = config.hsm.clone();
    Pkcs11Config {
        module: hsm.module,
        token_label: hsm.token_label,
        pin_file: hsm.pin_file,
        root_label: hsm.root_label,
        workers: hsm.workers,
        loaded_keys: hsm.loaded_keys,
        renew_after: hsm.renew_after,
        sm4: hsm.sm4.map(Into::into),
    }
}

/// The system's clock, for what runs beside the service.
pub(crate) fn now() -> kms_core::Timestamp {
    SystemClock::start().now()
}
