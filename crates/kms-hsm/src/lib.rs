//! The HSM behind the [`Hsm`](kms_core::ports::Hsm) port, reached through PKCS#11: a pool of sessions
//! on threads of their own, the root keys, and the backing keys that are loaded.
//!
//! This is the only crate that names `cryptoki`.

mod cache;
mod calls;
mod config;
mod door;
mod failure;
mod inventory;
mod keys;
mod open_error;
mod pin;
mod pool;
mod random;
mod session;
mod token;
mod worker;

pub use calls::CallCount;
pub use config::Pkcs11Config;
pub use inventory::RootKeys;
pub use open_error::OpenError;
pub use pool::{Pkcs11Hsm, Statistics};
