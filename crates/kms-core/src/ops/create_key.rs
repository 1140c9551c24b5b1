//! CreateKey: a custom key.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use uuid::Builder;

use crate::{
    Timestamp,
    access::KeyFacts,
    directory::{Directory, PutKey, TokenUse, absent, key_path, keystore_path, token_path},
    draft::Draft,
    error::{Error, Field},
    identity::{Caller, KeystoreId, Region},
    key::{KeyClass, KeyId, KeyOrigin, KeyRecord, KeyScope, KeySpec, KeyState, KeyUsage, MaterialId, Scheme},
    operation::OperationName,
    ops::{Alias, Description, Operation, Plan, Prepared, Tags, version_key::make_version},
    ports::{Birth, Condition, StoreKey, Transaction},
    record::MadeKey,
    service::Scope,
};

/// A caller's name for one creation, so that a retry of it finds the first one's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyToken(String);

impl IdempotencyToken {
    /// Takes 1 to 64 printable ASCII characters.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if (1..=64).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(Field::IdempotencyToken, "must be at most 64 printable ASCII characters"))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What remembers that the request with this digest made this key, and where.
    pub(crate) fn used_for(
        &self,
        caller: &Caller,
        request_digest: [u8; 32],
        key_id: KeyId,
    ) -> (StoreKey, TokenUse) {
        (token_path(caller, &self.0), TokenUse { request_digest, key_id })
    }
}

/// Lets `transaction` happen only if the token was not used yet, and remembers it.
pub(crate) fn remember(
    directory: &Directory,
    (path, used): (StoreKey, TokenUse),
    transaction: &mut Transaction,
) -> Result<(), Error> {
    transaction.conditions.push(absent(path.clone()));
    transaction.mutations.push(directory.put(path, &used)?);
    Ok(())
}

/// Tells requests apart that have the same token.
pub(crate) fn digest_of<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Makes a custom key in the caller's project.
#[derive(Debug, Clone)]
pub struct CreateKey {
    /// Its name.
    pub alias: Alias,
    /// Free text.
    pub description: Description,
    /// Its algorithm.
    pub spec: KeySpec,
    /// What it is for; `None`: the default of its kind.
    pub usage: Option<KeyUsage>,
    /// Where its material comes from. One that is to be imported waits for it.
    pub origin: KeyOrigin,
    /// The token that it lives on.
    pub keystore: Option<KeystoreId>,
    /// Its tags.
    pub tags: Tags,
    /// Makes a retry safe.
    pub idempotency_token: Option<IdempotencyToken>,
    /// The id that it gets, in place of a fresh one. Only seeds say it: no transport does.
    pub fixed_id: Option<KeyId>,
}

impl CreateKey {
    /// A key of this kind with nothing said about it but its name.
    pub fn new(alias: Alias, spec: KeySpec) -> Self {
        Self {
            alias,
            description: Description::default(),
            spec,
            usage: None,
            origin: KeyOrigin::Kms,
            keystore: None,
            tags: Tags::default(),
            idempotency_token: None,
            fixed_id: None,
        }
    }
}

impl Operation for CreateKey {
    const NAME: OperationName = OperationName::CreateKey;
    type Output = KeyRecord;

    fn new_key(&self) -> Option<(KeyFacts, Option<&str>)> {
        let usage = self.usage.unwrap_or(self.spec.default_usage());
        let facts = KeyFacts { id: None, spec: self.spec, usage, origin: self.origin, is_default: false };
        Some((facts, Some(self.alias.as_str())))
    }

