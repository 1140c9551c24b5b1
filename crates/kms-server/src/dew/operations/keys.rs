//! Key life cycle.

use http::Method;
use kms_core::{
    Error,
    error::Field,
    identity::{Caller, KeystoreId},
    key::{KeyOrigin, KeyRecord, KeyScope, KeySpec},
    ops::{
        CancelKeyDeletion, CreateKey, DescribeKey, Description, DisableKey, EnableKey, KeyWindow,
        ListKeysInWindow, PendingDays, ScheduleKeyDeletion, Tags, UpdateKeyAlias, UpdateKeyDescription,
        UsedKey,
    },
};
use serde::{Deserialize, Serialize};

use crate::dew::{
    answer::Json,
    codes::{Code, Unfit},
    forms::{self, Scalar, Window},
    routes::{Asked, Row, keeping, row},
};

/// What `key_spec` of list-keys is when it is not given, and what it is for all kinds. DEW: list-keys.
const LISTED_BY_DEFAULT: &str = "AES_256";
const LISTED_ALL: &str = "ALL";
/// The keystore that is no keystore: the service's own token. DEW: keystore_id.
const OWN_TOKEN: &str = "0";
/// The kind of all keys. DEW: key_type, of which no other is documented.
const KEY_TYPE: &str = "1";

pub(super) fn rows() -> Vec<Row> {
    let post = Method::POST;
    vec![
        row(post.clone(), "/v1.0/{project_id}/kms/create-key", create_key, created),
        row(post.clone(), "/v1.0/{project_id}/kms/enable-key", enable_key, switched),
        row(post.clone(), "/v1.0/{project_id}/kms/disable-key", disable_key, switched),
        row(post.clone(), "/v1.0/{project_id}/kms/schedule-key-deletion", schedule_key_deletion, scheduled),
        row(post.clone(), "/v1.0/{project_id}/kms/cancel-key-deletion", cancel_key_deletion, state),
        keeping(post.clone(), "/v1.0/{project_id}/kms/list-keys", list_keys, listed),
        row(post.clone(), "/v1.0/{project_id}/kms/describe-key", describe_key, described),
        row(post.clone(), "/v1.0/{project_id}/kms/update-key-alias", update_key_alias, renamed),
        row(post, "/v1.0/{project_id}/kms/update-key-description", update_key_description, redescribed),
    ]
}

#[derive(Deserialize)]
struct CreateKeyBody {
    key_alias: Option<Scalar>,
    key_spec: Option<Scalar>,
    key_usage: Option<Scalar>,
    key_description: Option<Scalar>,
    origin: Option<Scalar>,
    enterprise_project_id: Option<Scalar>,
    keystore_id: Option<Scalar>,
    vm_id: Option<Scalar>,
}

/// The body of all calls that name a key and nothing else.
#[derive(Deserialize)]
pub(super) struct KeyBody {
    pub(super) key_id: Option<Scalar>,
}

#[derive(Deserialize)]
struct ScheduleBody {
    key_id: Option<Scalar>,
    pending_days: Option<Scalar>,
}

#[derive(Deserialize)]
struct ListBody {
    limit: Option<Scalar>,
    marker: Option<Scalar>,
    key_state: Option<Scalar>,
    key_spec: Option<Scalar>,
    enterprise_project_id: Option<Scalar>,
}

#[derive(Deserialize)]
struct AliasBody {
    key_id: Option<Scalar>,
    key_alias: Option<Scalar>,
}

#[derive(Deserialize)]
struct DescriptionBody {
    key_id: Option<Scalar>,
    key_description: Option<Scalar>,
}

fn create_key(asked: Asked<CreateKeyBody>) -> Result<CreateKey, Unfit> {
    let body = asked.body;
    forms::own_enterprise_project(body.enterprise_project_id.as_ref())?;
    forms::not_offered(
        body.vm_id.as_ref(),
        "must have no vm_id: keys of this service are bound to no machine",
    )?;
    let spec = body.key_spec.map_or(Ok(KeySpec::Aes256), |spec| forms::spec(spec.as_str()))?;
    Ok(CreateKey {
        description: Description::parse(forms::text(body.key_description.as_ref()))?,
        usage: body.key_usage.map(|usage| forms::usage(usage.as_str())).transpose()?,
        origin: body.origin.map_or(Ok(KeyOrigin::Kms), |origin| forms::origin(origin.as_str()))?,
        keystore: keystore(forms::text(body.keystore_id.as_ref()))?,
        tags: Tags::default(),
        idempotency_token: None,
        fixed_id: None,
        ..CreateKey::new(forms::alias(body.key_alias)?, spec)
    })
}

