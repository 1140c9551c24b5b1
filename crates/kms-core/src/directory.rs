//! Key records in the store: where they lie, how they are authenticated, how they are found.
//!
//! | store key | value |
//! |---|---|
//! | `k/` key id (16 bytes) | the key record |
//! | `a/` account `/` region `/` alias | id of the custom key with this alias |
//! | `d/` account `/` service | id of the account's default key for the service |
//! | `i/` account `/` region `/` key id | nothing: the list of custom keys, in the order of creation |
//! | `t/` account `/` region `/` SHA-256 of an idempotency token | the request's digest and its key |
//! | `s/` due time (8 bytes, µs) kind (1 byte) key id | nothing: what falls due, in the order of time (`due.rs`) |
//! | `x/` key id (16 bytes) | nothing: the list of destroyed keys |
//! | `h/` keystore id | the keystore: a token that an account has taken for its keys |
//! | `g/` key id (16 bytes) `/` grant id (hex) | the grant |
//! | `g/` key id | how many grants the key has |
//! | `n/` grant id (hex) | id of the grant's key |
//! | `p/` `u` or `a` `/` user or account `/h/` account | how many grants it holds that were made in this account |
//! | `p/` `u` or `a` `/` user or account `/r/` region `/` key id `/` grant id (hex) | nothing: a grant that it may retire |
//! | `y/` account `/` region `/k/` hash of a tag's key, key id | nothing: the keys with such a tag |
//! | `y/` account `/` region `/v/` hashes of a tag's key and value, key id | the tag |
//! | `r/` material id `/` region | id of the key of the region, of those that share the material |
//! | `o/` request id | the change's digest: the change is committed, its outcome perhaps not recorded |
//! | `m/deployment` | which token this store belongs to |
//! | `m/root` | the root keys: which generation wraps new keys, which ones may still be needed |
//! | `u/` key id (16 bytes) | how often its versions were used; stays when the key is destroyed |
//! | `w/` key id (16 bytes) version (4 bytes) page (4 bytes) | which ciphertexts of the version were moved under a newer one, while the key is not destroyed |
//! | `c/` key id (16 bytes) version (4 bytes) | a campaign that moves what older versions sealed under this one, while the key is not destroyed |
//! | `m/usage` | up to where in the log uses are counted |
//! | `m/moved` | until when keys were made that came from another token; else absent |
//! | `m/origin` | of which backup, of which deployment, this store was made; else absent |
//!
//! Every value ends in an HMAC-SHA256 over its store key and its bytes, under a key that the HSM
//! derives: whoever can write the store but not use the HSM can neither make nor move a value.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::{
    Timestamp,
    decoded::Decoded,
    error::Error,
    grant::Grant,
    identity::{AccountId, Caller, KeystoreId, Region, ServiceName},
    index::entries,
    key::{DEFAULT_ALIAS_SUFFIX, KeyId, KeyRecord, MaterialId},
    keystore::KeystoreRecord,
    ports::{Condition, KeyStore, Mac, Mutation, Revision, StoreError, StoreKey, Versioned},
    record::RequestId,
    root::RootRecord,
    settings::AccountQuotas,
};

/// Leads every stored value: the version of its encoding.
const ENCODING: u8 = 3;
const MAC_BYTES: usize = 32;

/// A value that was read and authenticated, with the revision that a change of it must name.
#[derive(Debug, Clone)]
pub(crate) struct Stored<T> {
    pub(crate) revision: Revision,
    pub(crate) value: T,
}

/// What an idempotency token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenUse {
    pub(crate) request_digest: [u8; 32],
    pub(crate) key_id: KeyId,
}

/// How many grants of a key are read: all that it may have.
const GRANTS_READ: usize = 1024;
const _: () = assert!(AccountQuotas::MOST_GRANTS <= 1024, "all grants of a key are read");

/// Reads and encodes what the store holds.
pub(crate) struct Directory {
    store: Arc<dyn KeyStore>,
    authentication: Hmac<Sha256>,
    /// Records that were authenticated and decoded before, by the revision that they were read at.
    /// Every use still asks the store for the revision that is valid now, so a record from here is
    /// never older than the store's.
    decoded: Mutex<Decoded<KeyRecord>>,
    /// The grants of keys, by the revision of their count: every change of a key's grants changes that.
    granted: Mutex<Decoded<[Grant]>>,
}