    fn birth(&self) -> Option<Birth> {
        if self.origin == KeyOrigin::External {
            return None;
        }
        match self.spec.class() {
            KeyClass::Symmetric | KeyClass::Sm2 => None,
            KeyClass::EllipticCurve | KeyClass::Edwards | KeyClass::Mac => Some(Birth::Quick),
            KeyClass::Rsa => Some(Birth::Slow),
        }
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let kind = self.kind()?;
        if let Some(first) = self.earlier_or_room(scope, draft).await? {
            draft.existed();
            return Ok(Prepared::Answer(first));
        }
        let caller = scope.caller();
        if let Some(id) = self.fixed_id {
            draft.key(id, None);
        }
        let keystore = match &self.keystore {
            Some(id) => Some(scope.keystore(id).await?),
            None => None,
        };
        let root = scope.directory().root().await?;
        let scope_of_key =
            KeyScope::Custom { project: caller.project.clone(), region: caller.region.clone() };
        let (alias, description) = (self.alias.as_str().to_owned(), self.description.as_str().to_owned());
        let mut record = new_record(scope, draft, scope_of_key, alias, description, kind).await?;
        record.tags.clone_from(self.tags.pairs());
        record.keystore.clone_from(&self.keystore);
        let token = self.idempotency_token.as_ref();
        let token = token.map(|token| token.used_for(caller, self.digest(), record.id));
        let (directory, scheme) = (scope.directory().clone(), self.scheme(scope));
        Ok(Prepared::change_by(self.keystore.clone(), move |session| {
            if let Some(keystore) = &keystore {
                keystore.value.check_token(session)?;
            }
            if record.origin == KeyOrigin::Kms {
                let created = record.created;
                make_version(session, &root, &mut record, created, scheme)?;
            }
            let PutKey { conditions, mutations, digest } = directory.put_key(None, &record)?;
            let mut transaction = Transaction { conditions, mutations };
            transaction.conditions.extend([absent(key_path(record.id)), root.unchanged()]);
            if let Some(keystore) = keystore {
                // It must still be enabled: none is let go of under a key that is being made.
                let path = keystore_path(&keystore.value.id);
                transaction.conditions.push(Condition::Revision(path, keystore.revision));
            }
            if let Some(token) = token {
                remember(&directory, token, &mut transaction)?;
            }
            Ok(Plan { transaction, output: record, state_digest: digest, evict: None })
        }))
    }
}

impl Scope<'_> {
    /// The key that an earlier request with the same token made.
    pub(crate) async fn made_earlier(
        &self,
        token: Option<&IdempotencyToken>,
        digest: [u8; 32],
    ) -> Result<Option<KeyId>, Error> {
        let Some(token) = token else { return Ok(None) };
        match self.directory().token_use(self.caller(), &token.0).await? {
            None => Ok(None),
            Some(used) if used.request_digest != digest => Err(Error::IdempotencyTokenReused),
            Some(used) => Ok(Some(used.key_id)),
        }
    }

    /// Keeps a place for one more custom key of the region until the operation has ended; again after a conflict, the same.
    /// `tags` are to be the key's.
    pub(crate) async fn reserve_key(
        &self,
        region: &Region,
        tags: &Tags,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        tags.check_quota(self.quotas().tags_per_key)?;
        if draft.place.is_none() {
            let owner = (self.caller().account.clone(), region.clone());
            let limit = self.service.quotas_of(&owner.0).custom_keys;
            draft.place = Some(self.service.quotas().reserve(self.directory(), owner, limit).await?);
        }
        Ok(())
    }
}

