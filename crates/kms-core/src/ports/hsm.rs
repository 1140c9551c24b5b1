//! The hardware security module, as the domain sees it.

use zeroize::Zeroizing;

use crate::{
    key::{BackingKey, BackingKind, MaterialId, WrappedKey},
    secret::SecretBytes,
};

/// One HMAC-SHA256 output that came out of the HSM; wiped on drop.
pub type Mac = Zeroizing<[u8; 32]>;

/// Why the HSM did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HsmError {
    /// The device, the session or the module cannot be used now.
    #[error("the HSM is unavailable: {function}: {detail}")]
    Unavailable {
        /// The C function that failed, as `C_Sign`.
        function: &'static str,
        /// What the module answered, for the operator.
        detail: String,
    },
    /// More work is queued than the HSM can take.
    #[error("the HSM's queue is full")]
    Busy,
    /// A wrapped key was refused by the token: another root, or altered bytes.
    #[error("a wrapped key was refused by the HSM: {function}: {detail}")]
    WrappedKeyRefused {
        /// The C function that failed, as `C_UnwrapKey`.
        function: &'static str,
        /// What the module answered, for the operator.
        detail: String,
    },
    /// The token holds no root key of the generation that wrapped this key.
    #[error("the token has no root key of generation {generation}")]
    RootMissing {
        /// The generation that was asked for.
        generation: u32,
    },
    /// The HSM's cipher refused sealed bytes: altered, or of another key or context. Their fault, not
    /// the device's.
    #[error("the HSM's cipher refused the sealed bytes")]
    NotAuthentic,
    /// The token has no way to do this.
    #[error("the token does not offer {feature}")]
    NotOffered {
        /// What is missing, as `SM4-GCM`.
        feature: &'static str,
    },
    /// The answer did not come in time; the call may still be under way.
    #[error("the HSM did not answer in time")]
    TimedOut,
}

/// Work for one HSM session: plain synchronous code.
///
/// Gets an error in place of the session when none can be had ([`HsmError::Busy`] or
/// [`HsmError::Unavailable`]). It must not panic and must not wait for anything but the HSM.
pub type HsmJob = Box<dyn FnOnce(Result<&mut dyn HsmSession, HsmError>) + Send>;

/// A pool of HSM sessions, each on a thread of its own.
pub trait Hsm: Send + Sync {
    /// Queues `job` and returns at once. The job runs exactly once: on a worker's thread with its
    /// session, or with an error (then possibly on the calling thread).
    fn submit(&self, job: HsmJob);

    /// Forgets the loaded handles of all versions of `material`, at once.
    fn evict(&self, material: MaterialId);
}

/// One session with the token. All calls block.
pub trait HsmSession {
    /// Fills `out` from the token's random number generator.
    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), HsmError>;

    /// Makes a backing key inside the token, wraps it under the newest root key, proves that the
    /// wrapped form loads again and computes what the original computes, and destroys the extractable
    /// original.
    fn generate_backing_key(&mut self, kind: BackingKind) -> Result<WrappedKey, HsmError>;

    /// The same key wrapped under the newest root key, proved to load as the same key. Inside the
    /// token it exists extractable for as long as this takes.
    fn rewrap_backing_key(&mut self, key: &BackingKey) -> Result<WrappedKey, HsmError>;

    /// Proves that a wrapped key loads and computes. Nothing of what it computes is answered, and no budget of
    /// uses is touched.
    fn prove_backing_key(&mut self, key: &BackingKey) -> Result<(), HsmError>;

    /// HMAC-SHA256 of `input` under a backing key, computed inside the token. Loads the key as a
    /// private, sensitive, non-extractable session object if it is not loaded yet.
    fn mac(&mut self, key: &BackingKey, input: &[u8]) -> Result<Mac, HsmError>;

    /// Seals `plaintext` inside the token with a key of [`BackingKind::Aes256`] or [`BackingKind::Sm4`] in
    /// GCM mode; answers the sealed bytes and the 16-byte tag.
    ///
    /// Uses with random initialisation vectors must stay under 2^32 for each key: the caller counts.
    // NIST SP 800-38D §8.3
    fn seal(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, HsmError>;

    /// Opens what [`seal`](Self::seal) gave; [`HsmError::NotAuthentic`] if anything about it is different.
    fn open(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, HsmError>;

    /// HMAC-SHA256 of `input` under the token's authentication key: the key from which the
    /// service's own keys are derived at start (record authentication, context hiding).
    fn authentication_mac(&mut self, input: &[u8]) -> Result<Mac, HsmError>;

    /// The generations of the root keys that worked when the token was opened or since, rising; the last one wraps
    /// new keys.
    fn root_generations(&mut self) -> Result<Vec<u32>, HsmError>;

    /// Makes the root key of the next generation, tries it out and writes it to stable storage. From
    /// then on it wraps new keys. Answers its generation.
    fn create_root_key(&mut self) -> Result<u32, HsmError>;

    /// Destroys the root key of a generation: what it wrapped never opens again. The newest one is
    /// refused; one that is not there is no error.
    fn retire_root_key(&mut self, generation: u32) -> Result<(), HsmError>;

    /// Proves that the token works: loads a wrapped key of its own, computes with it, wraps one.
    fn self_test(&mut self) -> Result<(), HsmError>;
}
