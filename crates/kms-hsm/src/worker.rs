//! One worker: a thread with a session of its own that runs jobs, one after the other.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crossbeam_channel::Receiver;
use kms_core::{
    SecretBytes,
    key::{BackingKey, BackingKind, WrappedKey},
    ports::{HsmError, HsmJob, HsmSession, Mac},
};

use crate::{
    failure::{Damage, Failure},
    random::RandomPool,
    session::TokenSession,
    token::Token,
};

/// A worker's state. The session drops, and so closes, before the token does.
pub(crate) struct Worker {
    /// `None` after the session was lost: the next job opens another one.
    session: Option<TokenSession>,
    random: RandomPool,
    token: Arc<Token>,
}

impl Worker {
    pub(crate) fn new(token: Arc<Token>, session: TokenSession) -> Self {
        Self { session: Some(session), random: RandomPool::new(), token }
    }

    /// Runs jobs until the queue is closed and empty.
    pub(crate) fn run(mut self, jobs: &Receiver<HsmJob>) {
        for job in jobs {
            self.perform(job);
            self.token.sweep();
        }
    }

    fn perform(&mut self, job: HsmJob) {
        let ready = self.ensure_session();
        // A job that panics harms only itself: its waiter learns of it because the job is dropped.
        let run = AssertUnwindSafe(|| match ready {
            Ok(()) => job(Ok(self)),
            Err(error) => job(Err(error)),
        });
        if catch_unwind(run).is_err() {
            tracing::error!("a job panicked on an HSM session");
            self.session = None; // it may be in the middle of an operation
        }
    }

    fn ensure_session(&mut self) -> Result<(), HsmError> {
        if self.session.is_none() {
            self.session = Some(self.token.session()?);
            tracing::info!("an HSM session was opened in place of a lost one");
        }
        Ok(())
    }
}

/// Calls the token, and gives the session up if it was lost.
fn call<T>(
    session: &mut Option<TokenSession>,
    call: impl FnOnce(&TokenSession) -> Result<T, Failure>,
) -> Result<T, Failed> {
    let answer = call(session.as_ref().ok_or_else(Failed::without_session)?);
    answer.map_err(|failure| {
        let damage = failure.damage();
        if damage == Damage::Session {
            *session = None;
        }
        Failed { damage, error: failure.into() }
    })
}

/// A call that failed, for good or until the session or the object is replaced.
struct Failed {
    damage: Damage,
    error: HsmError,
}

impl Failed {
    fn without_session() -> Self {
        let error =
            HsmError::Unavailable { function: "C_OpenSession", detail: "the session was lost".to_owned() };
        Self { damage: Damage::Session, error }
    }
}

fn not_yet(feature: &'static str) -> HsmError {
    HsmError::NotOffered { feature }
}

impl From<Failed> for HsmError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl HsmSession for Worker {
    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
        let Self { session, random, .. } = self;
        Ok(random.fill(out, |bytes| call(session, |session| session.fill_random(bytes)))?)
    }

    fn generate_backing_key(&mut self, kind: BackingKind) -> Result<WrappedKey, HsmError> {
        match kind {
            BackingKind::Mac => self.token.make_wrapped_key(),
            BackingKind::Aes256 | BackingKind::Sm4 => Err(not_yet("keys that seal in the HSM")),
        }
    }

    fn rewrap_backing_key(&mut self, _: &BackingKey) -> Result<WrappedKey, HsmError> {
        Err(not_yet("another wrapping"))
    }

    fn seal(&mut self, _: &BackingKey, _: &[u8; 12], _: &[u8], _: &[u8]) -> Result<Vec<u8>, HsmError> {
        Err(not_yet("sealing"))
    }

    fn open(&mut self, _: &BackingKey, _: &[u8; 12], _: &[u8], _: &[u8]) -> Result<SecretBytes, HsmError> {
        Err(not_yet("opening"))
    }

    fn root_generations(&mut self) -> Result<Vec<u32>, HsmError> {
        Ok(vec![self.token.root_generation()])
    }

    fn create_root_key(&mut self) -> Result<u32, HsmError> {
        Err(not_yet("another root key"))
    }

    fn retire_root_key(&mut self, _: u32) -> Result<(), HsmError> {
        Err(not_yet("the end of a root key"))
    }

    fn self_test(&mut self) -> Result<(), HsmError> {
        self.authentication_mac(b"dewpoint/v1/probe").map(drop)
    }

    fn mac(&mut self, key: &BackingKey, input: &[u8]) -> Result<Mac, HsmError> {
        let loaded = self.token.loaded(key)?;
        call(&mut self.session, |session| session.sign(loaded.handle(), input)).map_err(|failed| {
            if failed.damage == Damage::Object {
                self.token.cache.forget(key, &loaded);
            }
            failed.error
        })
    }

    fn authentication_mac(&mut self, input: &[u8]) -> Result<Mac, HsmError> {
        let key = self.token.authentication();
        Ok(call(&mut self.session, |session| session.sign(key, input))?)
    }
}
