//! Conversions between the contract's messages and the domain's types; each way once.
#![allow(clippy::needless_pass_by_value, reason = "every request is converted by a function of one form")]

pub(crate) mod audit;
pub(crate) mod campaign;
pub(crate) mod metering;
pub(crate) mod replication;
pub(crate) mod rotation;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kms_core::{
    Error, SecretBytes, Timestamp,
    context::EncryptionContext,
    error::Field,
    identity::KeystoreId,
    key::{
        KeyId, KeyOrigin, KeyRecord, KeyScope, KeySpec, KeyState, KeyUsage, KeyVersion, Replica, Replication,
        Scheme,
    },
    operation::OperationName,
    ops::{
        Alias, CancelKeyDeletion, CreateKey, DataKeyLength, DecryptDataKey, DescribeKey, Description,
        DestroyedKey, DestroyedKeyPage, DisableKey, EnableKey, EncryptDataKey, ExplainedAccess,
        GenerateDataKey, GenerateDataKeyWithoutPlaintext, GenerateRandom, IdempotencyToken, KeySelector,
        ListDestroyedKeys, ListKeys, PageSize, PageToken, PendingDays, RotateRoot, ScheduleKeyDeletion, Tags,
        UpdateKeyAlias, UpdateKeyDescription,
    },
    root::RootRecord,
};
use kms_proto::v1;

use crate::{
    backup::copy::{Counts, Part},
    rotation::Rotation,
};

mod data;

pub(crate) use data::{
    data_keys, decrypt_data, encrypt_data, generate_data_key_pair, generate_data_keys, re_encrypt,
};

pub(crate) fn create_key(request: v1::CreateKeyRequest) -> Result<CreateKey, Error> {
    Ok(CreateKey {
        alias: Alias::parse(&request.alias)?,
        description: Description::parse(&request.description)?,
        spec: spec(request.key_spec)?.unwrap_or(KeySpec::Aes256),
        usage: usage(request.key_usage)?,
        origin: match v1::KeyOrigin::try_from(request.origin) {
            Ok(v1::KeyOrigin::Unspecified | v1::KeyOrigin::Kms) => KeyOrigin::Kms,
            Ok(v1::KeyOrigin::External) => KeyOrigin::External,
            Err(_) => return Err(Error::invalid(Field::Origin, "must be an origin of the contract")),
        },
        keystore: keystore(&request.keystore_id)?,
        tags: Tags::parse(request.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())))?,
        idempotency_token: idempotency_token(&request.idempotency_token)?,
        fixed_id: None,
    })
}

/// What makes a retry safe; empty: nothing.
pub(crate) fn idempotency_token(text: &str) -> Result<Option<IdempotencyToken>, Error> {
    if text.is_empty() { Ok(None) } else { IdempotencyToken::parse(text).map(Some) }
}

pub(crate) fn describe_key(request: v1::DescribeKeyRequest) -> Result<DescribeKey, Error> {
    Ok(DescribeKey { key: required_key(request.key)? })
}

pub(crate) fn list_keys(request: v1::ListKeysRequest) -> Result<ListKeys, Error> {
    Ok(ListKeys {
        size: PageSize::parse(request.page_size)?,
        token: PageToken::parse(&request.page_token)?,
        state: state(request.state)?,
        spec: spec(request.key_spec)?,
    })
}

pub(crate) fn enable_key(request: v1::EnableKeyRequest) -> Result<EnableKey, Error> {
    Ok(EnableKey { key: KeySelector::parse(&request.key_id)? })
}

pub(crate) fn disable_key(request: v1::DisableKeyRequest) -> Result<DisableKey, Error> {
    Ok(DisableKey { key: KeySelector::parse(&request.key_id)? })
}

pub(crate) fn schedule_key_deletion(
    request: v1::ScheduleKeyDeletionRequest,
) -> Result<ScheduleKeyDeletion, Error> {
    Ok(ScheduleKeyDeletion {
        key: KeySelector::parse(&request.key_id)?,
        pending: PendingDays::parse(request.pending_days)?,
    })
}

