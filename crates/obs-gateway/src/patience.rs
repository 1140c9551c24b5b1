//! Clients that stand still: what they hold is given back after a while.

use std::{
    error, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a client may send nothing of a body that is waited for, or take nothing of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is waited for, and since when.
#[derive(Debug, Default)]
struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// What was polled, or `late` if it has been pending for too long.
    fn wait<Output>(
        &mut self,
        polled: Poll<Output>,
        context: &mut Context<'_>,
        late: impl FnOnce() -> Output,
    ) -> Poll<Output> {
        if polled.is_ready() {
            self.0 = None;
            return polled;
        }
        let end = self.0.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        ready!(end.as_mut().poll(context));
        Poll::Ready(late())
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client stands still")
}

/// A body of which something has to come all the while.
#[derive(Debug)]
pub(crate) struct Arriving<Inner> {
    body: Inner,
    patience: Patience,
}

impl<Inner> Arriving<Inner> {
    pub(crate) fn new(body: Inner) -> Self {
        Self { body, patience: Patience::default() }
    }
}

impl<Inner> Body for Arriving<Inner>
where
    Inner: Body<Error: Into<Box<dyn error::Error + Send + Sync>>> + Unpin,
{
    type Data = Inner::Data;
    type Error = Box<dyn error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let polled = polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)));
        self.patience.wait(polled, context, || Some(Err(late().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose client has to take something of what it is sent all the while.
#[derive(Debug)]
pub(crate) struct Taking<Stream> {
    stream: Stream,
    patience: Patience,
}

impl<Stream> Taking<Stream> {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, patience: Patience::default() }
    }
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Taking<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for Taking<Stream> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patience.wait(polled, context, || Err(late()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.patience.wait(polled, context, || Err(late()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.patience.wait(polled, context, || Err(late()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.patience.wait(polled, context, || Err(late()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn piece() -> Frame<Bytes> {
        Frame::data(Bytes::from_static(b"x"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_ends_with_an_error() {
        let body = stream::iter([piece(), piece()]).map(Ok::<_, io::Error>).chain(stream::pending());
        let refused = Arriving::new(StreamBody::new(body)).collect().await.unwrap_err();
        assert!(refused.to_string().contains("stands still"), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_slowly_is_read_to_its_end() {
        let slow = stream::iter(0..5).then(|_| async {
            sleep(PATIENCE / 2).await;
            Ok::<_, io::Error>(piece())
        });
        let body = Arriving::new(StreamBody::new(Box::pin(slow)));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_left() {
        let (server, _client) = tokio::io::duplex(4);
        let refused = Taking::new(server).write_all(&[0; 10]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_slowly_gets_everything() {
        let (server, mut client) = tokio::io::duplex(4);
        let mut server = Taking::new(server);
        let taken = async {
            for _ in 0..5 {
                sleep(PATIENCE / 2).await;
                client.read_exact(&mut [0; 4]).await.unwrap();
            }
        };
        let (sent, ()) = tokio::join!(server.write_all(&[0; 20]), taken);
        sent.unwrap();
    }
}
