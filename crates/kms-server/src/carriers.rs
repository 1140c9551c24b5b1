//! The other place: checkpoints leave the machine as they are made.
//!
//! Without a copy of a checkpoint where whoever can write the log cannot, nobody can show that its end was cut off.
//! Each place has a carrier of its own, which always carries the newest checkpoint and comes again until the place
//! has taken it. No call waits for one.

mod witness;

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use kms_audit::{FileLog, SignedCheckpoint};
use kms_core::ports::Clock;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UdpSocket},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    config::{CheckpointsConfig, WebhookConfig},
    notary::NewestCheckpoint,
    serve_error::ServeError,
};
use witness::Witness;

/// How long a place may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The wait after the first failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What one carrier has done, for metrics.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Which place.
    pub(crate) place: &'static str,
    /// The size of the newest checkpoint that is there.
    pub(crate) size: AtomicU64,
    /// Attempts that failed.
    pub(crate) failures: AtomicU64,
}

/// A place that checkpoints are carried to.
#[derive(Debug)]
pub(crate) enum Place {
    Directory(PathBuf),
    Webhook(Webhook),
    Syslog(SocketAddr),
    Witness(Box<Witness>),
}

/// All configured places; an error if one cannot be.
pub(crate) fn places(config: &CheckpointsConfig) -> Result<Vec<Place>, ServeError> {
    let wrong = |place: &'static str| move |problem: String| ServeError::CheckpointPlace { place, problem };
    let mut places = Vec::new();
    if let Some(directory) = &config.directory {
        make(directory).map_err(|error| wrong("directory")(format!("{}: {error}", directory.display())))?;
        places.push(Place::Directory(directory.clone()));
    }
    if let Some(webhook) = &config.webhook {
        places.push(Place::Webhook(Webhook::new(webhook).map_err(wrong("webhook"))?));
    }
    places.extend(config.syslog.map(Place::Syslog));
    if let Some(witness) = &config.witness {
        places.push(Place::Witness(Box::new(Witness::new(witness).map_err(wrong("witness"))?)));
    }
    Ok(places)
}

/// Tells the places that have to know whose checkpoints will come.
pub(crate) fn attach(places: &mut [Place], log: &FileLog) -> Result<(), ServeError> {
    for place in places {
        if let Place::Witness(witness) = place {
            let attached = witness.attach(log);
            attached.map_err(|error| ServeError::CheckpointPlace {
                place: "witness",
                problem: error.to_string(),
            })?;
        }
    }
    Ok(())
}

/// Checkpoints for the places other than the witness: each as it is made, and again when it is cosigned.
type Outgoing = watch::Sender<Option<Arc<SignedCheckpoint>>>;

/// Sends a checkpoint on its way, unless a newer one is, or, as long as it is not `cosigned`, the same.
fn send(outgoing: &Outgoing, checkpoint: Arc<SignedCheckpoint>, cosigned: bool) {
    let size = checkpoint.checkpoint.size;
    outgoing.send_if_modified(|newest| {
        let before = newest.as_ref().map(|newest| newest.checkpoint.size);
        let is_news = before.is_none_or(|before| before < size || cosigned && before == size);
        if is_news {
            *newest = Some(checkpoint);
        }
        is_news
    });
}

async fn send_all(mut newest: NewestCheckpoint, outgoing: Outgoing) {
    while newest.changed().await.is_ok() {
        let checkpoint = newest.borrow_and_update().clone();
        if let Some(checkpoint) = checkpoint {
            send(&outgoing, checkpoint, false);
        }
    }
}

/// Starts a carrier for each place. They end when no checkpoint can come any more: the witness' first, then the others.
pub(crate) fn start(
    places: Vec<Place>,
    newest: &NewestCheckpoint,
    clock: &Arc<dyn Clock>,
) -> (Vec<JoinHandle<()>>, Vec<Arc<Carried>>) {
    let (outgoing, others) = watch::channel(None);
    tokio::spawn(send_all(newest.clone(), outgoing.clone()));
    let carriers = places.into_iter().map(|mut place| {
        let newest = match &mut place {
            Place::Witness(witness) => {
                witness.tell(outgoing.clone());
                newest
            }
            _ => &others,
        };
        let carried = Arc::new(Carried { place: place.name(), size: 0.into(), failures: 0.into() });
        let carrier = carry_all(place, newest.clone(), Arc::clone(clock), Arc::clone(&carried));
        (tokio::spawn(carrier), carried)
    });
    carriers.unzip()
}

