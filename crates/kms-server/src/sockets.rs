//! Sockets of clients: so many at a time for each listener, and none whose other end takes nothing of what it asked for.

use std::{
    future::{Future as _, pending},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// How many connections one listener may have at a time; further ones wait in the kernel's queue. So no crowd of
/// strangers takes the descriptors that log, store and token need; docs/operations.md says how many that makes.
const CONNECTIONS: usize = 4096;
/// How long a client may take nothing of what is written to it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A listener that lets in only so many at a time.
#[derive(Debug)]
pub(crate) struct Sockets {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

/// A connection to a client. It fails as soon as its other end has taken nothing for so long that it was written.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    patience: Duration,
    /// Until when something has to be taken; `None`: nothing waits.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Sockets {
    /// Those that come to this listener.
    pub(crate) fn of(listener: TcpListener) -> Self {
        Self::bounded(listener, CONNECTIONS, PATIENCE)
    }

    fn bounded(listener: TcpListener, connections: usize, patience: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections)), patience }
    }

    /// The next connection, once there is a place for it.
    pub(crate) async fn next(&self) -> (Socket, SocketAddr) {
        // Nobody closes the semaphore.
        let Ok(place) = self.places.clone().acquire_owned().await else { return pending().await };
        loop {
            // Answers are short: none waits for more to send.
            let accepted = self.listener.accept().await;
            let accepted = accepted.and_then(|accepted| accepted.0.set_nodelay(true).map(|()| accepted));
            match accepted {
                Ok((stream, source)) => {
                    let patience = self.patience;
                    return (Socket { stream, patience, stalled: None, _place: place }, source);
                }
                Err(error) => {
                    // Out of descriptors, or a client that left at once: neither ends the service.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

impl Socket {
    /// What a write came to, or that nothing was taken for too long.
    fn unless_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.unless_stalled(context, written)
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    /// More than the buffers of two kernels' ends hold.
    const MUCH: usize = 64 * 1024 * 1024;
    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(600);

    async fn sockets(connections: usize, patience: Duration) -> (Sockets, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        (Sockets::bounded(listener, connections, patience), address)
    }

    #[tokio::test]
    async fn only_so_many_are_let_in_until_one_leaves() {
        let (sockets, address) = sockets(2, LONG).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.expect("the kernel takes it"));
        }
        let (first, _) = sockets.next().await;
        let (_second, _) = sockets.next().await;
        timeout(Duration::from_millis(50), sockets.next()).await.expect_err("there is no place");
        drop(first);
        let (_, source) = sockets.next().await;
        assert_eq!(source, clients[2].local_addr().expect("an address"));
    }

    #[tokio::test]
    async fn who_takes_nothing_is_given_up() {
        let (sockets, address) = sockets(1, Duration::from_millis(50)).await;
        let _client = TcpStream::connect(address).await.expect("it listens");
        let (mut socket, _) = sockets.next().await;
        let written = timeout(LONG, socket.write_all(&vec![0; MUCH])).await.expect("it is given up");
        assert_eq!(written.expect_err("nothing was taken").kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_takes_it_in_the_end_gets_all_of_it() {
        let (sockets, address) = sockets(1, LONG).await;
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let (mut socket, _) = sockets.next().await;
        let writing = tokio::spawn(async move { socket.write_all(&vec![0; MUCH]).await });
        let mut taken = Vec::new();
        client.read_to_end(&mut taken).await.expect("all of it");
        assert_eq!(taken.len(), MUCH);
        writing.await.expect("it ends").expect("it was written");
    }

    #[tokio::test]
    async fn what_is_written_leaves_at_once() {
        let (sockets, address) = sockets(1, LONG).await;
        let _client = TcpStream::connect(address).await.expect("it listens");
        let (socket, _) = sockets.next().await;
        assert!(socket.stream.nodelay().expect("an option"));
    }
}
