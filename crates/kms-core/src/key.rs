//! Customer master keys: identifiers, specifications, states and the record that is stored.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Timestamp,
    error::{Error, Field},
    identity::{AccountId, Caller, ProjectId, Region, ServiceName},
};

/// The longest alias and the longest description, in characters. DEW: key_alias, key_description.
pub const MAX_TEXT_CHARACTERS: usize = 255;
/// What the alias of a default key ends in; no custom key's may. DEW: §5.
pub const DEFAULT_ALIAS_SUFFIX: &str = "/default";
/// The bounds of the waiting time before a deletion, in days. DEW: KMS.1401.
pub const PENDING_DAYS: std::ops::RangeInclusive<u32> = 7..=1096;

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
        let hyphenated = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
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

/// The algorithm that a CMK seals with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeySpec {
    /// AES-256-GCM.
    Aes256,
    /// SM4-GCM.
    Sm4,
}

impl KeySpec {
    /// The name in DEW's API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256 => "AES_256",
            Self::Sm4 => "SM4",
        }
    }
}

/// Where a key stands in its life. DEW: §4; the numbers are DEW's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyState {
    /// 2: may be used.
    Enabled,
    /// 3: refuses all use until it is enabled again.
    Disabled,
    /// 4: will be destroyed at its due time unless that is cancelled.
    PendingDeletion,
    /// 5: has no material yet.
    PendingImport,
}

/// Who seals with a key version, and with what. The numbers stand in ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Scheme {
    /// The HSM derives a wrapping key for each request; the service seals with that.
    DerivedKey = 1,
    /// The HSM seals with the version's own key, which never leaves it. How often it may is limited.
    InHsm = 2,
}

/// What a backing key is in the HSM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackingKind {
    /// 32 bytes that compute HMAC-SHA256.
    Mac,
    /// An AES-256 key that seals with GCM.
    Aes256,
    /// An SM4 key that seals with GCM.
    Sm4,
}

impl BackingKind {
    /// What a key of this algorithm needs for this scheme.
    pub const fn of(spec: KeySpec, scheme: Scheme) -> Self {
        match (scheme, spec) {
            (Scheme::DerivedKey, _) => Self::Mac,
            (Scheme::InHsm, KeySpec::Aes256) => Self::Aes256,
            (Scheme::InHsm, KeySpec::Sm4) => Self::Sm4,
        }
    }
}

/// A key that is wrapped under the token's root key: safe to store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// Which generation of the root key wrapped it.
    pub root_generation: u32,
    /// The wrapped bytes, as `C_WrapKey` gave them.
    pub blob: Vec<u8>,
}

/// One version's key material, named so that a session can load and cache it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingKey {
    /// What ciphertexts are bound to.
    pub material: MaterialId,
    /// The key version, from 1.
    pub version: u32,
    /// What it is in the HSM.
    pub kind: BackingKind,
    /// The material itself, wrapped.
    pub wrapped: WrappedKey,
}

/// A version of a CMK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVersion {
    /// Counted from 1.
    pub number: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Who seals with it.
    pub scheme: Scheme,
    /// How many uses of [`Scheme::InHsm`] were taken from its budget so far; counted before they are made.
    pub reserved_uses: u64,
    /// Its backing key, wrapped.
    pub wrapped: WrappedKey,
}

/// Which kind of key it is, and with that where it is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyScope {
    /// Made by a user; valid in one region.
    Custom {
        /// The project it was made in.
        project: ProjectId,
        /// The only region that it exists in.
        region: Region,
    },
    /// The one default key of an account for a service; valid in all regions.
    Default {
        /// The service that it was made for.
        service: ServiceName,
    },
}

/// A CMK as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key's identifier.
    pub id: KeyId,
    /// What its ciphertexts are bound to.
    pub material: MaterialId,
    /// The account that owns it.
    pub account: AccountId,
    /// Custom or default, and where it is valid.
    pub scope: KeyScope,
    /// Its name; unique in the account and region.
    pub alias: String,
    /// Free text.
    pub description: String,
    /// Its algorithm.
    pub spec: KeySpec,
    /// Where it stands in its life.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
    /// When it will be destroyed, if its deletion is scheduled.
    pub deletion_due: Option<Timestamp>,
    /// All versions in rising order; the last one encrypts.
    pub versions: Vec<KeyVersion>,
}

impl KeyRecord {
    /// Whether `caller` may see that this key exists: its account, and for a custom key its region.
    pub fn visible_to(&self, caller: &Caller) -> bool {
        self.account == caller.account
            && match &self.scope {
                KeyScope::Custom { region, .. } => *region == caller.region,
                KeyScope::Default { .. } => true,
            }
    }

    /// Whether the key exists for `caller` at `now`: it may see it, and its deletion is not due.
    // DEW: §4, from the deletion date on a key is not found.
    pub fn exists_for(&self, caller: &Caller, now: Timestamp) -> bool {
        self.visible_to(caller) && self.deletion_due.is_none_or(|due| due > now)
    }

    /// Whether this is the default key of `service`.
    pub fn is_default_of(&self, service: &ServiceName) -> bool {
        matches!(&self.scope, KeyScope::Default { service: of } if of == service)
    }

    /// Whether this is a default key, which refuses all management. DEW: KMS.0211.
    pub fn is_default(&self) -> bool {
        matches!(self.scope, KeyScope::Default { .. })
    }

    /// The version with this number.
    pub fn version(&self, number: u32) -> Option<&KeyVersion> {
        self.versions.iter().rev().find(|version| version.number == number)
    }

    /// The version that encrypts.
    pub fn current_version(&self) -> Option<&KeyVersion> {
        self.versions.last()
    }

    /// The backing key of `version`, ready for an HSM session.
    pub fn backing_key(&self, version: &KeyVersion) -> BackingKey {
        BackingKey {
            material: self.material,
            version: version.number,
            kind: BackingKind::of(self.spec, version.scheme),
            wrapped: version.wrapped.clone(),
        }
    }
}
