//! Waiting for the HSM, and no longer than the caller may be kept waiting.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_channel::oneshot;

use super::Ports;
use crate::{
    error::Error,
    ports::{Birth, BoxFuture, Hsm, HsmError, HsmJob, HsmSession},
};

/// Queues a job that makes this kind of key, if any.
pub(super) fn submit(hsm: &dyn Hsm, birth: Option<Birth>, job: HsmJob) {
    match birth {
        Some(birth) => hsm.submit_birth(birth, job),
        None => hsm.submit(job),
    }
}

/// Runs `work` on an HSM worker and waits for it, unrecorded: for parts of operations only.
pub(super) async fn on_hsm<T: Send + 'static>(
    hsm: &Arc<dyn Hsm>,
    ports: &Ports,
    patience: Duration,
    work: impl FnOnce(&mut dyn HsmSession) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    make_on_hsm(hsm, None, ports, patience, work).await
}

/// The same for work that makes this kind of key, if any.
pub(super) async fn make_on_hsm<T: Send + 'static>(
    hsm: &Arc<dyn Hsm>,
    birth: Option<Birth>,
    ports: &Ports,
    patience: Duration,
    work: impl FnOnce(&mut dyn HsmSession) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (answer, mut answered) = oneshot::channel();
    let job = move |session: Result<&mut dyn HsmSession, HsmError>| {
        if answer.is_canceled() {
            return; // nobody waits any more
        }
        drop(answer.send(session.map_err(Error::from).and_then(work)));
    };
    submit(&**hsm, birth, Box::new(job));
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

/// Nobody has begun to work for the call.
const WAITING: u8 = 0;
/// A worker works for it.
const BEGUN: u8 = 1;
/// Somebody concludes it, or nobody wants it any more.
const TAKEN: u8 = 2;

/// The right to conclude a call: of the HSM worker and of the one who waits, one has it.
#[derive(Clone, Default)]
pub(super) struct Claim(Arc<AtomicU8>);

impl Claim {
    /// Begins the worker's part; `false` if nobody waits for it any more.
    pub(super) fn begin(&self) -> bool {
        self.0.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes the right; `false` if the other has taken it.
    pub(super) fn take(&self) -> bool {
        self.0.swap(TAKEN, Ordering::AcqRel) != TAKEN
    }

    /// For as long as somebody waits. What has not begun by its end never does; what has begun has to be concluded,
    /// for the HSM is being used.
    pub(super) fn waits(&self) -> Waits {
        Waits(self.clone())
    }
}

/// Somebody waits for the worker.
pub(super) struct Waits(Claim);

impl Drop for Waits {
    fn drop(&mut self) {
        // Else it has begun, or is concluded.
        let _abandoned = self.0.0.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire);
    }
}