pub(crate) fn cancel_key_deletion(request: v1::CancelKeyDeletionRequest) -> Result<CancelKeyDeletion, Error> {
    Ok(CancelKeyDeletion { key: KeySelector::parse(&request.key_id)? })
}

pub(crate) fn update_key_alias(request: v1::UpdateKeyAliasRequest) -> Result<UpdateKeyAlias, Error> {
    Ok(UpdateKeyAlias { key: KeySelector::parse(&request.key_id)?, alias: Alias::parse(&request.alias)? })
}

pub(crate) fn update_key_description(
    request: v1::UpdateKeyDescriptionRequest,
) -> Result<UpdateKeyDescription, Error> {
    let description = Description::parse(&request.description)?;
    Ok(UpdateKeyDescription { key: KeySelector::parse(&request.key_id)?, description })
}

pub(crate) fn generate_data_key(request: v1::GenerateDataKeyRequest) -> Result<GenerateDataKey, Error> {
    let context = either(request.encryption_context, &request.additional_authenticated_data);
    generate(request.key, request.length, context)
}

pub(crate) fn generate_data_key_without_plaintext(
    request: v1::GenerateDataKeyWithoutPlaintextRequest,
) -> Result<GenerateDataKeyWithoutPlaintext, Error> {
    let context = either(request.encryption_context, &request.additional_authenticated_data);
    generate(request.key, request.length, context).map(GenerateDataKeyWithoutPlaintext)
}

pub(crate) fn encrypt_data_key(request: v1::EncryptDataKeyRequest) -> Result<EncryptDataKey, Error> {
    let plaintext = secret(request.plaintext);
    let context = either(request.encryption_context, &request.additional_authenticated_data)?;
    EncryptDataKey::new(required_key(request.key)?, plaintext, context)
}

pub(crate) fn decrypt_data_key(request: v1::DecryptDataKeyRequest) -> Result<DecryptDataKey, Error> {
    let context = either(request.encryption_context, &request.additional_authenticated_data)?;
    DecryptDataKey::new(&request.ciphertext_blob, optional_key(request.key)?, context)
}

pub(crate) fn generate_random(request: v1::GenerateRandomRequest) -> Result<GenerateRandom, Error> {
    GenerateRandom::new(usize::try_from(request.length).unwrap_or(usize::MAX))
}

pub(crate) fn rotate_root(request: v1::RotateRootRequest) -> RotateRoot {
    RotateRoot { keep_old_root: request.keep_old_root }
}

/// The root keys as they are shown, with how far their rotation has come.
pub(crate) fn root(root: RootRecord, rotation: &Rotation) -> v1::Root {
    let progress = rotation.progress_to(root.generation);
    let stage = if root.all_moved() {
        v1::RotationStage::DestroyingOldRoot
    } else if progress.all_moved && root.rotation.as_ref().is_some_and(|rotation| rotation.keep_old_root) {
        v1::RotationStage::KeepingOldRoot
    } else {
        v1::RotationStage::MovingKeys
    };
    let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
    v1::Root {
        generation: root.generation,
        oldest_generation: root.oldest,
        rotation: root.rotation.map(|rotation| v1::Rotation {
            started_at: Some(time(rotation.started)),
            started_by: rotation.started_by.to_string(),
            keep_old_root: rotation.keep_old_root,
            stage: stage.into(),
            keys_moved: number(progress.moved),
            keys_left: number(progress.left),
            keys_blocked: number(progress.blocked),
            problem: progress.problem.unwrap_or_default(),
        }),
    }
}

pub(crate) fn list_destroyed_keys(request: v1::ListDestroyedKeysRequest) -> Result<ListDestroyedKeys, Error> {
    let after = after_key(&request.page_token)?;
    Ok(ListDestroyedKeys { size: PageSize::parse(request.page_size)?, after })
}

/// Reads a page token that is the id of the last key of the page before.
fn after_key(token: &str) -> Result<Option<KeyId>, Error> {
    let after = Some(token).filter(|token| !token.is_empty());
    after.map(str::parse).transpose().map_err(|_| {
        Error::invalid(Field::PageToken, "must be empty or the next_page_token of a page before")
    })
}

