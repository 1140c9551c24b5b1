//! The fake: software keys, two worker threads, and switches that a test turns.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use aes_gcm::{
    Aes256Gcm, AesGcm, KeyInit, Nonce,
    aead::{Aead, Payload, consts::U12},
};
use hmac::{Hmac, Mac as _};
use sha2::{Sha256, Sha384, Sha512};
use sm4::Sm4;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    key::{BackingKey, BackingKind, MaterialId, WrappedKey},
    ports::{Hsm, HsmError, HsmJob, HsmSession, KeyPair, Mac, SigningMechanism},
    secret::SecretBytes,
};

use super::software;

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
    /// [`HsmSession::rewrap_backing_key`].
    pub rewrap: u64,
    /// [`HsmSession::mac`].
    pub mac: u64,
    /// [`HsmSession::seal`] and [`HsmSession::open`].
    pub cipher: u64,
    /// [`HsmSession::generate_key_pair`] and [`HsmSession::generate_data_key_pair`].
    pub generate_pair: u64,
    /// [`HsmSession::sign`], [`HsmSession::decrypt_rsa`] and [`HsmSession::agree`].
    pub private_key: u64,
    /// [`HsmSession::keyed_hash`].
    pub keyed_hash: u64,
    /// [`HsmSession::import_backing_key`] and [`HsmSession::import_key_pair`].
    pub import: u64,
    /// Calls for root keys, for the self-test and for what the HSM offers.
    pub administration: u64,
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
    /// By generation; never empty.
    roots: Mutex<BTreeMap<u32, Zeroizing<[u8; 32]>>>,
    authentication: Zeroizing<[u8; 32]>,
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

    fn require(&self, kind: BackingKind) -> Result<(), HsmError> {
        let lacks = self.shared.state().lacks.contains(&kind);
        if lacks { Err(HsmError::NotOffered { feature: "keys of this kind" }) } else { Ok(()) }
    }

    /// Works with a private key, once the call was counted; `None` from `work` is of no such key.
    fn with_private_key<T>(
        &self,
        key: &BackingKey,
        otherwise: HsmError,
        work: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, HsmError> {
        self.begin(|calls| &mut calls.private_key)?;
        let private_key = self.shared.unwrap(&key.wrapped)?;
        let is_pair = secret_bytes(key.kind).is_none();
        if is_pair && software::public_key(key.kind, &private_key).is_none() {
            return Err(refused("the wrapped key is of another kind"));
        }
        work(&private_key).ok_or(otherwise)
    }
}

const NO_SECRET_KEY: HsmError = HsmError::NotOffered { feature: "a key pair as one secret key" };
const NO_KEY_PAIR: HsmError = HsmError::NotOffered { feature: "a secret key as a key pair" };

