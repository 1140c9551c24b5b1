//! The fake: software keys, two worker threads, and switches that a test turns.

mod session;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use aes_gcm::{
    Aes256Gcm, AesGcm, KeyInit, Nonce,
    aead::{Aead, Payload, consts::U12},
};
use ed25519_dalek::SigningKey;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use sm4::Sm4;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    key::{BackingKey, BackingKind, MaterialId, WrappedKey},
    ports::{Birth, Hsm, HsmError, HsmJob, Mac},
};

use session::FakeSession;

const WORKERS: usize = 2;
const NONCE_BYTES: usize = 12;
/// How many jobs can wait before the fake answers [`HsmError::Busy`].
const QUEUE: usize = 4096;

/// How often each call was made, including those that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FakeCalls {
    /// Jobs that were submitted.
    pub jobs: u64,
    /// Those of them that make key pairs quickly.
    pub quick_births: u64,
    /// Those of them that take long to make key pairs.
    pub slow_births: u64,
    /// [`HsmSession::fill_random`](crate::ports::HsmSession::fill_random).
    pub random: u64,
    /// [`HsmSession::generate_backing_key`](crate::ports::HsmSession::generate_backing_key).
    pub generate: u64,
    /// [`HsmSession::rewrap_backing_key`](crate::ports::HsmSession::rewrap_backing_key).
    pub rewrap: u64,
    /// [`HsmSession::mac`](crate::ports::HsmSession::mac).
    pub mac: u64,
    /// [`HsmSession::seal`](crate::ports::HsmSession::seal) and [`HsmSession::open`](crate::ports::HsmSession::open).
    pub cipher: u64,
    /// [`HsmSession::generate_key_pair`](crate::ports::HsmSession::generate_key_pair) and [`HsmSession::generate_data_key_pair`](crate::ports::HsmSession::generate_data_key_pair).
    pub generate_pair: u64,
    /// [`HsmSession::sign`](crate::ports::HsmSession::sign), [`HsmSession::decrypt_rsa`](crate::ports::HsmSession::decrypt_rsa) and [`HsmSession::agree`](crate::ports::HsmSession::agree).
    pub private_key: u64,
    /// [`HsmSession::keyed_hash`](crate::ports::HsmSession::keyed_hash).
    pub keyed_hash: u64,
    /// [`HsmSession::import_backing_key`](crate::ports::HsmSession::import_backing_key) and [`HsmSession::import_key_pair`](crate::ports::HsmSession::import_key_pair).
    pub import: u64,
    /// Calls for root keys, for the log key, for the self-test and for what the HSM offers.
    pub administration: u64,
    /// [`HsmSession::authentication_mac`](crate::ports::HsmSession::authentication_mac).
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
    /// By generation; never empty.
    roots: Mutex<BTreeMap<u32, Zeroizing<[u8; 32]>>>,
    authentication: Zeroizing<[u8; 32]>,
    log_key: Mutex<Option<SigningKey>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<HsmJob>,
    held: bool,
    loses_next: bool,
    closed: bool,
    lacks: Vec<BackingKind>,
    failures: VecDeque<HsmError>,
    calls: FakeCalls,
}

