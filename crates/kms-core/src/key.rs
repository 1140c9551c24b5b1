//! Customer master keys: identifiers, specifications, states and the record that is stored.

mod material;
mod record;
mod spec;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use material::{BackingKey, BackingKind, KeyVersion, Scheme, WrappedKey};
pub use record::{
    AliasTimes, Import, KeyOrigin, KeyRecord, KeyScope, KeyState, Replica, Replication, RotationPolicy,
    Tombstone,
};
pub use spec::{Cipher, KeyClass, KeySpec, KeyUsage};

use crate::error::{Error, Field};

/// The longest alias and the longest description, in characters. DEW: key_alias, key_description.
pub const MAX_TEXT_CHARACTERS: usize = 255;
/// What the alias of a default key ends in; no custom key's may. DEW: §5.
pub const DEFAULT_ALIAS_SUFFIX: &str = "/default";
/// The bounds of the waiting time before a deletion, in days. DEW: KMS.1401.
pub const PENDING_DAYS: std::ops::RangeInclusive<u32> = 7..=1096;

/// The bounds of the time from one rotation to the next, in days. DEW: KMS.3001.
pub const ROTATION_DAYS: std::ops::RangeInclusive<u32> = 30..=365;

/// How long a key's id is as text.
pub const KEY_ID_CHARACTERS: usize = 36;

/// The identifier of a CMK: a lower-case UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyId(Uuid);

impl KeyId {
    /// Wraps a UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The identifier as 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The identifier as text, in `buffer`.
    pub(crate) fn encode<'a>(&self, buffer: &'a mut [u8; KEY_ID_CHARACTERS]) -> &'a str {
        self.0.as_hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = Error;

    /// DEW: key_id is a hyphenated lower-case UUID of 36 characters; KMS.0205 otherwise.
    fn from_str(text: &str) -> Result<Self, Error> {
        let hyphenated =
            text.len() == KEY_ID_CHARACTERS && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match Uuid::try_parse(text) {
            Ok(uuid) if hyphenated => Ok(Self(uuid)),
            _ => Err(Error::invalid(Field::KeyId, "must be a lower-case UUID of 36 characters")),
        }
    }
}

/// What ciphertexts are bound to: the identifier of the key whose material it is. Replicas of a key
/// share it; for every other key it equals the key's own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MaterialId(KeyId);

impl MaterialId {
    /// The material of the key with this id.
    pub const fn of(key: KeyId) -> Self {
        Self(key)
    }

    /// The id of the key that the material was made for.
    pub const fn key_id(self) -> KeyId {
        self.0
    }

    /// The identifier as 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}
