//! Waiting for the HSM, and no longer than the caller may be kept waiting.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_channel::oneshot;

use super::Ports;
use crate::{
    error::Error,
    ports::{BoxFuture, Hsm, HsmError, HsmSession},
};

/// Runs `work` on an HSM worker and waits for it, unrecorded: for parts of operations only.
pub(super) async fn on_hsm<T: Send + 'static>(
    hsm: &Arc<dyn Hsm>,
    ports: &Ports,
    patience: Duration,
    work: impl FnOnce(&mut dyn HsmSession) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (answer, mut answered) = oneshot::channel();
    hsm.submit(Box::new(move |session| {
        if answer.is_canceled() {
            return; // nobody waits any more
        }
        drop(answer.send(session.map_err(Error::from).and_then(work)));
    }));
    match within(&mut answered, ports.clock.sleep(patience)).await {
        Some(answer) => {
            answer.unwrap_or(Err(Error::Internal { detail: "an HSM job ended without an answer" }))
        }
        None => Err(HsmError::TimedOut.into()),
    }
}

/// What `answered` gives, or `None` if `expiry` comes first.
pub(super) async fn within<T>(
    answered: &mut oneshot::Receiver<T>,
    mut expiry: BoxFuture<'static, ()>,
) -> Option<Result<T, oneshot::Canceled>> {
    poll_fn(|context| match Pin::new(&mut *answered).poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => expiry.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// The right to conclude a call: of the HSM worker and of the one who waits, one has it.
#[derive(Clone, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Takes the right; `false` if the other has taken it.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
