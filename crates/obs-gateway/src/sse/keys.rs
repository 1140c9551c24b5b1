//! Data keys for objects: what the gateway needs of a key service, and how that can fail.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use kms_client::bucket_keys::ObjectName;

use super::{Method, Rejection};
use crate::{format::ObjectKey, store::Encryption};

/// For whom a data key is made or opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requester {
    /// The user.
    pub user_id: String,
    /// Its account.
    pub account: String,
    /// The account's project in the gateway's region.
    pub project_id: String,
    /// Stands for what it may do; no secret. Whoever may do something else is another requester.
    pub permissions: String,
}

/// A data key that was made.
#[derive(Debug)]
pub struct NewKey {
    /// The data key.
    pub key: ObjectKey,
    /// What the object's record keeps of it; its tag is still missing.
    pub encryption: Encryption,
}

/// Why no data key was made or opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// A rule of SSE-KMS forbids it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The requester may not use the key.
    #[error("the permission {0} on the key is missing")]
    Denied(String),
    /// What the requester may not do with any key.
    #[error("the permission {0} is missing")]
    DeniedForAll(String),
    /// The KMS does not let the gateway act for the requester.
    #[error("the key service does not serve this user")]
    NotServed,
    /// No such key for this requester.
    #[error("the key does not exist")]
    NotFound,
    /// The key is disabled.
    #[error("the key is disabled")]
    Disabled,
    /// The key waits for its deletion or for its material.
    #[error("the state of the key does not allow its use")]
    State,
    /// The data key is not one that this key sealed in this context.
    #[error("the data key cannot be opened")]
    NotAuthentic,
    /// The traffic limits of the KMS are reached.
    #[error("too many requests for keys")]
    Throttled,
    /// The KMS does not answer, or cannot serve now.
    #[error("the key service is not available: {0}")]
    Unavailable(String),
}

/// Makes and opens data keys for requesters, whose permissions it checks.
#[async_trait]
pub trait Keys: Send + Sync + fmt::Debug {
    /// Makes a data key for an object, whose place it is bound to, and to what the requester adds to the encryption
    /// context. Under a bucket key, nothing can be added. `bucket_owner`: the account whose bucket it is.
    async fn seal(
        &self,
        requester: &Requester,
        method: &Method,
        bucket_owner: &str,
        object: ObjectName<'_>,
        added: BTreeMap<String, String>,
    ) -> Result<NewKey, KeyError>;

    /// Opens the data key of the object in this place.
    async fn open(
        &self,
        requester: &Requester,
        encryption: &Encryption,
        object: ObjectName<'_>,
    ) -> Result<ObjectKey, KeyError>;
}