impl Directory {
    pub(crate) fn new(store: Arc<dyn KeyStore>, authentication_key: &Mac) -> Result<Self, Error> {
        let authentication = Hmac::new_from_slice(&authentication_key[..])
            .map_err(|_| Error::Internal { detail: "HMAC takes keys of any length" })?;
        Ok(Self { store, authentication, decoded: Mutex::default(), granted: Mutex::default() })
    }

    pub(crate) fn store(&self) -> &dyn KeyStore {
        &*self.store
    }

    /// The key with this id, whoever owns it.
    pub(crate) async fn key(&self, id: KeyId) -> Result<Option<Stored<Arc<KeyRecord>>>, Error> {
        let path = key_path(id);
        let Some(versioned) = self.versioned(&path).await? else { return Ok(None) };
        let revision = versioned.revision;
        if let Some(value) = self.decoded().at(id, revision) {
            return Ok(Some(Stored { revision, value }));
        }
        let record = self.open_key(&path, &versioned.value)?;
        let stored = Stored { revision, value: Arc::new(record) };
        self.decoded().keep(id, stored.clone(), versioned.value.len());
        Ok(Some(stored))
    }

    fn decoded(&self) -> std::sync::MutexGuard<'_, Decoded<KeyRecord>> {
        self.decoded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All grants of a key, as they are now.
    pub(crate) async fn grants_of(&self, key: KeyId) -> Result<Arc<[Grant]>, Error> {
        let Some(count) = self.versioned(&grant_count_path(key)).await? else { return Ok(Arc::new([])) };
        let cached = self.granted().at(key, count.revision);
        if let Some(known) = cached {
            return Ok(known);
        }
        // What is read now is of this revision of the count or a newer one, which the next call will see.
        let entries = self.index(&grants_prefix(key), None, GRANTS_READ).await?;
        let grants = entries.iter().map(|(path, entry)| self.open::<Grant>(path, &entry.value));
        let value: Arc<[Grant]> = grants.collect::<Result<Vec<_>, _>>()?.into();
        let bytes = entries.iter().map(|(_, entry)| entry.value.len()).sum();
        self.granted().keep(key, Stored { revision: count.revision, value: value.clone() }, bytes);
        Ok(value)
    }

