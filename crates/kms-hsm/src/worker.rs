//! One worker: a thread with a seat of its own that runs jobs, one after the other.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crossbeam_channel::Receiver;
use kms_core::{
    SecretBytes,
    key::{BackingKey, BackingKind, WrappedKey},
    ports::{HsmError, HsmJob, HsmSession, KeyPair, LogKey, Mac, SigningMechanism},
};
use parking_lot::MutexGuard;

use crate::{
    direct::Handle,
    failure::{Damage, Failure, Place as FailurePlace, Trouble},
    form::{Form, Task},
    pairs::Pair,
    session::TokenSession,
    signing::{self, SignatureRequest},
    token::at_anchor,
    ward::{Place, Seat, Ward},
};

/// How long a worker without a session rests before it asks for one again.
const REST: Duration = Duration::from_millis(50);

/// A worker: its number is its place.
pub(crate) struct Worker {
    ward: Arc<Ward>,
    number: usize,
}

impl Worker {
    pub(crate) fn new(ward: Arc<Ward>, number: usize) -> Self {
        Self { ward, number }
    }

    /// Runs jobs until the queue is closed and empty; then leaves its seat.
    pub(crate) fn run(self, jobs: &Receiver<HsmJob>) {
        let place = &self.ward.places[self.number];
        let mut sits = true;
        loop {
            if !sits {
                self.leave_work_to_the_seated(place);
            }
            let Ok(job) = jobs.recv() else { break };
            place.mark();
            sits = self.perform(place, job);
            place.mark();
        }
        drop(place.seat.lock().take());
    }

    /// Rests while this worker gets no session and another one has one: it would only fail the jobs that the
    /// other can do.
    fn leave_work_to_the_seated(&self, place: &Place) {
        let seated = || place.seat.lock().is_some();
        while !seated() && self.ward.token().is_some() && self.ward.sit(place).is_err() {
            if !self.ward.another_sits(place) {
                break;
            }
            std::thread::sleep(REST);
        }
    }

    /// The worker's seat, taken if it has none.
    fn seat<'a>(&self, place: &'a Place) -> Result<MutexGuard<'a, Option<Seat>>, HsmError> {
        loop {
            let seat = place.seat.lock();
            if seat.is_some() {
                return Ok(seat);
            }
            drop(seat);
            // The medic may take it away again before it is used: then another token waits.
            self.ward.sit(place)?;
        }
    }

    /// Runs a job; says whether the worker has a seat then.
    fn perform(&self, place: &Place, job: HsmJob) -> bool {
        let mut seat = match self.seat(place) {
            Ok(seat) => seat,
            Err(error) => {
                run(move || job(Err(error)));
                return false;
            }
        };
        let Some(taken) = &mut *seat else { return false }; // it is there, or there was an error
        let mut work = AtWork { ward: &self.ward, seat: taken };
        let harmless = run(|| job(Ok(&mut work))).is_some();
        taken.token.sweep();
        self.ward.renew_if_due(&taken.token);
        if !harmless {
            *seat = None; // it may be in the middle of an operation
        }
        harmless
    }
}

/// Runs a job. One that panics harms only itself: its waiter learns of it because the job is dropped.
fn run(job: impl FnOnce()) -> Option<()> {
    let ended = catch_unwind(AssertUnwindSafe(job));
    if ended.is_err() {
        tracing::error!("a job panicked on an HSM session");
    }
    ended.ok()
}

/// A worker while a job runs: what the job sees of the token.
struct AtWork<'a> {
    ward: &'a Ward,
    seat: &'a mut Seat,
}

