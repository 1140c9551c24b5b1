//! Why the HSM cannot be opened or its root keys cannot be made: one clear line for each reason.

use std::path::PathBuf;

use kms_core::ports::HsmError;

use crate::failure::{Failure, Trouble};

/// Why a token cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The module is missing or is no PKCS#11 module.
    #[error("the PKCS#11 module {} cannot be loaded: {detail}", module.display())]
    ModuleNotLoadable {
        /// Its path.
        module: PathBuf,
        /// What the loader said.
        detail: String,
    },
    /// This process has initialised the module already. PKCS#11 allows that once.
    #[error("the PKCS#11 module is in use in this process already")]
    ModuleInUse,
    /// No token has the label.
    #[error("no token has the label {label:?}; the module offers {found:?}")]
    TokenNotFound {
        /// The label that was asked for.
        label: String,
        /// The labels of the initialised tokens that exist.
        found: Vec<String>,
    },
    /// Several tokens have the label.
    #[error("several tokens have the label {label:?}; give each token a label of its own")]
    TokenAmbiguous {
        /// The label.
        label: String,
    },
    /// The PIN file cannot be read or holds no PIN.
    #[error("the PIN file {} cannot be read: {detail}", path.display())]
    PinFileUnreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// Others than its owner can reach the PIN file.
    #[error("the PIN file {} has mode {mode:04o}: others can reach it; chmod 600 it", path.display())]
    PinFileExposed {
        /// Its path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The token refused the PIN. It was tried once and is never tried again by itself, for tokens
    /// lock after a few wrong PINs.
    #[error("the token {label:?} refused the PIN, tried once: {detail}")]
    PinRefused {
        /// The token's label.
        label: String,
        /// The module's answer, as `CKR_PIN_INCORRECT`.
        detail: String,
    },
    /// The token lacks a key that is made once in its life.
    #[error("the token holds no key {label:?}; root keys are made once, when a deployment begins")]
    RootKeysMissing {
        /// The label of the key that is missing.
        label: String,
    },
    /// Several sound keys have one label.
    #[error("the token holds several keys {label:?}; only one may exist")]
    RootKeyDuplicated {
        /// Their label.
        label: String,
    },
    /// A key of that label exists, but it does not work: its making was interrupted.
    #[error("the token's key {label:?} is only half made: {detail}")]
    RootKeyHalfMade {
        /// Its label.
        label: String,
        /// What failed.
        detail: String,
    },
    /// A key of that label exists, but it may do too much or too little.
    #[error("the token's key {label:?} has wrong attributes: {wrong}")]
    RootKeyAttributes {
        /// Its label.
        label: String,
        /// Which attributes are wrong, as `CKA_ENCRYPT`, separated by commas.
        wrong: String,
    },
    /// Root keys were to be made, and the token has some.
    #[error("the token holds the root key {label:?} already; root keys are never made twice")]
    RootKeysExist {
        /// The label of the newest one.
        label: String,
    },
    /// The token can neither wrap nor unwrap keys in a way that this service knows.
    #[error(
        "the token offers none of CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_KWP and CKM_AES_KEY_WRAP_PAD for wrapping"
    )]
    NoWrapMechanism,
    /// The token lacks a mechanism that nothing works without.
    #[error("the token does not offer {mechanism}, without which Dewpoint cannot work")]
    MechanismMissing {
        /// Its name, as `CKM_SHA256_HMAC`.
        mechanism: &'static str,
    },
    /// The token's keys are not those that the service began with.
    #[error(
        "the token {label:?} holds other keys than before: it was initialised anew or exchanged; restore it"
    )]
    AnotherToken {
        /// Its label.
        label: String,
    },
    /// The configuration asks for no worker or for no room for loaded keys.
    #[error("{0} must be at least 1")]
    ZeroCapacity(&'static str),
    /// The token gives no session to a worker: it may allow fewer than there are workers.
    #[error("the token gives a worker no session ({detail}); it may allow fewer than `workers` and one more")]
    NoSession {
        /// What the module answered.
        detail: String,
    },
    /// A thread cannot be started.
    #[error("an HSM thread cannot be started: {detail}")]
    NoThread {
        /// Why.
        detail: String,
    },
    /// Any other call failed.
    #[error("{function} failed: {detail}")]
    CallFailed {
        /// The C function, as `C_OpenSession`.
        function: &'static str,
        /// What the module answered.
        detail: String,
    },
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        Self::CallFailed { function: failure.function(), detail: failure.detail() }
    }
}

impl From<Trouble> for OpenError {
    fn from(trouble: Trouble) -> Self {
        match HsmError::from(trouble) {
            HsmError::Unavailable { function, detail } => Self::CallFailed { function, detail },
            other => Self::CallFailed { function: "C_Initialize", detail: other.to_string() },
        }
    }
}
