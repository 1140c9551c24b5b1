//! The object gateway beside the service: `dewpoint dev --with-obs`.
//!
//! It is a process of its own, and its program lies beside this one. Its standard input is a pipe of which nothing but this
//! process has the other end: whatever happens to this process, the gateway ends with it.

use std::{
    env, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};

use super::{
    DevError,
    access_keys::AccessKeys,
    certificates,
    deployment::{Deployment, GATEWAY, GATEWAY_REGION},
    made_directory, remove_stale, write_private,
};

const PROGRAM: &str = "obs-gateway";
/// How long it may take until it listens; it takes some hundredths of a second.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// How often is looked whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long it may take to end: it gives ten seconds to requests under way, and then half a minute to what it has to report
/// to the service, which ends after it.
const ENDS_WITHIN: Duration = Duration::from_secs(45);

/// Why there is no object gateway, or none any more. What it logs itself has gone to standard error before this.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The program is not there.
    #[error(
        "--with-obs starts {}, which is not there: build it (cargo build --release -p obs-gateway), or put the one of \
         the same release beside dewpoint", .0.display()
    )]
    Missing(PathBuf),
    /// The system does not run it.
    #[error("{} cannot be started: {error}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// It ended before it listened.
    #[error("the object gateway could not start ({0}); its own last lines say why")]
    CouldNotStart(ExitStatus),
    /// It neither listens nor ends.
    #[error("the object gateway does not listen after {STARTS_WITHIN:?}; it was killed")]
    DoesNotListen,
    /// It ended although nobody told it to.
    #[error("the object gateway died ({0}), and the deployment ends with it; its own last lines say why")]
    Died(ExitStatus),
    /// Its configuration.
    #[error("the object gateway's configuration cannot be written: {0}")]
    Configuration(#[from] toml::ser::Error),
}

/// What it is started with.
pub(super) struct Launch<'a> {
    pub(super) program: PathBuf,
    /// Where its files and its buckets lie; made if it does not exist.
    pub(super) directory: PathBuf,
    /// The port on loopback where it is to listen; 0: any.
    pub(super) port: u16,
    /// That of the key service.
    pub(super) service_port: u16,
    pub(super) certificates: &'a certificates::Files,
    pub(super) deployment: &'a Deployment,
    pub(super) access_keys: &'a AccessKeys,
}

/// A gateway that listens; killed when dropped.
pub(super) struct Gateway {
    /// Where.
    pub(super) address: SocketAddr,
    child: Child,
    /// Nothing is written into it: it tells the gateway that this process lives.
    _alive: Option<ChildStdin>,
}

/// The program beside this one.
pub(super) fn program() -> Result<PathBuf, GatewayError> {
    let own = env::current_exe().map_err(|error| GatewayError::Start { program: PROGRAM.into(), error })?;
    let program = own.with_file_name(PROGRAM);
    if program.exists() { Ok(program) } else { Err(GatewayError::Missing(program)) }
}

impl Gateway {
    /// Starts it, and waits until it listens.
    pub(super) async fn start(launch: Launch<'_>) -> Result<Self, DevError> {
        let directory = made_directory(&launch.directory)?;
        let (file, addresses) = (directory.join("gateway.toml"), directory.join("addresses.json"));
        remove_stale(&addresses)?;
        let credentials = launch.deployment.gateway_credentials(launch.access_keys);
        write(&directory.join("credentials.toml"), &credentials)?;
        write(&file, &launch.configuration(&addresses))?;
        let mut command = Command::new(&launch.program);
        command.arg("--end-with-stdin").arg("--config").arg(&file);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        // Of its own group: an interrupt from the terminal is for this process, which ends both in their order.
        let spawned = command.process_group(0).spawn();
        let mut child = spawned.map_err(|error| GatewayError::Start { program: launch.program, error })?;
        let alive = child.stdin.take();
        let listens = timeout(STARTS_WITHIN, listens(&mut child, &addresses)).await;
        let address = listens.map_err(|_| GatewayError::DoesNotListen)??;
        Ok(Self { address, child, _alive: alive })
    }

    /// Waits until `told` resolves, and ends the gateway in order; it is an error if that ends by itself.
    pub(super) async fn run_until(mut self, told: impl Future<Output = ()>) -> Result<(), GatewayError> {
        tokio::select! {
            () = told => {}
            status = self.child.wait() => return Err(GatewayError::Died(status.unwrap_or_default())),
        }
        let process = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(Err(error)) = process.map(|process| kill_process(process, Signal::TERM)) {
            tracing::warn!(%error, "the object gateway cannot be signalled");
        }
        match timeout(ENDS_WITHIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(how) => tracing::warn!(?how, "the object gateway did not end in order"),
            Err(_) => tracing::warn!("the object gateway did not end within {ENDS_WITHIN:?}; it is killed"),
        }
        Ok(())
    }
}

/// Waits until it has said where it listens.
async fn listens(child: &mut Child, addresses: &Path) -> Result<SocketAddr, GatewayError> {
    loop {
        let said = fs::read(addresses).ok().and_then(|said| serde_json::from_slice::<Value>(&said).ok());
        if let Some(address) = said.and_then(|said| said["https"].as_str()?.parse().ok()) {
            return Ok(address);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(GatewayError::CouldNotStart(status));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn write(path: &Path, content: &Value) -> Result<(), DevError> {
    write_private(path, toml::to_string(content).map_err(GatewayError::from)?.as_bytes())
}

impl Launch<'_> {
    /// As docs/obs-gateway.md has it.
    fn configuration(&self, addresses: &Path) -> Value {
        let (certificate, key) = self.certificates.client(&GATEWAY.file_stem());
        json!({
            "region": GATEWAY_REGION,
            "data_dir": "data",
            "credentials_file": "credentials.toml",
            "listen": {
                "https": format!("127.0.0.1:{}", self.port),
                "certificate": self.certificates.server_certificate,
                "private_key": self.certificates.server_key,
                "domains": ["localhost"],
                "addresses_file": addresses,
            },
            "kms": {
                "endpoint": format!("https://127.0.0.1:{}", self.service_port),
                "ca_certificate": self.certificates.ca_certificate,
                "client_certificate": certificate,
                "client_key": key,
            },
        })
    }
}
