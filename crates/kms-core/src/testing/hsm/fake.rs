//! The fake: software keys, two worker threads, and switches that a test turns.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    key::{BackingKey, MaterialId, WrappedKey},
    ports::{Hsm, HsmError, HsmJob, HsmSession, Mac},
};

/// The only generation of the fake's root key.
const ROOT_GENERATION: u32 = 1;
const WORKERS: usize = 2;
const NONCE_BYTES: usize = 12;
/// How many jobs can wait before the fake answers [`HsmError::Busy`].
const QUEUE: usize = 4096;

/// How often each call was made, including those that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FakeCalls {
    /// Jobs that were submitted.
    pub jobs: u64,
    /// [`HsmSession::fill_random`].
    pub random: u64,
    /// [`HsmSession::generate_backing_key`].
    pub generate: u64,
    /// [`HsmSession::mac`].
    pub mac: u64,
    /// [`HsmSession::authentication_mac`].
    pub authentication_mac: u64,
    /// [`Hsm::evict`].
    pub evict: u64,
}

/// An HSM in memory.
///
/// Its keys live as long as it does: wrapped keys of one fake mean nothing to another.
pub struct FakeHsm {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    root: Zeroizing<[u8; 32]>,
    authentication: Zeroizing<[u8; 32]>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<HsmJob>,
    held: bool,
    closed: bool,
    failures: VecDeque<HsmError>,
    calls: FakeCalls,
}

impl FakeHsm {
    /// Makes one with fresh keys.
    pub fn new() -> Self {
        let shared = Arc::new(Shared {
            root: random_key(),
            authentication: random_key(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let workers = (0..WORKERS).map(|_| spawn_worker(Arc::clone(&shared))).collect();
        Self { shared, workers }
    }

    /// The next call on a session answers `error`; several of these answer in turn.
    pub fn fail_next(&self, error: HsmError) {
        self.shared.state().failures.push_back(error);
    }

    /// Starts no more jobs: they wait in the queue.
    pub fn hold(&self) {
        self.shared.state().held = true;
    }

    /// Starts jobs again.
    pub fn release(&self) {
        self.shared.state().held = false;
        self.shared.changed.notify_all();
    }

    /// How many jobs wait.
    pub fn queued(&self) -> usize {
        self.shared.state().queue.len()
    }

    /// How often each call was made so far.
    pub fn calls(&self) -> FakeCalls {
        self.shared.state().calls
    }
}

impl Default for FakeHsm {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for FakeHsm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeHsm").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

impl Hsm for FakeHsm {
    fn submit(&self, job: HsmJob) {
        let mut state = self.shared.state();
        state.calls.jobs += 1;
        if state.queue.len() < QUEUE {
            state.queue.push_back(job);
            drop(state);
            self.shared.changed.notify_one();
        } else {
            drop(state);
            job(Err(HsmError::Busy));
        }
    }

    fn evict(&self, _material: MaterialId) {
        self.shared.state().calls.evict += 1;
    }
}

impl Drop for FakeHsm {
    /// Runs what is queued, then stops.
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.held = false;
        state.closed = true;
        drop(state);
        self.shared.changed.notify_all();
        let this_thread = std::thread::current().id();
        for worker in self.workers.drain(..).filter(|worker| worker.thread().id() != this_thread) {
            let _ = worker.join(); // a job that panicked has told its own waiter
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when the fake is closed and nothing waits.
    fn next_job(&self) -> Option<HsmJob> {
        let waiting = |state: &mut State| state.held || (state.queue.is_empty() && !state.closed);
        let mut state =
            self.changed.wait_while(self.state(), waiting).unwrap_or_else(PoisonError::into_inner);
        state.queue.pop_front()
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.root).into())
    }

    fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>, HsmError> {
        let mut blob = random_key()[..NONCE_BYTES].to_vec();
        let nonce = nonce(&blob)?;
        let sealed = self
            .cipher()
            .encrypt(&nonce, Payload { msg: key, aad: &[] })
            .map_err(|_| refused("the key cannot be wrapped"))?;
        blob.extend_from_slice(&sealed);
        Ok(blob)
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        if wrapped.root_generation != ROOT_GENERATION {
            return Err(HsmError::RootMissing { generation: wrapped.root_generation });
        }
        let (head, sealed) = wrapped
            .blob
            .split_at_checked(NONCE_BYTES)
            .ok_or_else(|| refused("the wrapped key is too short"))?;
        self.cipher()
            .decrypt(&nonce(head)?, Payload { msg: sealed, aad: &[] })
            .map(Zeroizing::new)
            .map_err(|_| refused("the wrapped key does not open"))
    }
}

fn spawn_worker(shared: Arc<Shared>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while let Some(job) = shared.next_job() {
            let mut session = FakeSession { shared: &shared };
            // A job that panics must not take the worker with it.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(Ok(&mut session))));
        }
    })
}

/// One session with the fake.
struct FakeSession<'a> {
    shared: &'a Shared,
}

