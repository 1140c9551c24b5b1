//! Server-side encryption with keys of the KMS: the rules as pure functions, and the calls for data keys.

mod cache;
mod held;
mod keys;
mod kms;
mod policy;
mod rules;

pub use keys::{KeyError, Keys, NewKey, Requester};
pub use kms::KmsKeys;
pub(crate) use policy::is_like;
pub use policy::{Facts, Policy, PolicyError, Verdict};
pub use rules::{
    Asked, Direction, Method, Permission, Rejection, key_name, method, replica_method, required_permissions,
};
