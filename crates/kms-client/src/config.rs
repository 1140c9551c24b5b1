//! What a client needs to connect, checked before anything is sent.

use std::{fmt, path::Path, time::Duration};

use tonic::{
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::{Error, SecretBytes};

/// How long a connection is silent before the other end is asked whether it is there, and how long it may take to say so:
/// then the connection is given up, and calls on it are sent elsewhere.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest deadline that is taken; a call that may last longer has none in effect.
const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the service is, who calls it, and how long a call may take.
pub struct ClientConfig {
    /// Where the service is; never empty.
    endpoints: Vec<String>,
    ca_certificate: Vec<u8>,
    client_certificate: Vec<u8>,
    client_key: SecretBytes,
    project_id: Option<String>,
    acting_for: Option<String>,
    pub(crate) deadline: Duration,
    connect_timeout: Duration,
    pub(crate) hedge_after: Duration,
    pub(crate) retry: RetryPolicy,
}

/// How often a failed call is tried again, and how long the client waits in between.
///
/// A wait that the server asks for (RetryInfo) is never shortened. Without one, the wait before try n + 1 has the
/// bound `first_backoff` × 2ⁿ⁻¹, at most `longest_backoff`, and is drawn evenly from the upper half below it.
///
/// The defaults outlast any outage of up to 2 s, also one in which every try fails at once.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// All tries of one call together, from 1 (no retry). Default 8.
    pub max_tries: u32,
    /// Bound of the wait before the second try. Default 50 ms.
    pub first_backoff: Duration,
    /// Bound that the waits grow to. Default 2 s.
    pub longest_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_tries: 8,
            first_backoff: Duration::from_millis(50),
            longest_backoff: Duration::from_secs(2),
        }
    }
}

impl ClientConfig {
    /// A configuration from PEM bytes: the CA that the server's certificate must descend from, the caller's own
    /// certificate (chain), and its private key. `endpoint` is an `https://host:port` address.
    pub fn new(
        endpoint: impl Into<String>,
        ca_certificate: impl Into<Vec<u8>>,
        client_certificate: impl Into<Vec<u8>>,
        client_key: SecretBytes,
    ) -> Self {
        Self {
            endpoints: vec![endpoint.into()],
            ca_certificate: ca_certificate.into(),
            client_certificate: client_certificate.into(),
            client_key,
            project_id: None,
            acting_for: None,
            deadline: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            hedge_after: Duration::from_millis(100),
            retry: RetryPolicy::default(),
        }
    }

    /// As [`ClientConfig::new`], from PEM files. [`Error::InvalidConfig`] names a file that cannot be read.
    pub fn from_files(
        endpoint: impl Into<String>,
        ca_certificate: impl AsRef<Path>,
        client_certificate: impl AsRef<Path>,
        client_key: impl AsRef<Path>,
    ) -> Result<Self, Error> {
        let key = SecretBytes::from(read(client_key.as_ref())?);
        Ok(Self::new(endpoint, read(ca_certificate.as_ref())?, read(client_certificate.as_ref())?, key))
    }

    /// The project of the calls, and with it the region. Without one: the account's first project.
    #[must_use]
    pub fn project_id(mut self, project_id: impl Into<String>) -> Self {
        self.project_id = Some(project_id.into());
        self
    }

    /// The user that a service acts for. Only a service's certificate may set it.
    #[must_use]
    pub fn acting_for(mut self, user_id: impl Into<String>) -> Self {
        self.acting_for = Some(user_id.into());
        self
    }

    /// How long one call may take, all its tries and waits together. Default 5 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long making a connection may take. Default 5 s; with several addresses at most half of the deadline of calls,
    /// so that another one can be tried.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// A further address of the same service: another node on the same keys.
    #[must_use]
    pub fn also_at(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// How long a call that only reads waits for one address before it asks a second one, too; no more than one call in
    /// ten does, in the long run. Default 100 ms; without a further address it has no effect.
    #[must_use]
    pub fn hedge_after(mut self, delay: Duration) -> Self {
        self.hedge_after = delay;
        self
    }

    /// Replaces the retry policy.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The checked endpoints. The transport takes copies of certificate and key that it does not wipe.
    pub(crate) fn to_endpoints(&self) -> Result<Vec<Endpoint>, Error> {
        check_deadline(self.deadline)?;
        self.endpoints.iter().map(|endpoint| self.to_endpoint(endpoint)).collect()
    }

    fn to_endpoint(&self, endpoint: &str) -> Result<Endpoint, Error> {
        if !endpoint.starts_with("https://") {
            return Err(Error::InvalidConfig("the endpoint must begin with https://".to_owned()));
        }
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca_certificate))
            .identity(Identity::from_pem(&self.client_certificate, self.client_key.expose()));
        let endpoint = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| invalid(&error))?;
        let endpoint = endpoint.tls_config(tls).map_err(|error| invalid(&error))?;
        Ok(endpoint
            .connect_timeout(self.time_to_connect())
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true))
    }

    /// How long making one connection may take.
    pub(crate) fn time_to_connect(&self) -> Duration {
        let bound = if self.endpoints.len() > 1 { self.deadline / 2 } else { Duration::MAX };
        self.connect_timeout.min(bound)
    }

    /// The metadata that goes with every call.
    pub(crate) fn to_metadata(&self) -> Result<MetadataMap, Error> {
        let mut metadata = MetadataMap::new();
        for (name, value) in [(PROJECT_ID, &self.project_id), (ACTING_FOR, &self.acting_for)] {
            if let Some(value) = value {
                metadata.insert(name, metadata_value(name, value)?);
            }
        }
        Ok(metadata)
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("endpoints", &self.endpoints)
            .field("project_id", &self.project_id)
            .field("acting_for", &self.acting_for)
            .field("deadline", &self.deadline)
            .field("connect_timeout", &self.connect_timeout)
            .field("hedge_after", &self.hedge_after)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// Names the project of a call.
pub(crate) const PROJECT_ID: &str = "x-project-id";
/// Says that a call is only tried out.
pub(crate) const DRY_RUN: &str = "x-dry-run";
/// Names the user that a service acts for.
pub(crate) const ACTING_FOR: &str = "x-acting-for";

pub(crate) fn check_deadline(deadline: Duration) -> Result<(), Error> {
    if deadline.is_zero() || deadline > LONGEST_DEADLINE {
        return Err(Error::InvalidConfig("the deadline must be positive and at most 24 hours".to_owned()));
    }
    Ok(())
}

/// A metadata value of printable ASCII.
pub(crate) fn metadata_value(name: &str, value: &str) -> Result<AsciiMetadataValue, Error> {
    let printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let parsed = value.parse().ok().filter(|_| printable);
    parsed.ok_or_else(|| Error::InvalidConfig(format!("{name} must be printable ASCII")))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::InvalidConfig(format!("cannot read {}: {error}", path.display())))
}

/// The transport's errors say little in themselves and more in their sources.
fn invalid(error: &dyn std::error::Error) -> Error {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Error::InvalidConfig(format!("{error}{cause}"))
}
