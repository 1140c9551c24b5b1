//! The listener of DEW's protocol: HTTP/1.1, over TLS unless the configuration expressly says otherwise.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected as _;

use super::Rest;
use crate::{server::stopped, sockets::Sockets, tls};

/// How long a connection may be idle, or take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How many headers of a request are read. Fewer are taken, but those who send more than that are told so.
const MAX_HEADERS: usize = 256;
/// How long the head of a request may be, and how much of a body is read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long a connection without a whole request stays once the service ends; what was answered leaves meanwhile.
const FAREWELL: Duration = Duration::from_secs(1);

/// Answers requests until `stop` turns true; then those that have come in whole are answered, and no others.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<ServerConfig>,
    rest: Arc<Rest>,
    mut stop: watch::Receiver<bool>,
) {
    let (sockets, conversations) = (Sockets::of(listener), TaskTracker::new());
    let told = stop.clone();
    match tls {
        Some(config) => {
            let mut connections = tls::accept(sockets, config);
            loop {
                tokio::select! {
                    () = stopped(&mut stop) => break,
                    accepted = connections.recv() => match accepted {
                        None => break,
                        Some(Err(error)) => tracing::warn!(%error, "a connection could not be accepted"),
                        Some(Ok(connection)) => {
                            let source = connection.connect_info().source;
                            conversations.spawn(converse(connection, source, rest.clone(), told.clone()));
                        }
                    },
                }
            }
        }
        None => loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                (stream, source) = sockets.next() => {
                    conversations.spawn(converse(stream, source, rest.clone(), told.clone()));
                }
            }
        },
    }
    conversations.close();
    conversations.wait().await;
}

/// Answers the requests of one connection.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    source: SocketAddr,
    rest: Arc<Rest>,
    mut stop: watch::Receiver<bool>,
) {
    let (answering, is_answering) = watch::channel(false);
    let service = service_fn(|request| {
        let (rest, answering) = (rest.clone(), &answering);
        async move {
            let answer = rest.exchange(request, source, answering).await;
            answering.send_replace(false);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = silence(is_answering) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%source, %error, "a connection ended in an error");
    }
}

/// Resolves once no request is being answered, and none begins to be for a moment.
async fn silence(mut answering: watch::Receiver<bool>) {
    // An error means that the connection is gone.
    while answering.wait_for(|answering| !answering).await.is_ok() {
        if timeout(FAREWELL, answering.wait_for(|answering| *answering)).await.is_err() {
            return;
        }
    }
}