impl AtWork<'_> {
    /// Calls the token on this worker's session; once more on another one, if the session was lost.
    fn call<T>(&mut self, mut call: impl FnMut(&TokenSession) -> Result<T, Failure>) -> Result<T, Trouble> {
        match call(&self.seat.session) {
            Err(failure) if failure.damage() == Damage::Session => {
                self.replace_session()?;
                Ok(call(&self.seat.session)?)
            }
            answer => Ok(answer?),
        }
    }

    fn replace_session(&mut self) -> Result<(), Failure> {
        self.seat.session = self.seat.token.session().map_err(|failure| failure.at(FailurePlace::Anchor))?;
        tracing::info!("an HSM session was opened in place of a lost one");
        Ok(())
    }

    /// Uses the loaded form of `key`; once more if its object was lost.
    fn with_loaded<T>(
        &mut self,
        key: &BackingKey,
        mut call: impl FnMut(&TokenSession, Handle) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let loaded = self.seat.token.loaded(key)?;
        match call(&self.seat.session, loaded.handle()) {
            Err(Trouble::Call(failure)) if failure.damage() == Damage::Object => {
                self.seat.token.cache.forget(key, &loaded);
                drop(loaded);
                let again = self.seat.token.loaded(key)?;
                // Freshly loaded and gone again: it is not the object.
                call(&self.seat.session, again.handle()).map_err(at_anchor)
            }
            Err(Trouble::Call(failure)) if failure.damage() == Damage::Session => {
                self.replace_session()?;
                call(&self.seat.session, loaded.handle())
            }
            answer => answer,
        }
    }

    /// Draws the conclusions of an answer for everyone.
    fn conclude<T>(&mut self, answer: Result<T, Trouble>) -> Result<T, HsmError> {
        let trouble = match answer {
            Ok(value) => {
                self.ward.trust();
                return Ok(value);
            }
            Err(trouble) => trouble,
        };
        let Trouble::Call(failure) = trouble else { return Err(trouble.into()) };
        let damage = failure.damage();
        let error = HsmError::from(failure);
        let lost = match damage {
            Damage::Token => true,
            Damage::Doubt => self.ward.doubt() && !self.device_works(),
            Damage::None | Damage::Object | Damage::Session => false,
        };
        if lost {
            self.ward.report(&self.seat.token, &error);
        }
        Err(error)
    }

    /// Whether the device does what it can always do.
    fn device_works(&self) -> bool {
        self.seat.token.authentication_mac(&self.seat.session, b"dewpoint: proof of the device").is_ok()
    }

    /// Opens foreign bytes with a key, and finds out whose fault it is if that fails: a module may call altered
    /// bytes a general error. If the device works with this key but fails with these bytes twice, it is theirs.
    fn opening<T>(
        &mut self,
        key: &BackingKey,
        open: impl Fn(&TokenSession, Handle) -> Result<T, Trouble>,
    ) -> Result<T, HsmError> {
        let may_blame = |opened: &Result<T, Trouble>| matches!(opened, Err(Trouble::Call(failure)) if failure.may_blame_input());
        let mut opened = self.with_loaded(key, &open);
        if may_blame(&opened) && self.key_works(key) {
            opened = self.with_loaded(key, &open);
            if may_blame(&opened) {
                return Err(HsmError::NotAuthentic);
            }
        }
        self.conclude(opened)
    }

    /// Whether the device does with this key what needs nothing from outside.
    fn key_works(&mut self, key: &BackingKey) -> bool {
        let Ok(form) = self.form(key) else { return false };
        let proved = self.with_loaded(key, |session, handle| match form.task {
            Task::Seal(sealing) => sealing.prove(session, handle),
            Task::Pair(Pair::Rsa { modulus_bytes }) => {
                signing::prove_decryption(session, handle, modulus_bytes)
            }
            _ => form.fingerprint(session, handle).map(drop),
        });
        proved.is_ok()
    }

    fn form(&self, key: &BackingKey) -> Result<Form, HsmError> {
        self.seat.token.form(key.kind)
    }
}

