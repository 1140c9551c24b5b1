//! The domain of Dewpoint: keys and their states, the operations on them, the one pipeline that all
//! operations pass, and the four ports through which the domain sees the world.
//!
//! No I/O, no wire types, no runtime: adapters bring those. Begin with [`Service::run`].

pub mod access;
mod admission;
mod answer;
pub mod bucket_key;
pub mod campaign;
pub mod ciphertext;
pub mod context;
pub mod crypto;
mod decoded;
mod directory;
mod draft;
mod due;
pub mod error;
pub mod grant;
pub mod identity;
mod import;
mod index;
pub mod key;
pub mod keystore;
pub mod operation;
pub mod ops;
mod permissions;
pub mod ports;
mod quotas;
pub mod reading;
pub mod record;
pub mod root;
mod secret;
mod service;
mod settings;
pub mod states;
mod timestamp;
mod upkeep;
pub mod usage;
mod uses;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use answer::{Recorded, Refused};
pub use due::DueEntry;
pub use error::Error;
pub use import::CheckKey;
pub use record::{BucketKeyNote, MadeKey, Moved, OVERTAKEN, OpenIntent, Phase, Record, RequestId, Verdict};
pub use secret::SecretBytes;
pub use service::{BegunBackup, Call, Carried, Content, Ports, Service, StartError};
pub use settings::{AccountQuotas, DEFAULT_IN_HSM_BUDGET, MAX_IN_HSM_BUDGET, QuotaTable, Settings};
pub use timestamp::Timestamp;
pub use upkeep::{DuePage, OldKeys};
