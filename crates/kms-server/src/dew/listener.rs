//! The listener of DEW's protocol: HTTP/1.1, over TLS unless the configuration expressly says otherwise.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
};
use tonic::transport::server::Connected as _;

use super::Rest;
use crate::{server::stopped, tls};

/// How long a connection may be idle, or take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How many headers a request may have.
const MAX_HEADERS: usize = 64;
/// How long the head of a request may be, and how much of a body is read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Answers requests until `stop` turns true; then those that are under way end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<ServerConfig>,
    rest: Arc<Rest>,
    mut stop: watch::Receiver<bool>,
) {
    let under_way = GracefulShutdown::new();
    match tls {
        Some(config) => {
            let mut connections = tls::accept(listener, config);
            loop {
                tokio::select! {
                    () = stopped(&mut stop) => break,
                    accepted = connections.recv() => match accepted {
                        None => break,
                        Some(Err(error)) => tracing::warn!(%error, "a connection could not be accepted"),
                        Some(Ok(connection)) => {
                            let source = connection.connect_info().source;
                            converse(connection, source, &rest, &under_way);
                        }
                    },
                }
            }
        }
        None => loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                (stream, source) = tls::next(&listener) => converse(stream, source, &rest, &under_way),
            }
        },
    }
    under_way.shutdown().await;
}

fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    source: SocketAddr,
    rest: &Arc<Rest>,
    under_way: &GracefulShutdown,
) {
    let rest = rest.clone();
    let service = service_fn(move |request| {
        let rest = rest.clone();
        async move { Ok::<_, Infallible>(rest.exchange(request, source).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let watched = under_way.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            tracing::debug!(%source, %error, "a connection ended in an error");
        }
    });
}