    fn granted(&self) -> std::sync::MutexGuard<'_, Decoded<[Grant]>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn versioned(&self, path: &StoreKey) -> Result<Option<Versioned>, Error> {
        let values =
            self.store.get_many(std::slice::from_ref(path)).await.map_err(Error::StoreUnavailable)?;
        Ok(values.into_iter().next().flatten())
    }

    /// The id that `caller`'s alias stands for: a custom key's in its region, or a default key's.
    pub(crate) async fn alias(&self, caller: &Caller, alias: &str) -> Result<Option<KeyId>, Error> {
        let path = match alias.strip_suffix(DEFAULT_ALIAS_SUFFIX).map(ServiceName::parse) {
            Some(Some(service)) => default_path(&caller.account, &service),
            Some(None) => return Ok(None),
            None => alias_path(&caller.account, &caller.region, alias),
        };
        self.read(path).await.map(|found| found.map(|stored: Stored<KeyId>| stored.value))
    }

    /// The id of the account's default key for `service`.
    pub(crate) async fn default_key(
        &self,
        account: &AccountId,
        service: &ServiceName,
    ) -> Result<Option<KeyId>, Error> {
        self.read(default_path(account, service))
            .await
            .map(|found| found.map(|stored: Stored<KeyId>| stored.value))
    }

    /// What the caller's idempotency token was used for.
    pub(crate) async fn token_use(&self, caller: &Caller, token: &str) -> Result<Option<TokenUse>, Error> {
        let found = self.read(token_path(caller, token)).await?;
        Ok(found.map(|stored: Stored<TokenUse>| stored.value))
    }

    /// Whether the change of this request was committed, as far as its trace has not been cleared.
    pub(crate) async fn was_committed(&self, request: RequestId) -> Result<Option<[u8; 32]>, Error> {
        let found: Option<Stored<[u8; 32]>> = self.read(outbox_path(request)).await?;
        Ok(found.map(|stored| stored.value))
    }

    /// A page of an index: at most `limit` entries after `after` (a whole store key).
    pub(crate) async fn index(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(StoreKey, Versioned)>, Error> {
        self.store.range(prefix, after, limit).await.map_err(Error::StoreUnavailable)
    }

    /// The keys with these ids, in their order; one that has gone meanwhile is left out.
    pub(crate) async fn keys(&self, ids: &[KeyId]) -> Result<Vec<KeyRecord>, Error> {
        let paths: Vec<StoreKey> = ids.iter().map(|id| key_path(*id)).collect();
        let values = self.store.get_many(&paths).await.map_err(Error::StoreUnavailable)?;
        let found = paths.iter().zip(values).filter_map(|(path, value)| Some((path, value?)));
        found.map(|(path, versioned)| self.open(path, &versioned.value)).collect()
    }

    /// Whether the key with this id is listed as destroyed.
    pub(crate) async fn is_listed_as_destroyed(&self, id: KeyId) -> Result<bool, Error> {
        self.versioned(&destroyed_path(id)).await.map(|found| found.is_some())
    }

    /// What the store says of the root keys.
    pub(crate) async fn root(&self) -> Result<Stored<RootRecord>, Error> {
        self.read(ROOT_PATH.to_vec()).await?.ok_or_else(|| tampered("the record of the root keys is gone"))
    }

    /// Until when keys and versions were made that came from another token; `None`: none came.
    pub(crate) async fn moved_until(&self) -> Result<Option<Timestamp>, Error> {
        Ok(self.read(MOVED_PATH.to_vec()).await?.map(|stored| stored.value))
    }

    /// The keystore with this id, whoever owns it.
    pub(crate) async fn keystore(&self, id: &KeystoreId) -> Result<Option<Stored<KeystoreRecord>>, Error> {
        self.read(keystore_path(id)).await
    }

    /// All keystores, in the order of their ids: no more than tokens were configured.
    pub(crate) async fn keystores(&self) -> Result<Vec<KeystoreRecord>, Error> {
        let entries = self.index(KEYSTORE_PREFIX, None, MAX_KEYSTORES).await?;
        entries.iter().map(|(path, versioned)| self.open(path, &versioned.value)).collect()
    }

    /// A page of all keys, whoever owns them: each one's store key, and its record if it is authentic.
    pub(crate) async fn all_keys(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(StoreKey, Result<KeyRecord, Error>)>, Error> {
        let entries = self.index(KEY_PREFIX, after, limit).await?;
        let opened = entries.into_iter().map(|(path, versioned)| {
            let record = self.open_key(&path, &versioned.value);
            (path, record)
        });
        Ok(opened.collect())
    }

    /// One key's record, past the decoded ones: a pass over all keys must not drive out those in use.
    pub(crate) async fn key_in_passing(&self, id: KeyId) -> Result<Option<Stored<KeyRecord>>, Error> {
        let path = key_path(id);
        let Some(versioned) = self.versioned(&path).await? else { return Ok(None) };
        let value = self.open_key(&path, &versioned.value)?;
        Ok(Some(Stored { revision: versioned.revision, value }))
    }

    fn open_key(&self, path: &[u8], bytes: &[u8]) -> Result<KeyRecord, Error> {
        let record: KeyRecord = self.open(path, bytes)?;
        if key_path(record.id) == path {
            Ok(record)
        } else {
            Err(tampered("a key record under another key's id"))
        }
    }

    /// Reads and authenticates one value.
    pub(crate) async fn read<T: DeserializeOwned>(&self, path: StoreKey) -> Result<Option<Stored<T>>, Error> {
        let Some(versioned) = self.versioned(&path).await? else { return Ok(None) };
        let value = self.open(&path, &versioned.value)?;
        Ok(Some(Stored { revision: versioned.revision, value }))
    }

    /// A mutation that puts `value`, authenticated.
    pub(crate) fn put<T: Serialize>(&self, path: StoreKey, value: &T) -> Result<Mutation, Error> {
        Ok(self.put_payload(path, &Self::encode(value)?))
    }

    /// A mutation that puts what [`encode`](Self::encode) gave, authenticated.
    pub(crate) fn put_payload(&self, path: StoreKey, payload: &[u8]) -> Mutation {
        let mac = self.mac(&path, payload).finalize().into_bytes();
        Mutation::Put(path, [payload, &mac].concat())
    }

    /// A value as it is stored, without its MAC.
    pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
        postcard::to_extend(value, vec![ENCODING])
            .map_err(|_| Error::Internal { detail: "a record could not be encoded" })
    }

    /// Authenticates and decodes the value of `path`.
    pub(crate) fn open<T: DeserializeOwned>(&self, path: &[u8], bytes: &[u8]) -> Result<T, Error> {
        Self::decode(self.authentic(path, bytes)?)
    }

    /// Authenticates the value of `path`; answers it without its MAC.
    pub(crate) fn authentic<'a>(&self, path: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Error> {
        let (payload, mac) = bytes
            .split_at_checked(bytes.len().wrapping_sub(MAC_BYTES))
            .ok_or_else(|| tampered("a value is shorter than its MAC"))?;
        // Compared in constant time.
        self.mac(path, payload).verify_slice(mac).map_err(|_| tampered(&hex::encode(path)))?;
        Ok(payload)
    }

    /// Puts `after` in the place of `before`: the record, and all entries that follow from it.
    pub(crate) fn put_key(&self, before: Option<&KeyRecord>, after: &KeyRecord) -> Result<PutKey, Error> {
        let put = self.put(key_path(after.id), after)?;
        let (digest, mut mutations, mut conditions) = (digest(&put), vec![put], Vec::new());
        let old = before.map_or_else(|| Ok(BTreeMap::new()), entries)?;
        let new = entries(after)?;
        let gone = old.keys().filter(|path| !new.contains_key(*path));
        mutations.extend(gone.cloned().map(Mutation::Delete));
        for (path, payload) in new.iter().filter(|(path, _)| !old.contains_key(*path)) {
            // A name has one key. All other entries are a key's own.
            if path.starts_with(ALIAS_PREFIX) {
                conditions.push(absent(path.clone()));
            }
            mutations.push(self.put_payload(path.clone(), payload));
        }
        Ok(PutKey { conditions, mutations, digest })
    }

    /// Decodes what [`encode`](Self::encode) gave, and was authenticated since.
    pub(crate) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Error> {
        match payload.split_first() {
            Some((&ENCODING, encoded)) => {
                postcard::from_bytes(encoded).map_err(|_| tampered("an authentic value does not decode"))
            }
            _ => Err(tampered("an authentic value has an unknown encoding: written by a newer version?")),
        }
    }

    /// The MAC of what is no value, under a path that no value has.
    pub(crate) fn seal(&self, path: &[u8], payload: &[u8]) -> [u8; MAC_BYTES] {
        self.mac(path, payload).finalize().into_bytes().into()
    }

    /// Whether `seal` is that MAC.
    pub(crate) fn is_seal(&self, path: &[u8], payload: &[u8], seal: &[u8]) -> bool {
        self.mac(path, payload).verify_slice(seal).is_ok()
    }

    fn mac(&self, path: &[u8], payload: &[u8]) -> Hmac<Sha256> {
        // The path's length goes first, so that a path and a payload cannot trade bytes.
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX); // at most MAX_KEY_BYTES
        self.authentication
            .clone()
            .chain_update(length.to_be_bytes())
            .chain_update(path)
            .chain_update(payload)
    }
}

