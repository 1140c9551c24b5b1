//! The HSM behind the [`Hsm`](kms_core::ports::Hsm) port, reached through PKCS#11: a pool of sessions
//! on threads of their own, the root keys, and the backing keys that are loaded.
//!
//! This is the only crate that names `cryptoki`. A job's way: `pool.rs` takes it, `intake.rs` queues it, `worker.rs` runs it,
//! `token.rs` loads its key, `session.rs` makes the calls. What fails is classified in `failure.rs`, judged in
//! `worker.rs`, and healed by `medic.rs`.

mod cache;
mod calls;
mod config;
mod direct;
mod door;
mod evictions;
mod failure;
mod form;
mod intake;
mod inventory;
mod keys;
mod log_key;
mod mechanisms;
mod medic;
mod newcomers;
mod offers;
mod open_error;
mod pairs;
mod parameters;
mod pin;
mod pool;
mod random;
mod sealing;
mod session;
mod signing;
mod software;
mod survey;
mod token;
mod transfer;
mod ward;
mod watch;
mod worker;

pub use calls::CallCount;
pub use config::{DEFAULT_RENEW_AFTER, Pkcs11Config};
pub use inventory::RootKeys;
pub use mechanisms::{CheckpointSignature, CipherForm, VendorSm4};
pub use open_error::OpenError;
pub use pool::{Pkcs11Hsm, Statistics};
pub use survey::{Feature, FeatureState, Survey, survey};
pub use transfer::{MovedKey, PROOF_BYTES, Passage, Transfer, TransferKey, Transport};