pub(crate) fn destroyed_keys(page: DestroyedKeyPage) -> v1::ListDestroyedKeysResponse {
    let keys = page.keys.into_iter().filter_map(|DestroyedKey { record, is_final }| {
        let tombstone = record.destroyed?;
        Some(v1::DestroyedKey {
            key_id: record.id.to_string(),
            domain_id: record.account.to_string(),
            alias: record.alias,
            destroyed_at: Some(time(tombstone.at)),
            root_generation: tombstone.root_generation,
            r#final: is_final,
        })
    });
    let next_page_token = page.next.map_or_else(String::new, |id| id.to_string());
    v1::ListDestroyedKeysResponse { keys: keys.collect(), next_page_token }
}

/// A key as it is shown; `budget` is how often a version may seal in the HSM.
pub(crate) fn key(record: KeyRecord, budget: u64) -> v1::Key {
    let protection = record.current_version().map(|version| {
        // Only what seals has a budget.
        let budget = if record.spec.cipher().is_some() { budget } else { 0 };
        protection(version, budget)
    });
    let current_version = record.current_version().map_or(0, |version| version.number);
    let (primary_key_id, replicas) = record.replication.map(shared).unwrap_or_default();
    let (region, project_id, default_for_service) = match record.scope {
        KeyScope::Custom { project, region } => (region.to_string(), project.to_string(), String::new()),
        KeyScope::Default { service } => (String::new(), String::new(), service.to_string()),
    };
    v1::Key {
        key_id: record.id.to_string(),
        domain_id: record.account.to_string(),
        region,
        project_id,
        alias: record.alias,
        description: record.description,
        key_spec: spec_of(record.spec).into(),
        key_usage: usage_of(record.usage).into(),
        origin: match record.origin {
            KeyOrigin::Kms => v1::KeyOrigin::Kms,
            KeyOrigin::External => v1::KeyOrigin::External,
        }
        .into(),
        aliases: record.aliases.into_keys().collect(),
        tags: record.tags.into_iter().collect(),
        keystore_id: record.keystore.map_or_else(String::new, |keystore| keystore.to_string()),
        rotation_enabled: record.rotation.is_some(),
        material_expires_at: record.import.and_then(|import| import.expires).map(time),
        primary_key_id,
        replicas,
        state: state_of(record.state).into(),
        default_for_service,
        current_version,
        created_at: Some(time(record.created)),
        deletion_due_at: record.deletion_due.map(time),
        protection,
    }
}

/// Who may do what with a key; `only_some`: without those who may nothing.
pub(crate) fn explained(explained: ExplainedAccess, only_some: bool) -> v1::ExplainAccessResponse {
    let reasons = |reasons: BTreeMap<String, Vec<OperationName>>| {
        let reason = |(by, operations): (String, Vec<OperationName>)| v1::AccessReason {
            by,
            operations: operations.iter().map(|operation| operation.info().name.to_owned()).collect(),
        };
        reasons.into_iter().map(reason).collect()
    };
    let users = explained.users.into_iter().map(|user| v1::UserAccess {
        domain_id: user.account.to_string(),
        user_id: user.user.to_string(),
        allowed: reasons(user.allowed),
        denied: reasons(user.denied),
    });
    let tells = |user: &v1::UserAccess| !(only_some && user.allowed.is_empty() && user.denied.is_empty());
    v1::ExplainAccessResponse {
        domain_id: explained.key.account.to_string(),
        region: explained.key.region().map_or_else(String::new, ToString::to_string),
        users: users.filter(tells).collect(),
    }
}

/// The primary of the keys that share a material, and all of them.
fn shared(replication: Replication) -> (String, Vec<v1::KeyReplica>) {
    let replica = |Replica { key_id, region }| v1::KeyReplica {
        key_id: key_id.to_string(),
        region: region.to_string(),
    };
    (replication.primary.to_string(), replication.members.into_iter().map(replica).collect())
}

