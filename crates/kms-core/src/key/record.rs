//! A CMK as it is stored, and what is known of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BackingKey, BackingKind, KeyId, KeySpec, KeyUsage, KeyVersion, MaterialId};
use crate::{
    Timestamp,
    identity::{AccountId, Caller, KeystoreId, ProjectId, Region, ServiceName},
};

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
    /// Further names, each unique in the account and region. DEW: the alias API.
    pub aliases: BTreeMap<String, AliasTimes>,
    /// Free text.
    pub description: String,
    /// Pairs of text that it can be found by.
    pub tags: BTreeMap<String, String>,
    /// Its algorithm.
    pub spec: KeySpec,
    /// What it is for.
    pub usage: KeyUsage,
    /// Where its material comes from.
    pub origin: KeyOrigin,
    /// On which token its material lies: a configured keystore, or `None` for the service's own token.
    pub keystore: Option<KeystoreId>,
    /// Where it stands in its life.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
    /// When it will be destroyed, if its deletion is scheduled.
    pub deletion_due: Option<Timestamp>,
    /// All versions in rising order; the last one encrypts.
    pub versions: Vec<KeyVersion>,
    /// How it is rotated by time, if it is.
    pub rotation: Option<RotationPolicy>,
    /// What is known of imported material; also after it was deleted.
    pub import: Option<Import>,
    /// The keys of other regions that share its material.
    pub replication: Option<Replication>,
    /// Set once it is destroyed: what remains of it.
    pub destroyed: Option<Tombstone>,
}

/// When a further alias was made, and when it came to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasTimes {
    /// When it was made.
    pub created: Timestamp,
    /// When it was last moved from one key to another; else when it was made.
    pub updated: Timestamp,
}

/// Where the material of a key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyOrigin {
    /// The HSM made it.
    Kms,
    /// The user imports it.
    External,
}

impl KeyOrigin {
    /// The name in DEW's API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::External => "external",
        }
    }
}

/// How a key is rotated by time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationPolicy {
    /// Days from one rotation to the next: 30 to 365.
    pub interval_days: u32,
    /// When the next one is due.
    pub next: Timestamp,
}

/// What is known of imported material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// A digest of the material, wrapped under a key of the service: the same material is recognised by it.
    pub check: [u8; 32],
    /// When the material will be deleted; `None`: never.
    pub expires: Option<Timestamp>,
}

/// The keys that share one material: one for each region that the key was replicated to, the primary
/// among them. Each of them holds the same list and the same versions, and every change of either is one
/// transaction over all of them. A key that shared once keeps this for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replication {
    /// The one that is managed.
    pub primary: KeyId,
    /// All of them.
    pub members: Vec<Replica>,
}

/// One of the keys that share a material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Its id.
    pub key_id: KeyId,
    /// The region that it is valid in.
    pub region: Region,
}

/// What remains of a destroyed key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// When it was destroyed.
    pub at: Timestamp,
    /// The newest generation of the root key that wrapped any of its material: while one up to it lives, old
    /// pages and backups can still be opened. 0: it never had any; the greatest number: a token of another
    /// deployment or of a keystore has wrapped it, or keys of other regions went on with it.
    pub root_generation: u32,
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
        self.visible_to(caller) && self.exists_at(now)
    }

    /// Whether there is such a key at `now`, for whom it may be.
    pub fn exists_at(&self, now: Timestamp) -> bool {
        !self.is_destroyed() && self.deletion_due.is_none_or(|due| due > now)
    }

    /// Whether it has imported material whose time has come at `now`.
    pub(crate) fn has_expired_at(&self, now: Timestamp) -> bool {
        let expires = self.import.as_ref().and_then(|import| import.expires);
        !self.versions.is_empty() && expires.is_some_and(|expires| expires <= now)
    }

    /// The only region that a custom key is valid in.
    pub fn region(&self) -> Option<&Region> {
        match &self.scope {
            KeyScope::Custom { region, .. } => Some(region),
            KeyScope::Default { .. } => None,
        }
    }

    /// Whether only its tombstone is left.
    pub fn is_destroyed(&self) -> bool {
        self.destroyed.is_some()
    }

    /// Takes its material away. What tells the same material again stays. The state is the caller's business.
    pub(crate) fn drop_material(&mut self) {
        self.versions.clear();
        if let Some(import) = &mut self.import {
            import.expires = None;
        }
    }

    /// Makes a tombstone of it: what names it, whose it was, and what it takes until nothing can open its material any
    /// more. `newest_root` is the generation that wraps new keys now; what was made until `moved_until` came from
    /// another token.
    pub(crate) fn bury(&mut self, at: Timestamp, newest_root: u32, moved_until: Option<Timestamp>) {
        let wrapping = self.versions.iter().map(|version| version.wrapped.root_generation).max();
        // Imported material that was deleted before: some generation up to the newest wrapped it.
        let deleted = self.import.is_some().then_some(newest_root);
        let had_material = wrapping.or(deleted).is_some();
        let moved = had_material && self.times().any(|made| Some(made) <= moved_until);
        // Nobody here rotates the root key of a keystore, or of the token that the key came from: what it wrapped opens
        // as long as its token lives. And material that other keys go on with is not gone.
        let forever = (self.keystore.is_some() || self.has_left() || moved).then_some(u32::MAX);
        let root_generation = wrapping.max(deleted).max(forever).unwrap_or(0);
        self.versions.clear();
        self.aliases.clear();
        self.tags.clear();
        self.description.clear();
        (self.deletion_due, self.rotation, self.import, self.replication) = (None, None, None, None);
        self.destroyed = Some(Tombstone { at, root_generation });
    }

    /// When the key and each of its versions were made; a replica's versions are older than it is.
    pub(crate) fn times(&self) -> impl Iterator<Item = Timestamp> {
        self.versions.iter().map(|version| version.created).chain([self.created])
    }

    /// Whether it is managed at another key, whose material it shares.
    pub fn is_replica(&self) -> bool {
        self.replication.as_ref().is_some_and(|shared| shared.primary != self.id)
    }

    /// The region in which it is one of the keys that share its material.
    pub(crate) fn shares_in(&self) -> Option<&Region> {
        let members = self.replication.iter().flat_map(|shared| &shared.members);
        members.into_iter().find(|member| member.key_id == self.id).map(|member| &member.region)
    }

    /// Whether it shared its material with keys that go on without it.
    fn has_left(&self) -> bool {
        self.replication.is_some() && self.shares_in().is_none()
    }

    /// Whether it has this name, as its first or as a further one.
    pub fn is_named(&self, alias: &str) -> bool {
        self.alias == alias || self.aliases.contains_key(alias)
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
