//! `dewpoint dev`: a whole deployment in one directory, without configuration.

mod access_keys;
mod certificates;
mod deployment;
mod gateway;
mod keystores;
mod seed;

use std::{
    convert::Infallible,
    fs,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    config::{
        AdminConfig, AuditConfig, BucketKeyConfig, CipherConfig, CipherPlace, ClockKind, Config, DewConfig,
        GrpcConfig, HsmConfig, StoreConfig,
    },
    listeners::Inherited,
    manual_clock::ManualClock,
    server::{self, RunningServer, ServeError},
    start_watch::StartWatch,
    traffic::{TrafficConfig, TrafficMode},
};

use access_keys::AccessKeys;
use gateway::{Gateway, GatewayError};
use seed::{SeedError, Seeds};

/// The one way a token is made; also used by compose and by tests.
const INIT_TOKEN: &str = include_str!("../../../../softhsm-config/init-token.sh");
const TOKEN_LABEL: &str = "dewpoint";
/// How many custom keys an account may have without a profile of its own: more than any test makes.
const DEV_CUSTOM_KEYS: u64 = 100_000;
/// Names the token to SoftHSM2.
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";
/// Where distributions put SoftHSM2.
const MODULES: [&str; 5] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// What the command line says.
#[derive(Debug, Clone, clap::Args)]
pub struct DevOptions {
    /// Directory of the deployment; made if it does not exist, kept for the next start
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Port of gRPC on loopback; 0: any free one
    #[arg(long, value_name = "PORT", default_value_t = 7443)]
    grpc_port: u16,
    /// Port of DEW's REST protocol on loopback; 0: any free one
    #[arg(long, value_name = "PORT", default_value_t = 7444)]
    dew_port: u16,
    /// Start the object gateway too: the program `obs-gateway`, which lies beside this one
    ///
    /// Its buckets are of the region cn-north-4, and kept for the next start. Dev mode ends when the gateway does.
    #[arg(long)]
    with_obs: bool,
    /// Port of the object gateway on loopback; 0: any free one
    #[arg(long, value_name = "PORT", default_value_t = 7445, requires = "with_obs")]
    obs_port: u16,
    /// Serve DEW's REST protocol over plain HTTP instead of TLS
    #[arg(long)]
    insecure_plain_http: bool,
    /// Port of metrics and health on loopback (plain HTTP); 0: any free one; not given: none
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Database of the key store; a directory that has the other one is refused
    #[arg(long, value_enum, default_value_t = StoreConfig::Redb)]
    store: StoreConfig,
    /// What happens to calls over DEW's traffic limits
    #[arg(long, value_enum, default_value_t = TrafficMode::Enforce)]
    traffic_control: TrafficMode,
    /// Limits on calls and quotas, in place of DEW's: a TOML file as `dewpoint profile` prints one
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// What time it is: `manual` is a clock that stands still until `dewctl dev advance 90d` moves it
    ///
    /// It begins at the time of the first start, and is kept in the data directory. A directory that was once started
    /// with it needs it from then on.
    #[arg(long, value_enum, default_value_t = ClockKind::System)]
    clock: ClockKind,
    /// Keys that are to exist: a TOML file of [[keys]] with fixed ids (docs/examples/seeds.toml)
    #[arg(long, value_name = "FILE")]
    seed_file: Option<PathBuf>,
    /// PKCS#11 module in place of SoftHSM2's own path (a tracer around it, for instance)
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Label of a token of that module that exists already, in place of one that dev mode makes
    #[arg(long, value_name = "LABEL", requires_all = ["module", "pin_file"])]
    token_label: Option<String>,
    /// File that holds the user's PIN of that token
    #[arg(long, value_name = "FILE", requires = "token_label")]
    pin_file: Option<PathBuf>,
    /// Algorithms whose new keys seal in the HSM, as `aes_256,sm4`
    #[arg(long, value_name = "ALGORITHMS", value_enum, value_delimiter = ',')]
    in_hsm: Vec<InHsm>,
    /// How often one key version may seal in the HSM before a new one follows
    #[arg(long, value_name = "N", default_value_t = kms_core::DEFAULT_IN_HSM_BUDGET,
        value_parser = clap::value_parser!(u64).range(1..=kms_core::MAX_IN_HSM_BUDGET))]
    in_hsm_budget: u64,
    /// Name of a keystore: a second token of SoftHSM2 that keys can live on; several are possible
    #[arg(long, value_name = "NAME", conflicts_with = "token_label", value_parser = keystores::parse_name)]
    keystore: Vec<String>,
}

