//! What a decision is about.

use crate::{
    context::EncryptionContext,
    identity::{AccountId, Region},
    key::{KeyId, KeyOrigin, KeyRecord, KeySpec, KeyUsage},
    operation::OperationName,
};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    /// The operation.
    pub operation: OperationName,
    /// Whose the key is; the caller's own account, if the operation is on no key.
    pub account: &'a AccountId,
    /// The region of the call.
    pub region: &'a Region,
    /// The key; `None`: the operation is on no key, or on many.
    pub key: Option<KeyFacts>,
    /// The encryption context, if the operation takes one.
    pub context: Option<&'a EncryptionContext>,
    /// The alias that the call names the key by, if it does.
    pub alias: Option<&'a str>,
}

/// What is known of the key.
#[derive(Debug, Clone, Copy)]
pub struct KeyFacts {
    /// Its id; `None`: it is yet to be made, and is no resource that a statement can name.
    pub id: Option<KeyId>,
    /// Its kind.
    pub spec: KeySpec,
    /// What it is for.
    pub usage: KeyUsage,
    /// Where its material comes from.
    pub origin: KeyOrigin,
    /// Whether it is its account's default key for a service.
    pub is_default: bool,
}

impl From<&KeyRecord> for KeyFacts {
    fn from(record: &KeyRecord) -> Self {
        Self {
            id: Some(record.id),
            spec: record.spec,
            usage: record.usage,
            origin: record.origin,
            is_default: record.is_default(),
        }
    }
}
