//! The four ports of the domain: what it needs from the world, and no more.

mod audit;
mod clock;
mod hsm;
mod store;

use std::{future::Future, pin::Pin};

pub use audit::{Acknowledge, AuditError, AuditLog, Receipt};
pub use clock::Clock;
pub use hsm::{
    Birth, DigestAlgorithm, Hsm, HsmError, HsmJob, HsmSession, KeyPair, LogKey, LogKeyCertificate, Mac,
    SigningMechanism,
};
pub use store::{
    Condition, KeyStore, MAX_KEY_BYTES, MAX_MUTATIONS, MAX_VALUE_BYTES, Mutation, Revision, Snapshot,
    StoreError, StoreKey, Transaction, Versioned,
};

/// A future behind a port: a trait object can give no other.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