impl FakeHsm {
    /// Makes one with fresh keys.
    pub fn new() -> Self {
        let shared = Arc::new(Shared {
            roots: Mutex::new(BTreeMap::from([(1, random_key())])),
            authentication: random_key(),
            log_key: Mutex::default(),
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

    /// Lets this HSM lack keys of a kind, as if no token offered them.
    pub fn lack(&self, kind: BackingKind) {
        self.shared.state().lacks.push(kind);
    }

    /// Drops the next job unrun, as if it had panicked.
    pub fn lose_next(&self) {
        self.shared.state().loses_next = true;
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
        if std::mem::take(&mut state.loses_next) {
            return;
        }
        if state.queue.len() < QUEUE {
            state.queue.push_back(job);
            drop(state);
            self.shared.changed.notify_one();
        } else {
            drop(state);
            job(Err(HsmError::Busy));
        }
    }

    fn submit_birth(&self, birth: Birth, job: HsmJob) {
        match birth {
            Birth::Quick => self.shared.state().calls.quick_births += 1,
            Birth::Slow => self.shared.state().calls.slow_births += 1,
        }
        self.submit(job);
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

    fn roots(&self) -> MutexGuard<'_, BTreeMap<u32, Zeroizing<[u8; 32]>>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_key(&self) -> MutexGuard<'_, Option<SigningKey>> {
        self.log_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wraps under the newest root key.
    fn wrap(&self, key: &[u8]) -> Result<WrappedKey, HsmError> {
        let roots = self.roots();
        let (generation, root) = roots.last_key_value().ok_or(HsmError::RootMissing { generation: 1 })?;
        let mut blob = random_key()[..NONCE_BYTES].to_vec();
        let nonce = nonce(&blob)?;
        let sealed = Aes256Gcm::new((&**root).into())
            .encrypt(&nonce, Payload { msg: key, aad: &[] })
            .map_err(|_| refused("the key cannot be wrapped"))?;
        blob.extend_from_slice(&sealed);
        Ok(WrappedKey { root_generation: *generation, blob })
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        let generation = wrapped.root_generation;
        let roots = self.roots();
        let root = roots.get(&generation).ok_or(HsmError::RootMissing { generation })?;
        let (head, sealed) = wrapped
            .blob
            .split_at_checked(NONCE_BYTES)
            .ok_or_else(|| refused("the wrapped key is too short"))?;
        Aes256Gcm::new((&**root).into())
            .decrypt(&nonce(head)?, Payload { msg: sealed, aad: &[] })
            .map(Zeroizing::new)
            .map_err(|_| refused("the wrapped key does not open"))
    }

    fn cipher<T>(
        &self,
        key: &BackingKey,
        with_aes: impl FnOnce(&Aes256Gcm) -> Result<T, aes_gcm::Error>,
        with_sm4: impl FnOnce(&AesGcm<Sm4, U12>) -> Result<T, aes_gcm::Error>,
    ) -> Result<T, HsmError> {
        let material = self.unwrap(&key.wrapped)?;
        let wrong_size = |_| refused("the wrapped key has another size");
        match key.kind {
            BackingKind::Aes256 => {
                with_aes(&Aes256Gcm::new_from_slice(&material).map_err(wrong_size)?).map_err(not_authentic)
            }
            BackingKind::Sm4 => {
                with_sm4(&AesGcm::new_from_slice(&material).map_err(wrong_size)?).map_err(not_authentic)
            }
            _ => Err(HsmError::NotOffered { feature: "sealing with a key that is no cipher's" }),
        }
    }
}

fn not_authentic(_: aes_gcm::Error) -> HsmError {
    HsmError::NotAuthentic
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

fn refused(detail: &str) -> HsmError {
    HsmError::WrappedKeyRefused { function: "C_UnwrapKey", detail: detail.to_owned() }
}

fn nonce(bytes: &[u8]) -> Result<Nonce<U12>, HsmError> {
    <[u8; NONCE_BYTES]>::try_from(bytes).map(Into::into).map_err(|_| refused("the nonce is malformed"))
}

fn hmac_sha256(key: &[u8], input: &[u8]) -> Mac {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
    mac.update(input);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// The HMAC of `input` with any hash.
pub(super) fn hmac<H>(key: &[u8], input: &[u8]) -> Vec<u8>
where
    H: hmac::EagerHash,
    Hmac<H>: KeyInit + hmac::Mac,
{
    let mut mac = <Hmac<H> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
    mac.update(input);
    mac.finalize().into_bytes().to_vec()
}

/// 32 random bytes out of the only source that this crate has: 4 random UUIDs, hashed together.
pub(super) fn random_key() -> Zeroizing<[u8; 32]> {
    let mut seed = Zeroizing::new([0; 64]);
    for part in seed.chunks_exact_mut(16) {
        part.copy_from_slice(Uuid::new_v4().as_bytes());
    }
    hmac_sha256(b"random", &*seed)
}

#[cfg(test)]
mod tests {
    use super::super::{
        hsm_contract, import_contract, key_pair_contract, keyed_hash_contract, missing_log_key_contract,
        on_session,
    };
    use super::*;

    #[test]
    fn the_fake_keeps_the_contract() {
        let hsm = FakeHsm::new();
        missing_log_key_contract(&hsm);
        hsm_contract(&hsm);
    }

    #[test]
    fn the_fake_keeps_the_contract_of_keys_of_every_kind() {
        use BackingKind::{
            EcP256, EcP384, EcSecp256k1, Ed25519, HmacSha256, HmacSha384, HmacSha512, Rsa2048,
        };
        let hsm = FakeHsm::new();
        for kind in [Rsa2048, EcP256, EcP384, EcSecp256k1, Ed25519] {
            assert!(key_pair_contract(&hsm, kind), "{kind:?}");
        }
        for kind in [HmacSha256, HmacSha384, HmacSha512] {
            keyed_hash_contract(&hsm, kind);
        }
        import_contract(&hsm);
        hsm.lack(EcP256);
        assert!(!key_pair_contract(&hsm, EcP256));
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