/// A key record on its way to the store, with all entries that follow from it.
pub(crate) struct PutKey {
    /// That no other key has the names that it takes.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) mutations: Vec<Mutation>,
    /// SHA-256 of the record as it is stored.
    pub(crate) digest: [u8; 32],
}

/// The digest of a key record in the log: SHA-256 of its stored bytes.
pub(crate) fn digest(mutation: &Mutation) -> [u8; 32] {
    match mutation {
        Mutation::Put(_, value) => Sha256::digest(value).into(),
        Mutation::Delete(_) => Sha256::digest([]).into(),
    }
}

/// The commit of a change failed: nothing was changed, unless the store cannot tell.
pub(crate) fn commit_error(error: StoreError) -> Error {
    match error {
        StoreError::Conflict { .. } => Error::Contention,
        StoreError::Unknown { detail } => Error::OutcomeUnknown { detail },
        error => Error::StoreUnavailable(error),
    }
}

pub(crate) fn absent(path: StoreKey) -> Condition {
    Condition::Absent(path)
}

pub(crate) fn key_path(id: KeyId) -> StoreKey {
    [KEY_PREFIX, id.as_bytes()].concat()
}

pub(crate) fn usage_path(id: KeyId) -> StoreKey {
    [b"u/", &id.as_bytes()[..]].concat()
}