impl HsmSession for AtWork<'_> {
    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
        let Seat { session, random, token } = &mut *self.seat;
        let filled = random.fill(out, |bytes| match session.fill_random(bytes) {
            Err(failure) if failure.damage() == Damage::Session => {
                *session = token.session().map_err(|failure| failure.at(FailurePlace::Anchor))?;
                session.fill_random(bytes)
            }
            answer => answer,
        });
        self.conclude(filled.map_err(Trouble::Call))
    }

    fn generate_backing_key(&mut self, kind: BackingKind) -> Result<WrappedKey, HsmError> {
        let made = self.seat.token.make_wrapped_key(kind);
        self.conclude(made)
    }

    fn rewrap_backing_key(&mut self, key: &BackingKey) -> Result<WrappedKey, HsmError> {
        let moved = self.seat.token.rewrap(key);
        self.conclude(moved)
    }

    fn prove_backing_key(&mut self, key: &BackingKey) -> Result<(), HsmError> {
        let proved = self.seat.token.form(key.kind).map_err(Trouble::from).and_then(|form| {
            self.with_loaded(key, |session, handle| form.fingerprint(session, handle).map(drop))
        });
        self.conclude(proved)
    }

    fn mac(&mut self, key: &BackingKey, input: &[u8]) -> Result<Mac, HsmError> {
        if key.kind != BackingKind::Mac {
            return Err(HsmError::NotOffered { feature: "MACs with a key that seals" });
        }
        let mac = self.with_loaded(key, |session, handle| Ok(session.sign(handle, input)?));
        self.conclude(mac)
    }

    fn seal(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        let sealing = self.form(key)?.sealing()?;
        let sealed = self.with_loaded(key, |session, handle| {
            sealing.seal(session, handle, iv, associated_data, plaintext)
        });
        self.conclude(sealed)
    }

    fn open(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, HsmError> {
        let sealing = self.form(key)?.sealing()?;
        let opened =
            self.opening(key, |session, handle| sealing.open(session, handle, iv, associated_data, sealed));
        opened.map(|mut plaintext| SecretBytes::new(std::mem::take(&mut *plaintext)))
    }

    fn offers(&mut self, kind: BackingKind) -> Result<bool, HsmError> {
        let offers = self.seat.token.offers(kind);
        self.conclude(offers)
    }

    fn generate_key_pair(&mut self, kind: BackingKind) -> Result<KeyPair, HsmError> {
        let made = self.seat.token.make_pair(kind);
        self.conclude(made)
    }

    fn generate_data_key_pair(&mut self, kind: BackingKind) -> Result<(SecretBytes, Vec<u8>), HsmError> {
        let made = self.seat.token.make_data_pair(kind);
        self.conclude(made)
    }

    fn sign(
        &mut self,
        key: &BackingKey,
        mechanism: SigningMechanism,
        input: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        let request = SignatureRequest::new(self.form(key)?.pair()?, mechanism, input)?;
        let signature = self.with_loaded(key, |session, handle| request.sign(session, handle));
        self.conclude(signature)
    }

    fn decrypt_rsa(&mut self, key: &BackingKey, ciphertext: &[u8]) -> Result<SecretBytes, HsmError> {
        let Pair::Rsa { modulus_bytes } = self.form(key)?.pair()? else {
            return Err(HsmError::NotOffered { feature: "decryption with this key" });
        };
        if ciphertext.len() != modulus_bytes {
            return Err(HsmError::NotAuthentic);
        }
        let opened = self.opening(key, |session, handle| signing::decrypt(session, handle, ciphertext));
        opened.map(|mut block| SecretBytes::new(std::mem::take(&mut *block)))
    }

    fn agree(&mut self, key: &BackingKey, peer: &[u8]) -> Result<SecretBytes, HsmError> {
        let Pair::Ec(curve) = self.form(key)?.pair()? else {
            return Err(HsmError::NotOffered { feature: "key agreement with this key" });
        };
        signing::check_point(curve, peer)?;
        let token = Arc::clone(&self.seat.token);
        let agreed = self.with_loaded(key, |_, handle| token.agree(curve, handle, peer));
        self.conclude(agreed)
    }

    fn keyed_hash(&mut self, key: &BackingKey, input: &[u8]) -> Result<Vec<u8>, HsmError> {
        let hash = match self.form(key)?.task {
            Task::Hash(hash) if key.kind != BackingKind::Mac => hash,
            _ => return Err(HsmError::NotOffered { feature: "an HMAC with this key" }),
        };
        let mac = self.with_loaded(key, |session, handle| Ok(hash.of(session, handle, input)?));
        self.conclude(mac)
    }

    fn import_backing_key(
        &mut self,
        kind: BackingKind,
        material: &SecretBytes,
    ) -> Result<WrappedKey, HsmError> {
        let brought = self.seat.token.import(kind, material);
        self.conclude(brought)
    }

    fn import_key_pair(&mut self, kind: BackingKind, private_key: &SecretBytes) -> Result<KeyPair, HsmError> {
        let brought = self.seat.token.import_pair(kind, private_key);
        self.conclude(brought)
    }

    fn authentication_mac(&mut self, input: &[u8]) -> Result<Mac, HsmError> {
        let token = Arc::clone(&self.seat.token);
        let mac = self.call(|session| token.authentication_mac(session, input));
        self.conclude(mac)
    }

    fn log_key(&mut self) -> Result<Option<LogKey>, HsmError> {
        Ok(self.seat.token.log_key().cloned())
    }

    fn create_log_key(&mut self) -> Result<LogKey, HsmError> {
        let made = self.seat.token.create_log_key();
        if let Ok(log_key) = &made {
            self.ward.log_key_made(log_key);
        }
        self.conclude(made)
    }

    fn sign_checkpoint(&mut self, text: &[u8]) -> Result<[u8; 64], HsmError> {
        let token = Arc::clone(&self.seat.token);
        let log_key =
            token.log_key.get().ok_or(HsmError::NotOffered { feature: "a log key: none was made yet" })?;
        let signature = self.call(|session| log_key.sign(session, text));
        self.conclude(signature)
    }

    fn root_generations(&mut self) -> Result<Vec<u32>, HsmError> {
        Ok(self.seat.token.root_generations())
    }

    fn create_root_key(&mut self) -> Result<u32, HsmError> {
        let made = self.seat.token.create_root();
        if let Ok(generation) = &made {
            self.ward.root_made(*generation);
        }
        self.conclude(made)
    }

    fn retire_root_key(&mut self, generation: u32) -> Result<(), HsmError> {
        let (newest, _) = self.seat.token.newest_root()?;
        if generation != newest {
            // From here on it may be gone whatever the token answers, and a token without it has lost nothing.
            self.ward.root_destroyed(generation);
        }
        let retired = self.seat.token.retire_root(generation);
        self.conclude(retired)
    }

    /// Whoever fails this twice in a row is lost: it needs nothing that is not the token's own.
    fn self_test(&mut self) -> Result<(), HsmError> {
        let tested = self.seat.token.self_test();
        let Err(Trouble::Call(failure)) = &tested else { return self.conclude(tested) };
        if failure.damage() == Damage::Doubt {
            if let Err(error) = self.seat.token.self_test().map_err(HsmError::from) {
                self.ward.report(&self.seat.token, &error);
                return Err(error);
            }
            return Ok(());
        }
        self.conclude(tested)
    }
}
