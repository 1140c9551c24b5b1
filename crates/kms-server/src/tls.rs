//! TLS: the server's settings, and connections that know their peer.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Semaphore, mpsc},
    task::yield_now,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::{
    config::{FileError, GrpcConfig},
    peer::{ClientCertificate, Peer},
    sockets::{Socket, Sockets},
};

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How many handshakes may be under way at once; further connections wait in the kernel's queue.
const CONCURRENT_HANDSHAKES: usize = 256;

/// A TLS connection to a client.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TlsStream<Socket>,
    peer: Arc<Peer>,
    /// Whether the next write was put off.
    is_put_off: bool,
}

/// Reads certificates and keys: a client certificate is asked for, and verified if given.
pub(crate) fn mutual(files: &GrpcConfig) -> Result<ServerConfig, FileError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.client_ca)? {
        roots.add(certificate).map_err(|error| FileError::new(&files.client_ca, error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| FileError::new(&files.client_ca, error))?;
    let mut config = shown(&files.certificate, &files.private_key, provider, Some(verifier))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The same for clients that show by other means who they are: none is asked for a certificate.
pub(crate) fn one_sided(certificate: &Path, private_key: &Path) -> Result<ServerConfig, FileError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = shown(certificate, private_key, provider, None)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn shown(
    certificate: &Path,
    private_key: &Path,
    provider: Arc<CryptoProvider>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, FileError> {
    let chain = certificates(certificate)?;
    let key =
        PrivateKeyDer::from_pem_file(private_key).map_err(|error| FileError::new(private_key, error))?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| FileError::new(certificate, error))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key).map_err(|error| FileError::new(certificate, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| FileError::new(path, error))?;
    if certificates.is_empty() { Err(FileError::new(path, "holds no certificate")) } else { Ok(certificates) }
}

/// Accepts connections until the receiver is dropped. A handshake that fails or hangs holds up nobody, as
/// long as fewer than `CONCURRENT_HANDSHAKES` hang at once.
pub(crate) fn accept(sockets: Sockets, config: ServerConfig) -> mpsc::Receiver<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(16);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let handshakes = Arc::new(Semaphore::new(CONCURRENT_HANDSHAKES));
    tokio::spawn(async move {
        loop {
            let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
            let (stream, source) = tokio::select! {
                accepted = sockets.next() => accepted,
                () = sender.closed() => return,
            };
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                match timeout(HANDSHAKE_TIMEOUT, handshake(&acceptor, stream, source)).await {
                    Ok(Ok(connection)) => drop(sender.send(Ok(connection)).await),
                    Ok(Err(error)) => tracing::debug!(%source, %error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(%source, "a TLS handshake took too long"),
                }
                drop(permit);
            });
        }
    });
    receiver
}

async fn handshake(acceptor: &TlsAcceptor, stream: Socket, source: SocketAddr) -> io::Result<Connection> {
    let stream = acceptor.accept(stream).await?;
    let end_entity = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = end_entity.map(|certificate| ClientCertificate::parse(certificate));
    Ok(Connection { stream, peer: Arc::new(Peer { source, certificate }), is_put_off: false })
}

impl Connection {
    /// Pending once, until the other tasks of this thread had their turn. Those have answers for this connection, and a
    /// write of many answers costs hardly more than one of a single answer, here and at the client.
    ///
    /// It yields as the runtime's own tasks do: to wake the task would wake another thread for it.
    fn gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.is_put_off = !self.is_put_off;
        if self.is_put_off { pin!(yield_now()).poll(context) } else { Poll::Ready(()) }
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.gather(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.gather(context));
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
