//! What the supervisor is asked for by signals.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Request {
    /// SIGHUP: end this worker in order, and start another one.
    Replace,
    /// SIGTERM or SIGINT: end the worker in order, and with it the service.
    Stop,
}

/// The signals, which are listened to from the start on.
pub(super) struct Requests {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Requests {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next request. Not waiting to the end of this loses none.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hang_up.recv() => Request::Replace,
        }
    }

    /// The next request, if it comes within this time.
    pub(super) async fn within(&mut self, time: Duration) -> Option<Request> {
        timeout(time, self.next()).await.ok()
    }
}
