//! For tests: a log whose checkpoints are signed by a key in memory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ed25519_dalek::{Signer as _, SigningKey};
use kms_core::{Timestamp, testing::clock::FakeClock};

use crate::{CheckpointSigner, Notarization, SignatureDone, VerifierKey};

/// The name of the logs of tests.
pub const ORIGIN: &str = "dewpoint.example/log";

/// A key in memory, as long as it works.
#[derive(Debug)]
pub struct SoftwareSigner {
    key: SigningKey,
    works: AtomicBool,
}

impl SoftwareSigner {
    /// A key that works.
    pub fn new(seed: [u8; 32]) -> Arc<Self> {
        Arc::new(Self { key: SigningKey::from_bytes(&seed), works: AtomicBool::new(true) })
    }

    /// From now on it signs, or does not.
    pub fn set_working(&self, works: bool) {
        self.works.store(works, Ordering::Relaxed);
    }

    /// The public half.
    pub fn key(&self) -> VerifierKey {
        VerifierKey::new(ORIGIN, self.key.verifying_key().as_bytes()).expect("a key")
    }

    /// Its signature, whether it works or not.
    pub fn sign_text(&self, text: &str) -> [u8; 64] {
        self.key.sign(text.as_bytes()).to_bytes()
    }

    /// A log's notarization by this key.
    pub fn notarization(self: &Arc<Self>) -> Notarization {
        Notarization {
            origin: ORIGIN.to_owned(),
            public_key: self.key.verifying_key().to_bytes(),
            new_key: false,
            signer: self.clone(),
            clock: Arc::new(FakeClock::at(Timestamp::from_micros(0))),
            published: Box::new(|_| ()),
        }
    }
}

impl CheckpointSigner for SoftwareSigner {
    fn sign(&self, text: String, done: SignatureDone) {
        if self.works.load(Ordering::Relaxed) {
            done(Ok(self.sign_text(&text)));
        } else {
            done(Err("the HSM is away".to_owned()));
        }
    }
}
