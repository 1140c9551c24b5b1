//! The hardware security module, as the domain sees it.

use zeroize::Zeroizing;

use crate::key::{BackingKey, MaterialId, WrappedKey};

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

    /// Makes a 32-byte backing key inside the token, wraps it under the current root key, proves
    /// that the wrapped form loads again and computes what the original computes, and destroys the
    /// extractable original.
    fn generate_backing_key(&mut self) -> Result<WrappedKey, HsmError>;

    /// HMAC-SHA256 of `input` under a backing key, computed inside the token. Loads the key as a
    /// private, sensitive, non-extractable session object if it is not loaded yet.
    fn mac(&mut self, key: &BackingKey, input: &[u8]) -> Result<Mac, HsmError>;

    /// HMAC-SHA256 of `input` under the token's authentication key: the key from which the
    /// service's own keys are derived at start (record authentication, context hiding).
    fn authentication_mac(&mut self, input: &[u8]) -> Result<Mac, HsmError>;
}