fn protection(version: &KeyVersion, budget: u64) -> v1::KeyProtection {
    let (cipher, budget, reserved_uses) = match version.scheme {
        Scheme::DerivedKey => (v1::CipherPlace::Service, 0, 0),
        Scheme::InHsm => (v1::CipherPlace::Hsm, budget, version.reserved_uses),
        Scheme::Opened => (v1::CipherPlace::ServiceOpened, 0, 0),
    };
    let root_generation = version.wrapped.root_generation;
    v1::KeyProtection { root_generation, cipher: cipher.into(), budget, reserved_uses }
}

/// Secret bytes as a response's field: the buffer is handed over, not copied, and wipes itself when
/// the last reader has dropped it.
pub(crate) fn secret_field(secret: SecretBytes) -> Bytes {
    struct Owner(SecretBytes);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.expose_secret()
        }
    }
    Bytes::from_owner(Owner(secret))
}

pub(crate) fn generate(
    key: Option<v1::KeyReference>,
    length: u32,
    encryption_context: Result<EncryptionContext, Error>,
) -> Result<GenerateDataKey, Error> {
    let length = match usize::try_from(length) {
        Ok(0) => None,
        Ok(bytes) => Some(DataKeyLength::parse(bytes)?),
        Err(_) => Some(DataKeyLength::parse(usize::MAX)?),
    };
    Ok(GenerateDataKey { key: required_key(key)?, length, encryption_context: encryption_context? })
}

pub(crate) fn backup_part(Part { bytes, counts, digest }: Part) -> v1::BackUpResponse {
    let Counts { values, keys, key_versions, tombstones, grants, unreadable } = counts;
    v1::BackUpResponse {
        data: bytes.into(),
        contents: Some(v1::BackupContents { values, keys, key_versions, tombstones, grants, unreadable }),
        digest: digest.map(|digest| digest.to_vec().into()).unwrap_or_default(),
    }
}

pub(crate) fn required_key(reference: Option<v1::KeyReference>) -> Result<KeySelector, Error> {
    use v1::key_reference::Reference;
    match reference.and_then(|key| key.reference) {
        Some(Reference::KeyId(id)) => id.parse::<KeyId>().map(KeySelector::Id),
        Some(Reference::Alias(alias)) => KeySelector::alias(&alias),
        Some(Reference::Service(service)) => KeySelector::service(&service),
        None => Err(Error::invalid(Field::Key, "must name a key: by key_id, alias or service")),
    }
}

pub(crate) fn optional_key(reference: Option<v1::KeyReference>) -> Result<Option<KeySelector>, Error> {
    reference.map(|key| required_key(Some(key))).transpose()
}

pub(crate) fn either(pairs: HashMap<String, String>, data: &[u8]) -> Result<EncryptionContext, Error> {
    EncryptionContext::of_either(BTreeMap::from_iter(pairs), data)
}

/// Takes a secret out of a request; its buffer is wiped where nobody shares it.
pub(crate) fn secret(field: Bytes) -> SecretBytes {
    let secret = SecretBytes::new(field.to_vec());
    if let Ok(mut buffer) = field.try_into_mut() {
        zeroize::Zeroize::zeroize(&mut buffer[..]);
    }
    secret
}

/// The kinds of keys, as the contract numbers them.
const SPECS: [(KeySpec, v1::KeySpec); 14] = [
    (KeySpec::Aes256, v1::KeySpec::Aes256),
    (KeySpec::Sm4, v1::KeySpec::Sm4),
    (KeySpec::Rsa2048, v1::KeySpec::Rsa2048),
    (KeySpec::Rsa3072, v1::KeySpec::Rsa3072),
    (KeySpec::Rsa4096, v1::KeySpec::Rsa4096),
    (KeySpec::EcP256, v1::KeySpec::EcP256),
    (KeySpec::EcP384, v1::KeySpec::EcP384),
    (KeySpec::Secp256k1, v1::KeySpec::Secp256k1),
    (KeySpec::Sm2, v1::KeySpec::Sm2),
    (KeySpec::Ed25519, v1::KeySpec::Ed25519),
    (KeySpec::Hmac256, v1::KeySpec::Hmac256),
    (KeySpec::Hmac384, v1::KeySpec::Hmac384),
    (KeySpec::Hmac512, v1::KeySpec::Hmac512),
    (KeySpec::HmacSm3, v1::KeySpec::HmacSm3),
];
/// The usages of keys, as the contract numbers them.
const USAGES: [(KeyUsage, v1::KeyUsage); 4] = [
    (KeyUsage::EncryptDecrypt, v1::KeyUsage::EncryptDecrypt),
    (KeyUsage::SignVerify, v1::KeyUsage::SignVerify),
    (KeyUsage::GenerateVerifyMac, v1::KeyUsage::GenerateVerifyMac),
    (KeyUsage::KeyAgreement, v1::KeyUsage::KeyAgreement),
];

