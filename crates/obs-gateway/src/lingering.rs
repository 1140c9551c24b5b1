//! Bodies of requests that are refused before they are read: a client that is still sending would see a broken
//! connection in place of the refusal.

use std::{
    error::Error,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, header::EXPECT};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::patience::Arriving;

/// How many bytes of a refused body are read and thrown away at most.
const MOST: usize = 16 << 20;
/// How long that may take.
const LONGEST: Duration = Duration::from_secs(10);

/// A request's body that can still be read when who should have read it is gone.
#[derive(Clone, Debug)]
pub(crate) struct Lingering(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    body: Arriving<Incoming>,
    /// Whether the client waits to be asked for the body. The first read asks for it.
    is_awaited: bool,
}

impl Lingering {
    pub(crate) fn new(body: Incoming, headers: &HeaderMap) -> Self {
        let body = Arriving::new(body);
        Self(Arc::new(Mutex::new(Shared { body, is_awaited: headers.contains_key(EXPECT) })))
    }

    /// Reads what is left, within bounds. A client that waits to be asked for a body does not wait for long, so it is
    /// asked; but not for one of which the bounds would leave a part.
    pub(crate) async fn drain(mut self) {
        let is_awaited = self.0.lock().is_awaited;
        if is_awaited && self.size_hint().lower() > MOST as u64 {
            return;
        }
        let drained = timeout(LONGEST, async {
            let mut length = 0;
            while length < MOST {
                let frame = poll_fn(|context| Pin::new(&mut self).poll_frame(context)).await;
                let Some(Ok(frame)) = frame else { break };
                length += frame.data_ref().map_or(0, Bytes::len);
            }
        });
        // A client that is slower than this sees a broken connection.
        let _ = drained.await;
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut shared = self.0.lock();
        shared.is_awaited = false;
        Pin::new(&mut shared.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.size_hint()
    }
}
