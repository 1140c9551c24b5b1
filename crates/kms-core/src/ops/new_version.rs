//! How a key gets its next version, whatever the reason: the newest one encrypts, the older ones stay for what
//! they sealed.

use std::sync::Arc;

use crate::{
    Timestamp,
    directory::Directory,
    error::{Counted, Error, Quota},
    key::{BackingKind, KeyClass, KeyOrigin, KeyRecord, KeyVersion, Scheme},
    ops::{
        Prepared,
        manage::{KeyChange, plan},
        siblings::Siblings,
    },
};

/// How many versions a key may have: its record, with the longest texts, must stay below the longest value of
/// the store. Rotated every 30 days, it lasts 21 years.
pub(crate) const MAX_VERSIONS: usize = 256;
/// How many it may have for one more to be made by hand: the rest is left to rotation by time and by budget,
/// which nobody can spare.
pub(crate) const MAX_VERSIONS_BY_HAND: usize = 128;

/// Plans that `record`, and the keys that share its material, get the next version; `output` makes the answer
/// of the record as it is then.
pub(crate) async fn with_next_version<T: Send + 'static>(
    directory: &Arc<Directory>,
    mut record: KeyRecord,
    mut change: KeyChange,
    scheme: Scheme,
    now: Timestamp,
    output: impl FnOnce(KeyRecord) -> T + Send + 'static,
) -> Result<Prepared<T>, Error> {
    record.check_room(MAX_VERSIONS)?;
    let root = directory.root().await?;
    change.conditions.push(root.unchanged());
    let siblings = Siblings::of(directory, &record, &mut change).await?;
    let directory = directory.clone();
    Ok(Prepared::change_by(record.keystore.clone(), move |session| {
        let wrapped = root.accept(session.generate_backing_key(BackingKind::of(record.spec, scheme))?)?;
        siblings.change(&directory, &mut change, |other| other.add_version(now, scheme, wrapped.clone()))?;
        record.add_version(now, scheme, wrapped);
        plan(&directory, change, &record, output(record.clone()))
    }))
}

impl KeyRecord {
    /// Refuses a key that has `limit` versions already.
    pub(crate) fn check_room(&self, limit: usize) -> Result<(), Error> {
        if self.versions.len() < limit {
            return Ok(());
        }
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        Err(Error::QuotaExceeded(Quota {
            what: Counted::VersionsOfKey,
            limit: number(limit),
            used: number(self.versions.len()),
        }))
    }

    /// Refuses keys that no user may have rotated, whatever their state.
    // DEW: §4, enable-key-rotation; KMS.0211, 0312, 0324, 0325, 0338; KMS.0106 for replicas.
    pub(crate) fn check_rotatable(&self) -> Result<(), Error> {
        if self.is_default() {
            return Err(Error::DefaultKeyImmutable);
        }
        let class = self.spec.class();
        if class != KeyClass::Symmetric {
            return Err(Error::KeyKindUnsupported(class));
        }
        if self.origin != KeyOrigin::Kms {
            return Err(Error::ExternalKeyUnsupported);
        }
        if self.keystore.is_some() {
            return Err(Error::KeystoreUnsupported);
        }
        if self.is_replica() { Err(Error::ReplicaReadOnly) } else { Ok(()) }
    }

