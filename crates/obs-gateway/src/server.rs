//! The composition root: store, key service, credentials and face, behind TLS.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use kms_client::{Client, ClientConfig};
use rustix::process::{Resource, getrlimit};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use s3s::{Body, HttpError, HttpResponse, S3Result, service::S3Service};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tracing::Instrument as _;

use crate::{
    config::{Config, Kms, Listen},
    credentials::{Credentials, CredentialsError},
    front,
    gateway::Gateway,
    lingering::Lingering,
    obs::{self, Replies},
    offered::{self, Place},
    patience::Taking,
    s3::{self, Checked, Hosts, Refusal, Transport},
    sse::KmsKeys,
    store::{self, Store},
};

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How many connections there are at once at most; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// How many open files there are for each connection. It needs five at most (itself, a stream that is read and one that is
/// written, a record and its directory); the rest is for the key service, and to spare.
const FILES: u64 = 8;
/// How long requests under way may take when the gateway ends.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The store.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] store::Error),
    /// The bounds of bucket keys.
    #[error("{0}")]
    BucketKeys(String),
    /// The connection to the key service.
    #[error("the key service cannot be reached: {0}")]
    Kms(#[from] kms_client::Error),
    /// The certificate or its key.
    #[error("the file {path} cannot be used: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An address.
    #[error("cannot listen: {0}")]
    Listen(#[from] io::Error),
}

/// A gateway whose addresses are bound.
pub struct Server {
    https: TcpListener,
    http: Option<TcpListener>,
    tls: TlsAcceptor,
    faces: Faces,
    keys: Arc<KmsKeys>,
}

/// Both faces of a gateway.
#[derive(Clone)]
struct Faces {
    gateway: Arc<Gateway>,
    hosts: Hosts,
    s3: S3Service,
    replies: Replies,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("https", &self.https).field("http", &self.http).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens everything and binds the addresses; the addresses' file is written last.
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        let Config { region, data_dir, credentials_file, listen, kms, bucket_keys } = config;
        let bucket_keys = bucket_keys.checked().map_err(ServeError::BucketKeys)?;
        let credentials = Credentials::read(&credentials_file)?;
        let tls = tls(&listen)?;
        let client = connect(&kms).await?;
        let store = spawn_blocking(move || Store::open(&data_dir)).await.map_err(io::Error::other)??;
        let keys = Arc::new(KmsKeys::new(client, region.clone(), bucket_keys)?);
        let replies = Replies::new(&region);
        let gateway = Arc::new(Gateway::new(store, keys.clone(), credentials, region));
        let hosts = Hosts::new(&listen.domains);
        let s3 = s3::service(gateway.clone(), hosts.clone());
        let faces = Faces { gateway, hosts, s3, replies };
        let https = TcpListener::bind(listen.https).await?;
        let http = match listen.http {
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        let server = Self { https, http, tls, faces, keys };
        if let Some(path) = &listen.addresses_file {
            server.write_addresses(path)?;
        }
        Ok(server)
    }

    /// Where it listens for HTTPS.
    pub fn https(&self) -> io::Result<SocketAddr> {
        self.https.local_addr()
    }

    /// Serves until `end`; requests under way then have ten seconds, and then the key service half a minute to take what
    /// there is to report of bucket keys.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let files = getrlimit(Resource::Nofile).current;
        let connections = Arc::new(Semaphore::new(connections(files)));
        let keys = self.keys.clone();
        let telling = tokio::spawn(async move { keys.tell().await });
        tokio::pin!(end);
        loop {
            let permit = tokio::select! {
                permit = connections.clone().acquire_owned() => permit,
                () = &mut end => break,
            };
            let Ok(permit) = permit else { break };
            let (accepted, is_secure) = tokio::select! {
                accepted = self.https.accept() => (accepted, true),
                accepted = accept(self.http.as_ref()) => (accepted, false),
                () = &mut end => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, or a client that left at once: neither ends the gateway.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let (tls, faces, watcher) = (self.tls.clone(), self.faces.clone(), graceful.watcher());
            let stream = Taking::new(stream);
            tokio::spawn(async move {
                let _permit = permit;
                if !is_secure {
                    return serve(stream, faces, Transport { is_secure }, watcher).await;
                }
                match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => serve(stream, faces, Transport { is_secure }, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                }
            });
        }
        if timeout(LAST_REQUESTS, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests under way were broken off");
        }
        telling.abort();
        self.keys.close().await;
    }

    fn write_addresses(&self, path: &Path) -> io::Result<()> {
        let http = self.http.as_ref().map(TcpListener::local_addr).transpose()?;
        let addresses = serde_json::json!({ "https": self.https()?, "http": http });
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, addresses.to_string())?;
        fs::rename(unfinished, path)
    }
}