impl CreateKey {
    /// What an earlier request made; without one, a place is kept for the key, if its name and tags may be given.
    async fn earlier_or_room(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Option<KeyRecord>, Error> {
        if let Some(first) = self.earlier_result(scope, draft).await? {
            return Ok(Some(first));
        }
        if let Some((facts, _)) = self.new_key() {
            let region = &scope.caller().region;
            scope.refuse_if_naming_is_denied(facts, region, &self.alias, &self.tags, draft)?;
        }
        if scope.directory().alias(scope.caller(), self.alias.as_str()).await?.is_some() {
            return Err(Error::AliasExists);
        }
        match scope.reserve_key(&scope.caller().region, &self.tags, draft).await {
            Ok(()) => Ok(None),
            // It may have waited for the very request that it repeats, which took the last place.
            Err(refused) => self.earlier_result(scope, draft).await?.map(Some).ok_or(refused),
        }
    }

    /// What an earlier request with the same idempotency token made.
    async fn earlier_result(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Option<KeyRecord>, Error> {
        match scope.made_earlier(self.idempotency_token.as_ref(), self.digest()).await? {
            None => Ok(None),
            Some(made) => {
                // It was admitted as the key that it makes.
                let stored = scope.existing(made).await?;
                draft.key(made, None);
                Ok(Some(KeyRecord::clone(&stored.value)))
            }
        }
    }

    fn kind(&self) -> Result<Kind, Error> {
        let usage = self.usage.unwrap_or(self.spec.default_usage());
        if !self.spec.usages().contains(&usage) {
            return Err(Error::invalid(Field::KeyUsage, "must be a usage that keys of this kind have"));
        }
        // DEW: KMS.0339
        if self.keystore.is_some() && self.origin == KeyOrigin::External {
            return Err(Error::KeystoreUnsupported);
        }
        Ok(Kind { spec: self.spec, usage, origin: self.origin })
    }

    /// Where its versions work. Keys of a keystore are never rotated, so a symmetric one is not bound to a budget
    /// that a rotation would have to renew.
    fn scheme(&self, scope: &Scope<'_>) -> Scheme {
        if self.keystore.is_some() && self.spec.class() == KeyClass::Symmetric {
            return Scheme::DerivedKey;
        }
        scope.service.settings().scheme(self.spec)
    }

    /// Tells requests with the same token apart.
    fn digest(&self) -> [u8; 32] {
        let usage = self.usage.map_or("", KeyUsage::name);
        let keystore = self.keystore.as_ref().map_or("", KeystoreId::as_str);
        let fixed = [
            self.alias.as_str(),
            self.description.as_str(),
            self.spec.name(),
            usage,
            self.origin.name(),
            keystore,
        ];
        let tags = self.tags.pairs().iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
        digest_of(fixed.into_iter().chain(tags))
    }
}

/// What is fixed about a key at its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) spec: KeySpec,
    pub(crate) usage: KeyUsage,
    pub(crate) origin: KeyOrigin,
}

impl Kind {
    /// A key of this kind whose material the HSM makes, for its default usage.
    pub(crate) const fn made(spec: KeySpec) -> Self {
        Self { spec, usage: spec.default_usage(), origin: KeyOrigin::Kms }
    }
}

/// A record without a version yet, under a fresh id that is already in the draft: an intent names
/// the key that it means to make, also when it is tried again after a conflict.
pub(crate) async fn new_record(
    scope: &Scope<'_>,
    draft: &mut Draft,
    scope_of_key: KeyScope,
    alias: String,
    description: String,
    kind: Kind,
) -> Result<KeyRecord, Error> {
    let id = match draft.key_id() {
        Some(id) => id,
        None => fresh_id(scope).await?,
    };
    draft.makes(id, MadeKey { spec: kind.spec, origin: kind.origin });
    Ok(KeyRecord {
        id,
        material: MaterialId::of(id),
        account: scope.caller().account.clone(),
        scope: scope_of_key,
        alias,
        description,
        aliases: BTreeMap::new(),
        tags: BTreeMap::new(),
        spec: kind.spec,
        usage: kind.usage,
        origin: kind.origin,
        keystore: None,
        state: match kind.origin {
            KeyOrigin::Kms => KeyState::Enabled,
            KeyOrigin::External => KeyState::PendingImport,
        },
        created: scope.now,
        deletion_due: None,
        versions: Vec::new(),
        rotation: None,
        import: None,
        replication: None,
        destroyed: None,
    })
}

/// An id of random bytes of the HSM.
pub(crate) async fn fresh_id(scope: &Scope<'_>) -> Result<KeyId, Error> {
    if scope.call.dry_run {
        return Err(Error::DryRun); // nothing is asked of the HSM
    }
    let random = scope.service.on_hsm(scope.call.patience, |session| {
        let mut random = [0; 10];
        session.fill_random(&mut random)?;
        Ok(random)
    });
    Ok(new_id(scope.now, &random.await?))
}

/// A UUID of version 7: its leading bytes are the time, so that keys list in the order of creation.
// RFC 9562 §5.7
pub(crate) fn new_id(now: Timestamp, random: &[u8; 10]) -> KeyId {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0); // a clock before 1970
    KeyId::from_uuid(Builder::from_unix_timestamp_millis(millis, random).into_uuid())
}