async fn carry_all(place: Place, mut newest: NewestCheckpoint, clock: Arc<dyn Clock>, carried: Arc<Carried>) {
    while newest.changed().await.is_ok() {
        let (mut wait, mut last, mut told) = (FIRST_WAIT, false, None);
        loop {
            let Some(checkpoint) = newest.borrow_and_update().clone() else { break };
            let size = checkpoint.checkpoint.size;
            let attempt = timeout(PATIENCE, place.take(checkpoint, &*clock)).await;
            let Err(problem) = attempt.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
            else {
                carried.size.store(size, Relaxed);
                if told.is_some() {
                    tracing::info!(place = carried.place, size, "checkpoints leave the machine again");
                }
                break;
            };
            carried.failures.fetch_add(1, Relaxed);
            // Once, until it is another one.
            if told.as_ref() != Some(&problem) {
                tracing::error!(
                    place = carried.place,
                    size,
                    problem,
                    "a checkpoint does not leave the machine"
                );
                told = Some(problem);
            }
            if last {
                return;
            }
            tokio::select! {
                () = sleep(wait) => {}
                // The service ends: once more, and not again.
                () = ended(&newest) => last = true,
            }
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }
}

/// Resolves when no checkpoint can come any more.
async fn ended(newest: &NewestCheckpoint) {
    let mut newest = newest.clone();
    while newest.changed().await.is_ok() {}
}

impl Place {
    fn name(&self) -> &'static str {
        match self {
            Self::Directory(_) => "directory",
            Self::Webhook(_) => "webhook",
            Self::Syslog(_) => "syslog",
            Self::Witness(_) => "witness",
        }
    }

    async fn take(&self, checkpoint: Arc<SignedCheckpoint>, clock: &dyn Clock) -> Result<(), String> {
        let time = clock.now().to_string();
        match self {
            Self::Directory(directory) => {
                let directory = directory.clone();
                let kept = tokio::task::spawn_blocking(move || keep(&directory, &checkpoint, &time)).await;
                kept.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
            }
            Self::Webhook(webhook) => webhook.post(&checkpoint.note).await,
            Self::Syslog(address) => tell(*address, &checkpoint, &time).await,
            Self::Witness(witness) => witness.take(&checkpoint).await,
        }
    }
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Keeps the newest checkpoint by itself, and all of them as JSON lines, in a directory of the log's name.
fn keep(directory: &Path, signed: &SignedCheckpoint, time: &str) -> io::Result<()> {
    let own = directory.join(signed.checkpoint.origin.replace('/', "_"));
    make(&own)?;
    let line = serde_json::json!({ "checkpoint": signed.note, "time": time });
    let mut options = OpenOptions::new();
    let mut all = options.create(true).append(true).mode(0o600).open(own.join("checkpoints.log"))?;
    all.write_all(format!("{line}\n").as_bytes())?;
    all.sync_data()?;
    let unfinished = own.join("checkpoint.tmp");
    let mut options = OpenOptions::new();
    let mut newest = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    newest.write_all(signed.note.as_bytes())?;
    newest.sync_all()?;
    std::fs::rename(unfinished, own.join("checkpoint"))?;
    File::open(own)?.sync_all()
}

/// One datagram. Nobody says whether it arrived: beside another place, not instead of one.
// RFC 5424 §6; RFC 5426
async fn tell(address: SocketAddr, signed: &SignedCheckpoint, time: &str) -> Result<(), String> {
    const AUDIT_NOTICE: u32 = 13 * 8 + 5;
    let content = serde_json::json!({ "checkpoint": signed.note });
    let message = format!("<{AUDIT_NOTICE}>1 {time} - dewpoint - checkpoint - {content}");
    let own: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let sent = async { UdpSocket::bind(own).await?.send_to(message.as_bytes(), address).await };
    sent.await.map(drop).map_err(|error| error.to_string())
}

/// An address that takes each checkpoint by POST, as `text/plain`, and answers with 2xx.
pub(crate) struct Webhook {
    address: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Webhook {
    fn new(config: &WebhookConfig) -> Result<Self, String> {
        let address: Uri = config.url.parse().map_err(|error| format!("url: {error}"))?;
        let host = address.host().ok_or("url: it names no host")?.to_owned();
        let tls = match (address.scheme_str(), &config.ca_cert) {
            (Some("https"), Some(authority)) => Some((connector(authority)?, server_name(&host)?)),
            (Some("https"), None) => return Err("ca_cert is missing: whom to believe over https".to_owned()),
            (Some("http"), None) if host == "127.0.0.1" || host == "localhost" || host == "[::1]" => None,
            (Some("http"), None) => {
                return Err("http is for this machine alone; use https and ca_cert".to_owned());
            }
            (Some("http"), Some(_)) => return Err("ca_cert is for https".to_owned()),
            _ => return Err("url: it is neither https nor http".to_owned()),
        };
        let port = address.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self { address, host, port, tls })
    }

    async fn post(&self, note: &str) -> Result<(), String> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream =
            TcpStream::connect((host, self.port)).await.map_err(|error| format!("connect: {error}"))?;
        match &self.tls {
            None => self.post_on(stream, note).await,
            Some((connector, name)) => {
                let secured = connector.connect(name.clone(), stream).await;
                self.post_on(secured.map_err(|error| format!("TLS: {error}"))?, note).await
            }
        }
    }

    async fn post_on<S>(&self, stream: S, note: &str) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let path = self.address.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.address.authority().map_or("", |authority| authority.as_str());
        let request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Full::new(Bytes::copy_from_slice(note.as_bytes())))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let answer = sender.send_request(request);
            tokio::pin!(answer, connection);
            // The connection is what moves the request; it may end just after the answer has come.
            tokio::select! {
                answer = &mut answer => answer,
                ended = &mut connection => { ended?; answer.await }
            }
        };
        match exchange.await.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("it answered {status}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn connector(authority: &Path) -> Result<TlsConnector, String> {
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(authority).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("ca_cert: {error}"))?;
        roots.add(certificate).map_err(|error| format!("ca_cert: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("ca_cert: {} holds no certificate", authority.display()));
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(bare).map_err(|error| format!("url: {error}"))
}