/// How many connections a process with so many files serves at once; `None`: without a limit.
fn connections(files: Option<u64>) -> usize {
    let most = files.and_then(|files| usize::try_from(files / FILES).ok());
    most.unwrap_or(CONNECTIONS).clamp(1, CONNECTIONS)
}

/// The next connection of a listener; never, without one.
async fn accept(listener: Option<&TcpListener>) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    faces: Faces,
    transport: Transport,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let answer = service_fn(|request| answer(faces.clone(), transport, request));
    let mut builder = hyper::server::conn::http1::Builder::new();
    let builder = builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection broke off");
    }
}

async fn answer(
    faces: Faces,
    transport: Transport,
    request: Request<Incoming>,
) -> Result<HttpResponse, HttpError> {
    let (mut head, body) = request.into_parts();
    let reply = faces.replies.to(&head, &faces.hosts);
    if obs::is_version_question(&head, &faces.hosts) {
        return Ok(reply.version());
    }
    let span = tracing::error_span!("request", id = %reply.request_id());
    let body = Lingering::new(body, &head.headers);
    head.extensions.insert(transport);
    let answered = async {
        let body_refusal = Refusal::default();
        let answered = match translate(&faces, &mut head, body.clone(), &body_refusal).await {
            Err(error) => obs::refusal(body_refusal.take().unwrap_or(error)),
            Ok(body) => {
                let answered = faces.s3.call(Request::from_parts(head, body)).await?;
                body_refusal.take().map_or(answered, obs::refusal)
            }
        };
        Ok::<_, HttpError>(reply.put(answered))
    };
    let answered = answered.instrument(span).await?;
    if answered.status().is_client_error() || answered.status().is_server_error() {
        body.drain().await;
    }
    Ok(answered)
}

/// Puts a request into the words of the S3 face; its body in them. `body_refusal` gets why the body is not as its headers say,
/// once it has been read.
async fn translate(
    faces: &Faces,
    head: &mut http::request::Parts,
    body: Lingering,
    body_refusal: &Refusal,
) -> S3Result<Body> {
    let Faces { gateway, hosts, .. } = faces;
    let dialect = obs::accept(gateway, hosts, head)?;
    if let Some(dialect) = dialect {
        head.extensions.insert(dialect);
    }
    let place = obs::place(head, hosts);
    let is_bucket = place == Place::Bucket;
    let is_read_whole = head.method == Method::POST || (head.method == Method::PUT && is_bucket);
    front::check(&head.method, &head.uri, &head.headers, is_read_whole)?;
    offered::check(&head.method, &head.uri, place)?;
    let is_completion = !is_bucket && obs::has_query(&head.uri, "uploadId");
    let body = if is_read_whole && !obs::is_in_chunks(dialect, head) {
        Checked::new(body, &head.headers, is_completion, body_refusal)
    } else {
        Checked::unchecked(body)
    };
    obs::body(dialect, head, hosts, body).await
}

async fn connect(kms: &Kms) -> Result<Client, kms_client::Error> {
    let Kms { endpoint, also_at, ca_certificate, client_certificate, client_key } = kms;
    let config = ClientConfig::from_files(endpoint.clone(), ca_certificate, client_certificate, client_key)?;
    Client::connect(also_at.iter().fold(config, ClientConfig::also_at)).await
}

fn tls(listen: &Listen) -> Result<TlsAcceptor, ServeError> {
    let failed = |path: &Path, reason: &dyn fmt::Display| ServeError::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let Listen { certificate, private_key, .. } = listen;
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| failed(certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(private_key).map_err(|error| failed(private_key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| failed(certificate, &error))?.with_no_client_auth();
    let mut config = config.with_single_cert(chain, key).map_err(|error| failed(certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_what_they_do() {
        for (files, expected) in
            [(Some(1024), 128), (Some(1 << 20), CONNECTIONS), (None, CONNECTIONS), (Some(0), 1)]
        {
            assert_eq!(connections(files), expected, "{files:?}");
        }
    }
}