/// An algorithm whose keys may seal in the HSM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum InHsm {
    #[value(name = "aes_256")]
    Aes256,
    Sm4,
}

/// Why the dev deployment cannot be made or started: one clear line.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A file or directory.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Another process serves this directory.
    #[error("{} is in use by another `dewpoint dev`", .0.display())]
    InUse(PathBuf),
    /// The time of its keys may be far ahead of the machine's.
    #[error("{} has a clock of its own; start it with --clock manual", .0.display())]
    HasManualClock(PathBuf),
    /// SoftHSM2 is not there.
    #[error("SoftHSM2 is not installed; on Debian: apt-get install softhsm2")]
    NoModule,
    /// The system's.
    #[error("the system has no random bytes")]
    NoRandomBytes,
    /// The token script failed.
    #[error("the token cannot be made: {0}")]
    Token(String),
    /// The certificates cannot be made.
    #[error("the certificates cannot be made: {0}")]
    Certificates(String),
    /// The seeds.
    #[error(transparent)]
    Seeds(#[from] SeedError),
    /// The service.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The object gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

/// The token of the directory, made if it does not exist; then this process again, with the token
/// in its environment: SoftHSM2 reads it from there, and only from there. Returns if it is there, or if
/// the command line names a token that exists.
pub fn enter_environment(options: &DevOptions) -> Result<(), DevError> {
    let directory = made_directory(&options.data_dir)?;
    // Whoever serves this directory keeps its token and its `dev.json`. The lock ends with this
    // function, or with the program that follows it; `start` takes it anew.
    let _lock = lock(&directory)?;
    remove_stale(&directory.join("dev.json"))?;
    if options.token_label.is_some() {
        return Ok(());
    }
    // At every start: a `kill -9` in a login can leave SoftHSM2's token file empty, and the script puts
    // its copy back.
    make_token(&directory.join("token"), TOKEN_LABEL)?;
    for name in &options.keystore {
        keystores::make(&directory, name)?;
    }
    let configuration = directory.join("token/softhsm2.conf");
    if std::env::var_os(SOFTHSM2_CONF).is_some_and(|named| Path::new(&named) == configuration) {
        return Ok(());
    }
    let again = || -> io::Result<Infallible> {
        let arguments = std::env::args_os().skip(1);
        Err(Command::new(std::env::current_exe()?).args(arguments).env(SOFTHSM2_CONF, &configuration).exec())
    };
    let Err(error) = again();
    Err(DevError::File { path: configuration, error })
}

/// A started dev deployment; the lock keeps others out of its directory.
#[allow(missing_debug_implementations, reason = "holds the service, which has nothing to show")]
pub struct DevServer {
    server: RunningServer,
    gateway: Option<Gateway>,
    _lock: fs::File,
}

/// Makes what is missing, starts the service, writes `dev.json` and says `ready`.
pub async fn start(options: &DevOptions) -> Result<DevServer, DevError> {
    let directory = made_directory(&options.data_dir)?;
    let lock = lock(&directory)?;
    if options.clock == ClockKind::System && ManualClock::file(&directory).exists() {
        return Err(DevError::HasManualClock(directory));
    }
    let program = options.with_obs.then(gateway::program).transpose()?;
    let seeds = options.seed_file.as_deref().map(Seeds::load).transpose()?.unwrap_or_default();
    let deployment = deployment::Deployment::standard();
    let identity_file = directory.join("identity.toml");
    let access_keys = AccessKeys::ensure(&directory.join("access-keys.json"), &deployment)?;
    write_private(&identity_file, deployment.identity_toml(&access_keys)?.as_bytes())?;
    let tls = certificates::ensure(&directory.join("tls"), &deployment)?;
    let config = configuration(options, &directory, identity_file, &tls)?;
    if !options.keystore.is_empty() || !crate::opening::store_exists(&config.data_dir) {
        let fresh = config.clone();
        // An earlier start may have made them and died before it made the store.
        let made = tokio::task::spawn_blocking(move || server::initialise(&fresh)).await;
        made.map_err(|error| DevError::Token(error.to_string()))??;
    }
    let prepared = server::prepare(&config, &StartWatch::default()).await?;
    seeds.sow(prepared.service()).await?;
    let server = prepared.listen(&config, Inherited::default()).await?;
    let launch = program.map(|program| gateway::Launch {
        program,
        directory: directory.join("obs"),
        port: options.obs_port,
        service_port: server.grpc.port(),
        certificates: &tls,
        deployment: &deployment,
        access_keys: &access_keys,
    });
    let (server, gateway) = start_gateway(server, launch).await?;
    let mut described = describe(&server, options, &deployment, &tls, &access_keys);
    if let Some(gateway) = &gateway {
        described["obs"] = json!({"endpoint": format!("https://{}", gateway.address)});
    }
    write_private(&directory.join("dev.json"), format!("{described:#}\n").as_bytes())?;
    let mut out = io::stdout().lock();
    let told =
        writeln!(out, "ready grpc=https://127.0.0.1:{} dir={}", server.grpc.port(), directory.display());
    told.and_then(|()| out.flush()).map_err(|error| DevError::File { path: "stdout".into(), error })?;
    Ok(DevServer { server, gateway, _lock: lock })
}

/// The service that runs, and the object gateway before it, if there is to be one. If that does not start, the service
/// ends in order.
async fn start_gateway(
    server: RunningServer,
    launch: Option<gateway::Launch<'_>>,
) -> Result<(RunningServer, Option<Gateway>), DevError> {
    let Some(launch) = launch else { return Ok((server, None)) };
    match Gateway::start(launch).await {
        Ok(gateway) => Ok((server, Some(gateway))),
        Err(error) => {
            server.run_until(std::future::ready(())).await?;
            Err(error)
        }
    }
}

impl DevServer {
    /// Serves until `told` resolves, then drains. An object gateway that ends by itself is the end, too, and an error: a
    /// test that meets it shall not go on with another one.
    pub async fn run_until(self, told: impl Future<Output = ()>) -> Result<(), DevError> {
        let Some(gateway) = self.gateway else { return Ok(self.server.run_until(told).await?) };
        let mut ended = Ok(());
        // The gateway first: its last requests need the service.
        self.server.run_until(async { ended = gateway.run_until(told).await }).await?;
        Ok(ended?)
    }
}

fn configuration(
    options: &DevOptions,
    directory: &Path,
    identity_file: PathBuf,
    tls: &certificates::Files,
) -> Result<Config, DevError> {
    let installed = || MODULES.iter().map(PathBuf::from).find(|path| path.exists());
    let module = options.module.clone().or_else(installed).ok_or(DevError::NoModule)?;
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Config {
        audit: AuditConfig::default(),
        data_dir: directory.to_owned(),
        store: options.store,
        identity_file,
        grpc: GrpcConfig {
            listen: loopback(options.grpc_port),
            certificate: tls.server_certificate.clone(),
            private_key: tls.server_key.clone(),
            client_ca: tls.ca_certificate.clone(),
        },
        dew: Some(DewConfig {
            listen: loopback(options.dew_port),
            tls: None,
            insecure_plain_http: options.insecure_plain_http,
        }),
        admin: options.admin_port.map(|port| AdminConfig { listen: loopback(port) }),
        hsm: HsmConfig {
            module,
            token_label: options.token_label.clone().unwrap_or_else(|| TOKEN_LABEL.to_owned()),
            pin_file: options.pin_file.clone().unwrap_or_else(|| directory.join("token/pin")),
            root_label: "dewpoint-root".to_owned(),
            workers: 2,
            loaded_keys: 10_000,
            renew_after: kms_hsm::DEFAULT_RENEW_AFTER,
            cipher: cipher(options),
            sm4: None,
        },
        keystores: options.keystore.iter().map(|name| keystores::configuration(directory, name)).collect(),
        traffic_control: TrafficConfig {
            mode: options.traffic_control,
            profile: options.profile.clone(),
            custom_keys: Some(DEV_CUSTOM_KEYS),
        },
        bucket_keys: BucketKeyConfig::default(),
        clock: options.clock,
    })
}