/// DEW: keystore_id; 1 and 2 are clusters of the real service.
fn keystore(text: &str) -> Result<Option<KeystoreId>, Unfit> {
    match text {
        "" | OWN_TOKEN => Ok(None),
        "1" | "2" => Err(Unfit::new(Code::KEYSTORE_UNSUPPORTED, Field::KeystoreId, "is not offered here")),
        id => Ok(Some(KeystoreId::parse(id).ok_or(Error::KeystoreNotFound)?)),
    }
}

fn enable_key(asked: Asked<KeyBody>) -> Result<EnableKey, Unfit> {
    Ok(EnableKey { key: forms::key_id(asked.body.key_id)? })
}

fn disable_key(asked: Asked<KeyBody>) -> Result<DisableKey, Unfit> {
    Ok(DisableKey { key: forms::key_id(asked.body.key_id)? })
}

fn schedule_key_deletion(asked: Asked<ScheduleBody>) -> Result<ScheduleKeyDeletion, Unfit> {
    let days = forms::required(asked.body.pending_days, Field::PendingDays)?;
    let days = forms::number(days.as_str()).unwrap_or(0); // is out of range
    Ok(ScheduleKeyDeletion { key: forms::key_id(asked.body.key_id)?, pending: PendingDays::parse(days)? })
}

fn cancel_key_deletion(asked: Asked<KeyBody>) -> Result<CancelKeyDeletion, Unfit> {
    Ok(CancelKeyDeletion { key: forms::key_id(asked.body.key_id)? })
}

/// Which part of the list is shown, unless it is one that no key is on.
#[derive(Debug, Clone, Copy)]
struct Listing {
    window: Window,
    is_empty: bool,
}

fn list_keys(asked: Asked<ListBody>) -> Result<(ListKeysInWindow, Listing), Unfit> {
    let body = asked.body;
    let window = forms::window(body.limit.as_ref(), body.marker.as_ref())?;
    let spec = match forms::text(body.key_spec.as_ref()) {
        LISTED_ALL => None,
        "" => Some(forms::spec(LISTED_BY_DEFAULT)?),
        spec => Some(forms::spec(spec)?),
    };
    let (state, has_state) = match forms::text(body.key_state.as_ref()) {
        "" => (None, true),
        state => {
            let state = forms::state_of(state)?;
            (state, state.is_some())
        }
    };
    let has_project = forms::lists_enterprise_project(body.enterprise_project_id.as_ref())?;
    let listing = Listing { window, is_empty: !(has_state && has_project) };
    Ok((ListKeysInWindow { window: window.part()?, state, spec }, listing))
}

fn describe_key(asked: Asked<KeyBody>) -> Result<DescribeKey, Unfit> {
    Ok(DescribeKey { key: forms::key(asked.body.key_id)? })
}

fn update_key_alias(asked: Asked<AliasBody>) -> Result<UpdateKeyAlias, Unfit> {
    Ok(UpdateKeyAlias { key: forms::key_id(asked.body.key_id)?, alias: forms::alias(asked.body.key_alias)? })
}

fn update_key_description(asked: Asked<DescriptionBody>) -> Result<UpdateKeyDescription, Unfit> {
    let description = forms::required(asked.body.key_description, Field::Description)?;
    Ok(UpdateKeyDescription {
        key: forms::key_id(asked.body.key_id)?,
        description: Description::parse(description.as_str())?,
    })
}

/// An answer of one member, `key_info`.
#[derive(Serialize)]
struct KeyInfo<T> {
    key_info: T,
}

#[derive(Serialize)]
struct CreatedKey {
    key_id: String,
    domain_id: String,
    region_id: String,
}

/// A key and its state.
#[derive(Serialize)]
struct StatedKey {
    key_id: String,
    key_state: &'static str,
}

#[derive(Serialize)]
struct RenamedKey {
    key_id: String,
    key_alias: String,
}

#[derive(Serialize)]
struct RedescribedKey {
    key_id: String,
    key_description: String,
}