/// The length of a secret key; `None` for key pairs.
const fn secret_bytes(kind: BackingKind) -> Option<usize> {
    match kind {
        BackingKind::Sm4 => Some(16),
        BackingKind::Mac | BackingKind::Aes256 | BackingKind::HmacSha256 => Some(32),
        BackingKind::HmacSha384 => Some(48),
        BackingKind::HmacSha512 => Some(64),
        _ => None,
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

    fn generate_backing_key(&mut self, kind: BackingKind) -> Result<WrappedKey, HsmError> {
        self.begin(|calls| &mut calls.generate)?;
        self.require(kind)?;
        let length = secret_bytes(kind).ok_or(NO_SECRET_KEY)?;
        self.shared.wrap(&[*random_key(), *random_key()].concat()[..length])
    }

    fn rewrap_backing_key(&mut self, key: &BackingKey) -> Result<WrappedKey, HsmError> {
        self.begin(|calls| &mut calls.rewrap)?;
        let material = self.shared.unwrap(&key.wrapped)?;
        self.shared.wrap(&material)
    }

    fn prove_backing_key(&mut self, key: &BackingKey) -> Result<(), HsmError> {
        self.begin(|calls| &mut calls.mac)?;
        self.shared.unwrap(&key.wrapped).map(drop)
    }

    fn mac(&mut self, key: &BackingKey, input: &[u8]) -> Result<Mac, HsmError> {
        self.begin(|calls| &mut calls.mac)?;
        let material = self.shared.unwrap(&key.wrapped)?;
        Ok(hmac_sha256(&material, input))
    }

    fn seal(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        self.begin(|calls| &mut calls.cipher)?;
        let payload = || Payload { msg: plaintext, aad: associated_data };
        self.shared.cipher(
            key,
            |cipher| cipher.encrypt(&(*iv).into(), payload()),
            |cipher| cipher.encrypt(&(*iv).into(), payload()),
        )
    }

    fn open(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, HsmError> {
        self.begin(|calls| &mut calls.cipher)?;
        let payload = || Payload { msg: sealed, aad: associated_data };
        let opened = self.shared.cipher(
            key,
            |cipher| cipher.decrypt(&(*iv).into(), payload()),
            |cipher| cipher.decrypt(&(*iv).into(), payload()),
        );
        opened.map(SecretBytes::new)
    }

    fn offers(&mut self, kind: BackingKind) -> Result<bool, HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        Ok(self.require(kind).is_ok())
    }

    fn generate_key_pair(&mut self, kind: BackingKind) -> Result<KeyPair, HsmError> {
        let (private_key, public_key) = self.generate_data_key_pair(kind)?;
        Ok(KeyPair { wrapped: self.shared.wrap(private_key.expose_secret())?, public_key })
    }

    fn generate_data_key_pair(&mut self, kind: BackingKind) -> Result<(SecretBytes, Vec<u8>), HsmError> {
        self.begin(|calls| &mut calls.generate_pair)?;
        self.require(kind)?;
        let private_key = software::generate(kind).ok_or(NO_KEY_PAIR)?;
        let public_key = software::public_key(kind, private_key.expose_secret()).ok_or(NO_KEY_PAIR)?;
        Ok((private_key, public_key))
    }

    fn sign(
        &mut self,
        key: &BackingKey,
        mechanism: SigningMechanism,
        input: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        let otherwise = HsmError::NotOffered { feature: "such a signature with this key" };
        self.with_private_key(key, otherwise, |private_key| {
            software::sign(key.kind, private_key, mechanism, input)
        })
    }

    fn decrypt_rsa(&mut self, key: &BackingKey, ciphertext: &[u8]) -> Result<SecretBytes, HsmError> {
        let is_rsa = software::modulus_bits(key.kind).is_some();
        let otherwise = if is_rsa { HsmError::NotAuthentic } else { NO_KEY_PAIR };
        self.with_private_key(key, otherwise, |private_key| {
            software::decrypt(key.kind, private_key, ciphertext)
        })
    }

    fn agree(&mut self, key: &BackingKey, peer: &[u8]) -> Result<SecretBytes, HsmError> {
        let otherwise = match key.kind {
            BackingKind::EcP256 | BackingKind::EcP384 | BackingKind::EcSecp256k1 => {
                HsmError::InvalidMaterial { problem: "no point of the curve" }
            }
            _ => HsmError::NotOffered { feature: "key agreement with this key" },
        };
        self.with_private_key(key, otherwise, |private_key| software::agree(key.kind, private_key, peer))
    }

    fn keyed_hash(&mut self, key: &BackingKey, input: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.begin(|calls| &mut calls.keyed_hash)?;
        let hash: fn(&[u8], &[u8]) -> Vec<u8> = match key.kind {
            BackingKind::HmacSha256 => hmac::<Sha256>,
            BackingKind::HmacSha384 => hmac::<Sha384>,
            BackingKind::HmacSha512 => hmac::<Sha512>,
            _ => return Err(HsmError::NotOffered { feature: "an HMAC with this key" }),
        };
        let material = self.shared.unwrap(&key.wrapped)?;
        if Some(material.len()) != secret_bytes(key.kind) {
            return Err(refused("the wrapped key has another size"));
        }
        Ok(hash(&material, input))
    }

    fn import_backing_key(
        &mut self,
        kind: BackingKind,
        material: &SecretBytes,
    ) -> Result<WrappedKey, HsmError> {
        self.begin(|calls| &mut calls.import)?;
        self.require(kind)?;
        if secret_bytes(kind).ok_or(NO_SECRET_KEY)? != material.len() {
            return Err(HsmError::InvalidMaterial { problem: "another length than such a key" });
        }
        self.shared.wrap(material.expose_secret())
    }

    fn import_key_pair(&mut self, kind: BackingKind, private_key: &SecretBytes) -> Result<KeyPair, HsmError> {
        self.begin(|calls| &mut calls.import)?;
        self.require(kind)?;
        if secret_bytes(kind).is_some() {
            return Err(NO_KEY_PAIR);
        }
        let public_key = software::public_key(kind, private_key.expose_secret())
            .ok_or(HsmError::InvalidMaterial { problem: "no PKCS#8 of such a key" })?;
        Ok(KeyPair { wrapped: self.shared.wrap(private_key.expose_secret())?, public_key })
    }

    fn authentication_mac(&mut self, input: &[u8]) -> Result<Mac, HsmError> {
        self.begin(|calls| &mut calls.authentication_mac)?;
        Ok(hmac_sha256(&*self.shared.authentication, input))
    }

    fn root_generations(&mut self) -> Result<Vec<u32>, HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        Ok(self.shared.roots().keys().copied().collect())
    }

    fn create_root_key(&mut self) -> Result<u32, HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        let mut roots = self.shared.roots();
        let generation = roots.last_key_value().map_or(0, |(newest, _)| *newest) + 1;
        roots.insert(generation, random_key());
        Ok(generation)
    }

    fn retire_root_key(&mut self, generation: u32) -> Result<(), HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        let mut roots = self.shared.roots();
        if roots.last_key_value().is_some_and(|(newest, _)| *newest == generation) {
            return Err(HsmError::NotOffered { feature: "retiring the newest root key" });
        }
        roots.remove(&generation);
        Ok(())
    }

    fn self_test(&mut self) -> Result<(), HsmError> {
        self.begin(|calls| &mut calls.administration)
    }
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
    use super::super::{hsm_contract, import_contract, key_pair_contract, keyed_hash_contract, on_session};
    use super::*;

    #[test]
    fn the_fake_keeps_the_contract() {
        hsm_contract(&FakeHsm::new());
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