fn cipher(options: &DevOptions) -> CipherConfig {
    let place = |algorithm| {
        if options.in_hsm.contains(&algorithm) { CipherPlace::Hsm } else { CipherPlace::Service }
    };
    CipherConfig { aes_256: place(InHsm::Aes256), sm4: place(InHsm::Sm4), budget: options.in_hsm_budget }
}

/// The contract with test suites: absolute paths, and what exists.
fn describe(
    server: &RunningServer,
    options: &DevOptions,
    deployment: &deployment::Deployment,
    tls: &certificates::Files,
    access_keys: &AccessKeys,
) -> serde_json::Value {
    let client = |name: &str, stem: &str| {
        let (certificate, key) = tls.client(stem);
        json!({"name": name, "client_cert": certificate, "client_key": key})
    };
    let mut described = json!({
        "grpc": {"endpoint": format!("https://127.0.0.1:{}", server.grpc.port())},
        "ca_cert": tls.ca_certificate,
        "services": deployment.services.iter().map(|service| {
            client(service.name, &service.file_stem())
        }).collect::<Vec<_>>(),
        "operators": deployment.operators.iter().map(|operator| {
            client(operator.name, &operator.file_stem())
        }).collect::<Vec<_>>(),
        "accounts": deployment.accounts.iter().map(|account| json!({
            "domain_id": account.domain_id,
            "name": account.name,
            "projects": account.projects.iter().map(|project| {
                json!({"project_id": project.project_id, "region": project.region})
            }).collect::<Vec<_>>(),
            "users": account.users.iter().map(|user| {
                let (certificate, key) = tls.client(&user.file_stem(account));
                let access_key = access_keys.of(&user.user_id);
                json!({
                    "user_id": user.user_id,
                    "name": user.name,
                    "ak": access_key.map(|key| &key.access_key_id),
                    "sk": access_key.map(|key| &key.secret_access_key),
                    "password": access_key.map(|key| &key.password),
                    "client_cert": certificate,
                    "client_key": key,
                })
            }).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    if let Some(dew) = server.dew {
        let scheme = if options.insecure_plain_http { "http" } else { "https" };
        described["dew"] = json!({"endpoint": format!("{scheme}://{dew}")});
    }
    if server.clock_is_manual() {
        described["clock"] = json!("manual");
    }
    if let Some(admin) = server.admin {
        described["admin"] = json!({"endpoint": format!("http://{admin}")});
    }
    described
}

/// Runs the script, and answers what it prints: where the module is.
fn make_token(directory: &Path, label: &str) -> Result<PathBuf, DevError> {
    let failed = |error: io::Error| DevError::Token(error.to_string());
    let mut shell = Command::new("sh")
        .args(["-s", "--"])
        .args([directory.as_os_str(), label.as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = shell.stdin.take() {
        stdin.write_all(INIT_TOKEN.as_bytes()).map_err(failed)?;
    }
    let ended = shell.wait_with_output().map_err(failed)?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).trim_end().into());
    }
    let said = String::from_utf8_lossy(&ended.stderr).trim().replace('\n', "; ");
    Err(DevError::Token(if said.is_empty() { ended.status.to_string() } else { said }))
}

fn made_directory(path: &Path) -> Result<PathBuf, DevError> {
    let at = |error| DevError::File { path: path.to_owned(), error };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at)?;
    path.canonicalize().map_err(at)
}

fn lock(directory: &Path) -> Result<fs::File, DevError> {
    let path = directory.join("lock");
    let opened = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = opened.map_err(|error| DevError::File { path, error })?;
    let taken = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    taken.map_err(|_| DevError::InUse(directory.to_owned()))?;
    Ok(file)
}

fn remove_stale(path: &Path) -> Result<(), DevError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DevError::File { path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// Writes a file that its owner alone can read, whole or not at all.
fn write_private(path: &Path, content: &[u8]) -> Result<(), DevError> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file =
            fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| DevError::File { path: path.to_owned(), error })
}