    /// Adds the version that encrypts from now on.
    pub(crate) fn add_version(
        &mut self,
        created: Timestamp,
        scheme: Scheme,
        wrapped: crate::key::WrappedKey,
    ) {
        let number = self.current_version().map_or(0, |version| version.number) + 1;
        self.versions.push(KeyVersion::new(number, created, scheme, wrapped));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::{
        directory::Directory,
        identity::{AccountId, KeystoreId, ProjectId, Region, ServiceName},
        key::{
            AliasTimes, KeyId, KeyScope, KeySpec, KeyState, KeyUsage, MAX_TEXT_CHARACTERS, MaterialId,
            Replica, Replication, RotationPolicy, WrappedKey,
        },
        ops::replicate_key::MAX_MEMBERS,
        ports::MAX_VALUE_BYTES,
    };

    /// A key with the longest texts that it may have. DEW: 50 aliases, 20 tags of 128 and 255 characters.
    fn longest(versions: usize) -> KeyRecord {
        let id = KeyId::from_uuid(Uuid::from_u128(7));
        let (name, wide) = ("n".repeat(64), |count| "\u{1F511}".repeat(count));
        let now = Timestamp::from_micros(1_795_526_645_000_000);
        let alias = |number: usize| format!("{number:0>MAX_TEXT_CHARACTERS$}");
        let member = Replica { key_id: id, region: Region::parse(&name).expect("a name") };
        let tag = |number: usize| (format!("{number:02}{}", wide(126)), wide(255));
        let mut record = KeyRecord {
            id,
            material: MaterialId::of(id),
            account: AccountId::parse(&name).expect("a name"),
            scope: KeyScope::Custom {
                project: ProjectId::parse(&name).expect("a name"),
                region: Region::parse(&name).expect("a name"),
            },
            alias: alias(0),
            aliases: (1..=50)
                .map(|number| (alias(number), AliasTimes { created: now, updated: now }))
                .collect(),
            description: wide(MAX_TEXT_CHARACTERS),
            tags: (0..20).map(tag).collect::<BTreeMap<_, _>>(),
            spec: KeySpec::Aes256,
            usage: KeyUsage::EncryptDecrypt,
            origin: KeyOrigin::Kms,
            keystore: None,
            state: KeyState::Enabled,
            created: now,
            deletion_due: None,
            versions: Vec::new(),
            rotation: Some(RotationPolicy { interval_days: 365, next: now }),
            import: None,
            replication: Some(Replication { primary: id, members: vec![member; MAX_MEMBERS] }),
            destroyed: None,
        };
        let wrapped = WrappedKey { root_generation: u32::MAX, blob: vec![0xff; 40] };
        for _ in 0..versions {
            record.add_version(now, Scheme::InHsm, wrapped.clone());
            record.versions.last_mut().expect("added").reserved_uses = u64::from(u32::MAX);
        }
        record
    }

    #[test]
    fn a_key_with_all_its_versions_and_the_longest_texts_fits_into_the_store() {
        let encoded = Directory::encode(&longest(MAX_VERSIONS)).expect("encodes").len();
        assert!(encoded + 32 <= MAX_VALUE_BYTES, "{encoded} bytes");
    }

    #[test]
    fn only_symmetric_custom_keys_of_the_hsms_own_making_are_rotated() {
        let refused = |change: fn(&mut KeyRecord)| {
            let mut record = longest(1);
            change(&mut record);
            record.check_rotatable().expect_err("of another kind").code()
        };
        assert_eq!(longest(1).check_rotatable(), Ok(()));
        assert_eq!(refused(|key| key.spec = KeySpec::Rsa2048), "KEY_KIND_UNSUPPORTED");
        assert_eq!(refused(|key| key.spec = KeySpec::HmacSm3), "KEY_KIND_UNSUPPORTED");
        assert_eq!(refused(|key| key.origin = KeyOrigin::External), "EXTERNAL_KEY_UNSUPPORTED");
        assert_eq!(refused(|key| key.keystore = KeystoreId::parse("vault")), "KEYSTORE_UNSUPPORTED");
        let replica = |key: &mut KeyRecord| {
            let primary = KeyId::from_uuid(Uuid::from_u128(8));
            key.replication = Some(Replication { primary, members: Vec::new() });
        };
        assert_eq!(refused(replica), "REPLICA_READ_ONLY");
        let service = |key: &mut KeyRecord| {
            let service = ServiceName::parse("obs").expect("a name");
            key.scope = KeyScope::Default { service };
        };
        assert_eq!(refused(service), "DEFAULT_KEY_IMMUTABLE");
    }

    #[test]
    fn the_bound_refuses_before_the_store_would() {
        assert_eq!(longest(MAX_VERSIONS - 1).check_room(MAX_VERSIONS), Ok(()));
        let full = longest(MAX_VERSIONS).check_room(MAX_VERSIONS).expect_err("full");
        assert_eq!(full.code(), "QUOTA_EXCEEDED");
        assert_eq!(full.to_string(), "versions of the key quota of 256 is used up: 256 in use");
    }
}