/// All lists of moved ciphertexts of a key lie under this prefix.
pub(crate) fn all_moved_prefix(id: KeyId) -> StoreKey {
    [b"w/", &id.as_bytes()[..]].concat()
}

/// Those of one version lie under this prefix.
pub(crate) fn moved_prefix(id: KeyId, version: u32) -> StoreKey {
    [&all_moved_prefix(id)[..], &version.to_be_bytes()].concat()
}

pub(crate) fn moved_path(id: KeyId, version: u32, page: u32) -> StoreKey {
    [&moved_prefix(id, version)[..], &page.to_be_bytes()].concat()
}

/// All campaigns of a key lie under this prefix, in the order of their target versions.
pub(crate) fn campaign_prefix(id: KeyId) -> StoreKey {
    [b"c/", &id.as_bytes()[..]].concat()
}

pub(crate) fn campaign_path(id: KeyId, target: u32) -> StoreKey {
    [&campaign_prefix(id)[..], &target.to_be_bytes()].concat()
}

pub(crate) fn alias_path(account: &AccountId, region: &Region, alias: &str) -> StoreKey {
    path("a", &[account.as_str(), region.as_str(), alias])
}

pub(crate) fn default_path(account: &AccountId, service: &ServiceName) -> StoreKey {
    path("d", &[account.as_str(), service.as_str()])
}

/// All default keys of an account lie under this prefix.
pub(crate) fn default_prefix(account: &AccountId) -> StoreKey {
    path("d", &[account.as_str(), ""])
}

/// All custom keys of an account in a region are listed under this prefix.
pub(crate) fn index_prefix(account: &AccountId, region: &Region) -> StoreKey {
    path("i", &[account.as_str(), region.as_str(), ""])
}

pub(crate) fn index_path(account: &AccountId, region: &Region, id: KeyId) -> StoreKey {
    [&index_prefix(account, region)[..], id.as_bytes()].concat()
}

/// Where a key's grants are counted.
pub(crate) fn grant_count_path(key: KeyId) -> StoreKey {
    [b"g/", &key.as_bytes()[..]].concat()
}

pub(crate) fn replica_path(material: MaterialId, region: &Region) -> StoreKey {
    [&b"r/"[..], material.as_bytes(), b"/", region.as_str().as_bytes()].concat()
}

pub(crate) fn token_path(caller: &Caller, token: &str) -> StoreKey {
    let prefix = path("t", &[caller.account.as_str(), caller.region.as_str(), ""]);
    [&prefix[..], &Sha256::digest(token)].concat()
}

pub(crate) fn keystore_path(id: &KeystoreId) -> StoreKey {
    [KEYSTORE_PREFIX, id.as_str().as_bytes()].concat()
}

pub(crate) fn outbox_path(request: RequestId) -> StoreKey {
    [OUTBOX_PREFIX, request.as_bytes()].concat()
}

pub(crate) fn destroyed_path(id: KeyId) -> StoreKey {
    [DESTROYED_PREFIX, id.as_bytes()].concat()
}

/// All grants of a key lie under this prefix.
pub(crate) fn grants_prefix(id: KeyId) -> StoreKey {
    [b"g/", &id.as_bytes()[..], b"/"].concat()
}

pub(crate) const USAGE_PATH: &[u8] = b"m/usage";
pub(crate) const MOVED_PATH: &[u8] = b"m/moved";
const KEY_PREFIX: &[u8] = b"k/";
const KEYSTORE_PREFIX: &[u8] = b"h/";
/// More tokens are not configured by anyone.
const MAX_KEYSTORES: usize = 1000;
const ALIAS_PREFIX: &[u8] = b"a/";
pub(crate) const DESTROYED_PREFIX: &[u8] = b"x/";
pub(crate) const OUTBOX_PREFIX: &[u8] = b"o/";
pub(crate) const DEPLOYMENT_PATH: &[u8] = b"m/deployment";
pub(crate) const ROOT_PATH: &[u8] = b"m/root";

// Names hold no slash (identity.rs), so the parts of a path cannot run into one another; an alias
// may, and therefore comes last.
fn path(kind: &str, parts: &[&str]) -> StoreKey {
    [&[kind], parts].concat().join("/").into_bytes()
}

pub(crate) fn tampered(detail: &str) -> Error {
    Error::RecordTampered { detail: detail.to_owned() }
}