/// `None`: the service's own token.
pub(crate) fn keystore(text: &str) -> Result<Option<KeystoreId>, Error> {
    let malformed = Error::invalid(Field::KeystoreId, "must be empty or the id of a keystore");
    if text.is_empty() { Ok(None) } else { KeystoreId::parse(text).map(Some).ok_or(malformed) }
}

/// `None`: unspecified.
pub(crate) fn spec(number: i32) -> Result<Option<KeySpec>, Error> {
    let unknown = Error::invalid(Field::KeySpec, "must be a kind of key of the contract");
    from_contract(number, &SPECS, unknown)
}

/// `None`: unspecified.
pub(crate) fn usage(number: i32) -> Result<Option<KeyUsage>, Error> {
    let unknown = Error::invalid(Field::KeyUsage, "must be a usage of the contract");
    from_contract(number, &USAGES, unknown)
}

fn from_contract<D: Copy, W: Copy + Into<i32>>(
    number: i32,
    table: &[(D, W)],
    unknown: Error,
) -> Result<Option<D>, Error> {
    let found = table.iter().find(|(_, wire)| (*wire).into() == number);
    match (number, found) {
        (0, _) => Ok(None),
        (_, Some((domain, _))) => Ok(Some(*domain)),
        (_, None) => Err(unknown),
    }
}

pub(crate) fn spec_of(spec: KeySpec) -> v1::KeySpec {
    SPECS.iter().find(|(domain, _)| *domain == spec).map_or(v1::KeySpec::Unspecified, |(_, wire)| *wire)
}

pub(crate) fn usage_of(usage: KeyUsage) -> v1::KeyUsage {
    USAGES.iter().find(|(domain, _)| *domain == usage).map_or(v1::KeyUsage::Unspecified, |(_, wire)| *wire)
}

fn state_of(state: KeyState) -> v1::KeyState {
    match state {
        KeyState::Enabled => v1::KeyState::Enabled,
        KeyState::Disabled => v1::KeyState::Disabled,
        KeyState::PendingDeletion => v1::KeyState::PendingDeletion,
        KeyState::PendingImport => v1::KeyState::PendingImport,
    }
}

pub(crate) fn state(number: i32) -> Result<Option<KeyState>, Error> {
    match v1::KeyState::try_from(number) {
        Ok(v1::KeyState::Unspecified) => Ok(None),
        Ok(v1::KeyState::Enabled) => Ok(Some(KeyState::Enabled)),
        Ok(v1::KeyState::Disabled) => Ok(Some(KeyState::Disabled)),
        Ok(v1::KeyState::PendingDeletion) => Ok(Some(KeyState::PendingDeletion)),
        Ok(v1::KeyState::PendingImport) => Ok(Some(KeyState::PendingImport)),
        Err(_) => Err(Error::invalid(Field::State, "must be a state of the contract")),
    }
}

/// The last moment that a protobuf timestamp may name: the end of the year 9999.
const LATEST_SECOND: i64 = 253_402_300_799;

/// A moment of a request, cut to microseconds.
pub(crate) fn moment(field: Field, time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Error> {
    let Some(time) = time else { return Ok(None) };
    let valid = (0..=LATEST_SECOND).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    if !valid {
        return Err(Error::invalid(field, "must be a time from 1970 to 9999"));
    }
    Ok(Some(Timestamp::from_micros(time.seconds * 1_000_000 + i64::from(time.nanos / 1000))))
}

pub(crate) fn time(moment: Timestamp) -> prost_types::Timestamp {
    let micros = moment.as_micros();
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or(0); // below 10^9
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}