impl FakeSession<'_> {
    /// Counts the call, and fails it if the test wants that.
    fn begin(&self, count: impl FnOnce(&mut FakeCalls) -> &mut u64) -> Result<(), HsmError> {
        let mut state = self.shared.state();
        *count(&mut state.calls) += 1;
        state.failures.pop_front().map_or(Ok(()), Err)
    }
}

impl HsmSession for FakeSession<'_> {
    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
        self.begin(|calls| &mut calls.random)?;
        for (counter, chunk) in out.chunks_mut(32).enumerate() {
            let block = hmac_sha256(&*random_key(), &counter.to_be_bytes());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }

    fn generate_backing_key(&mut self) -> Result<WrappedKey, HsmError> {
        self.begin(|calls| &mut calls.generate)?;
        let blob = self.shared.wrap(&random_key())?;
        Ok(WrappedKey { root_generation: ROOT_GENERATION, blob })
    }

    fn mac(&mut self, key: &BackingKey, input: &[u8]) -> Result<Mac, HsmError> {
        self.begin(|calls| &mut calls.mac)?;
        let material = self.shared.unwrap(&key.wrapped)?;
        Ok(hmac_sha256(&material, input))
    }

    fn authentication_mac(&mut self, input: &[u8]) -> Result<Mac, HsmError> {
        self.begin(|calls| &mut calls.authentication_mac)?;
        Ok(hmac_sha256(&*self.shared.authentication, input))
    }
}

fn refused(detail: &str) -> HsmError {
    HsmError::WrappedKeyRefused { function: "C_UnwrapKey", detail: detail.to_owned() }
}

fn nonce(bytes: &[u8]) -> Result<Nonce<aes_gcm::aead::consts::U12>, HsmError> {
    <[u8; NONCE_BYTES]>::try_from(bytes).map(Into::into).map_err(|_| refused("the nonce is malformed"))
}

fn hmac_sha256(key: &[u8], input: &[u8]) -> Mac {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
    mac.update(input);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// 32 random bytes out of the only source that this crate has: 4 random UUIDs, hashed together.
fn random_key() -> Zeroizing<[u8; 32]> {
    let mut seed = Zeroizing::new([0; 64]);
    for part in seed.chunks_exact_mut(16) {
        part.copy_from_slice(Uuid::new_v4().as_bytes());
    }
    hmac_sha256(b"random", &*seed)
}

#[cfg(test)]
mod tests {
    use super::super::{hsm_contract, on_session};
    use super::*;

    #[test]
    fn the_fake_keeps_the_contract() {
        hsm_contract(&FakeHsm::new());
    }

    #[test]
    fn a_held_fake_starts_jobs_only_after_its_release() {
        let hsm = FakeHsm::new();
        hsm.hold();
        let (done, finished) = std::sync::mpsc::channel();
        hsm.submit(Box::new(move |session| done.send(session.is_ok()).expect("the test waits for it")));
        assert_eq!((hsm.queued(), hsm.calls().jobs), (1, 1));
        assert!(finished.try_recv().is_err());
        hsm.release();
        assert_eq!(finished.recv(), Ok(true));
    }

    #[test]
    fn failures_answer_in_turn_and_then_no_more() {
        let hsm = FakeHsm::new();
        let lost = HsmError::Unavailable { function: "C_Sign", detail: "gone".to_owned() };
        hsm.fail_next(HsmError::Busy);
        hsm.fail_next(lost.clone());
        let answers =
            on_session(&hsm, |session| [(); 3].map(|()| session.authentication_mac(b"input").map(drop)));
        assert_eq!(answers, [Err(HsmError::Busy), Err(lost), Ok(())]);
        assert_eq!(hsm.calls().authentication_mac, 3);
    }

    #[test]
    fn a_full_queue_answers_busy_on_the_calling_thread() {
        let hsm = FakeHsm::new();
        hsm.hold();
        for _ in 0..QUEUE {
            hsm.submit(Box::new(|_| ()));
        }
        let (done, answer) = std::sync::mpsc::channel();
        hsm.submit(Box::new(move |session| done.send(session.err()).expect("the test waits for it")));
        assert_eq!(answer.try_recv(), Ok(Some(HsmError::Busy)));
    }
}
