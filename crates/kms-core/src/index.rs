//! What the store keeps of a key besides its record: names, lists, tags, what falls due.
//!
//! All of it follows from the record, and [`Directory::put_key`] writes both in one transaction: no operation
//! names an entry, so none can forget one. An entry only leads to a record, and the record decides.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::{
    directory::{Directory, alias_path, destroyed_path, index_path, replica_path},
    error::Error,
    identity::{AccountId, Region},
    key::{KeyId, KeyRecord},
    ports::StoreKey,
};

/// How many bytes of a tag's hash lead to it.
const TAG_HASH_BYTES: usize = 16;
/// How many bytes lead to a tag's key and value.
pub(crate) const TAG_PAIR_BYTES: usize = 2 * TAG_HASH_BYTES;

/// All entries of `record`: their store keys, and what lies there, encoded.
pub(crate) fn entries(record: &KeyRecord) -> Result<BTreeMap<StoreKey, Vec<u8>>, Error> {
    let mut entries = BTreeMap::new();
    let nothing = Directory::encode(&())?;
    if record.is_destroyed() {
        entries.insert(destroyed_path(record.id), nothing);
        return Ok(entries);
    }
    entries.extend(record.due().into_iter().map(|entry| (entry.path(), nothing.clone())));
    let Some(region) = record.region() else { return Ok(entries) };
    let account = &record.account;
    let id = Directory::encode(&record.id)?;
    for alias in std::iter::once(&record.alias).chain(record.aliases.keys()) {
        entries.insert(alias_path(account, region, alias), id.clone());
    }
    entries.insert(index_path(account, region, record.id), nothing.clone());
    if let Some(region) = record.shares_in() {
        entries.insert(replica_path(record.material, region), id.clone());
    }
    for (key, value) in &record.tags {
        entries.insert(with_id(&tag_key_prefix(account, region, key), record.id), nothing.clone());
        let pair = Directory::encode(&(key, value))?;
        entries.insert(with_id(&tag_prefix(account, region, key, value), record.id), pair);
    }
    Ok(entries)
}

/// All keys that have a tag of this name are listed under this prefix, in the order of their ids.
pub(crate) fn tag_key_prefix(account: &AccountId, region: &Region, key: &str) -> StoreKey {
    [&tags_of_region(account, region, "k")[..], &tag_hash(key)].concat()
}

/// All keys that have this tag are listed under this prefix, in the order of their ids.
pub(crate) fn tag_prefix(account: &AccountId, region: &Region, key: &str, value: &str) -> StoreKey {
    [&all_tags_prefix(account, region)[..], &tag_hash(key), &tag_hash(value)].concat()
}

/// All tags of an account in a region are listed under this prefix, those of one name side by side.
pub(crate) fn all_tags_prefix(account: &AccountId, region: &Region) -> StoreKey {
    tags_of_region(account, region, "v")
}

fn tags_of_region(account: &AccountId, region: &Region, list: &str) -> StoreKey {
    ["y", account.as_str(), region.as_str(), list, ""].join("/").into_bytes()
}

/// A tag may be longer than a store key.
fn tag_hash(text: &str) -> [u8; TAG_HASH_BYTES] {
    let mut hash = [0; TAG_HASH_BYTES];
    hash.copy_from_slice(&Sha256::digest(text)[..TAG_HASH_BYTES]);
    hash
}

fn with_id(prefix: &[u8], id: KeyId) -> StoreKey {
    [prefix, &id.as_bytes()[..]].concat()
}