#[derive(Serialize)]
struct ListedKeys {
    keys: Vec<String>,
    key_details: Vec<KeyDetails>,
    next_marker: String,
    truncated: &'static str,
    total: usize,
}

/// A key as DEW shows it.
// DEW: §2, KeyDetails.
#[derive(Serialize)]
pub(super) struct KeyDetails {
    key_id: String,
    domain_id: String,
    key_alias: String,
    realm: String,
    key_spec: &'static str,
    key_usage: &'static str,
    key_description: String,
    creation_date: String,
    scheduled_deletion_date: String,
    key_state: &'static str,
    default_key_flag: &'static str,
    key_type: &'static str,
    expiration_time: String,
    origin: &'static str,
    key_rotation_enabled: &'static str,
    sys_enterprise_project_id: &'static str,
    keystore_id: String,
}

impl KeyDetails {
    /// Of this key, for a caller: a default key is in the region of who asks.
    pub(super) fn of(key: KeyRecord, caller: &Caller) -> Self {
        let region = realm(&key, caller);
        let (rotates, expires) =
            (key.rotation.is_some(), key.import.as_ref().and_then(|import| import.expires));
        Self {
            key_id: key.id.to_string(),
            domain_id: key.account.to_string(),
            key_alias: key.alias,
            realm: region,
            key_spec: key.spec.name(),
            key_usage: key.usage.name(),
            key_description: key.description,
            creation_date: forms::milliseconds(key.created),
            scheduled_deletion_date: forms::optional_milliseconds(key.deletion_due),
            key_state: forms::state(key.state),
            default_key_flag: forms::flag(matches!(key.scope, KeyScope::Default { .. })),
            key_type: KEY_TYPE,
            expiration_time: forms::optional_milliseconds(expires),
            origin: forms::origin_name(key.origin),
            key_rotation_enabled: forms::truth(rotates),
            sys_enterprise_project_id: forms::ENTERPRISE_PROJECT,
            keystore_id: key.keystore.map_or_else(|| OWN_TOKEN.to_owned(), |keystore| keystore.to_string()),
        }
    }
}

fn realm(key: &KeyRecord, caller: &Caller) -> String {
    key.region().unwrap_or(&caller.region).to_string()
}

fn created(caller: &Caller, key: KeyRecord) -> Json<KeyInfo<CreatedKey>> {
    let region_id = realm(&key, caller);
    let (key_id, domain_id) = (key.id.to_string(), key.account.to_string());
    Json(KeyInfo { key_info: CreatedKey { key_id, domain_id, region_id } })
}

fn stated(key: &KeyRecord) -> StatedKey {
    StatedKey { key_id: key.id.to_string(), key_state: forms::state(key.state) }
}

fn switched(_: &Caller, key: KeyRecord) -> Json<KeyInfo<StatedKey>> {
    Json(KeyInfo { key_info: stated(&key) })
}

fn scheduled(_: &Caller, used: UsedKey) -> Json<StatedKey> {
    Json(stated(&used.record))
}

fn state(_: &Caller, key: KeyRecord) -> Json<StatedKey> {
    Json(stated(&key))
}

fn listed(listing: Listing, caller: &Caller, list: KeyWindow) -> Json<ListedKeys> {
    let Listing { window, is_empty } = listing;
    let list = if is_empty { KeyWindow { keys: Vec::new(), total: 0 } } else { list };
    let (next_marker, truncated, total) = window.end(list.total);
    let keys = list.keys.iter().map(|key| key.id.to_string()).collect();
    let key_details = list.keys.into_iter().map(|key| KeyDetails::of(key, caller)).collect();
    Json(ListedKeys { keys, key_details, next_marker, truncated, total })
}

fn described(caller: &Caller, key: KeyRecord) -> Json<KeyInfo<KeyDetails>> {
    Json(KeyInfo { key_info: KeyDetails::of(key, caller) })
}

fn renamed(_: &Caller, key: KeyRecord) -> Json<KeyInfo<RenamedKey>> {
    Json(KeyInfo { key_info: RenamedKey { key_id: key.id.to_string(), key_alias: key.alias } })
}

fn redescribed(_: &Caller, key: KeyRecord) -> Json<KeyInfo<RedescribedKey>> {
    let (key_id, key_description) = (key.id.to_string(), key.description);
    Json(KeyInfo { key_info: RedescribedKey { key_id, key_description } })
}
