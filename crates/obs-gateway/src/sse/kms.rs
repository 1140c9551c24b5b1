//! Data keys from Dewpoint, asked for as the user who asks the gateway.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use kms_client::{Client, Code, CreateKeyRequest, Error, KeyReference, ListKeysRequest};

use super::{
    Direction, KeyChoice, KeyError, KeyFacts, KeyId, Keys, Method, NewKey, Requester, allowed_key,
    cache::Permissions,
};
use crate::{
    format::{ObjectKey, Suite},
    store::Encryption,
};

/// The service whose default keys encrypt objects.
const SERVICE: &str = "obs";

/// Dewpoint as the source of data keys. Every call acts for the requester, so the KMS decides by the user's own
/// permissions and grants, limits the user's traffic, and records user and gateway.
#[derive(Debug)]
pub struct KmsKeys {
    client: Client,
    region: String,
    permissions: Permissions,
}

impl KmsKeys {
    /// Keys by this connection, whose certificate is that of a service, for buckets of this region.
    pub fn new(client: Client, region: String) -> Self {
        Self { client, region, permissions: Permissions::default() }
    }

    fn acting_for(&self, requester: &Requester) -> Result<Client, KeyError> {
        let client = self.client.acting_for(&requester.user_id).map_err(key_error)?;
        client.in_project(&requester.project_id).map_err(key_error)
    }

    /// The named key, if this requester may use it for buckets of this region.
    async fn named(
        &self,
        client: &Client,
        named: &KeyId,
        requester: &Requester,
    ) -> Result<KeyFacts, KeyError> {
        let key = client.describe_key(&KeyReference::KeyId(named.id.clone())).await.map_err(key_error)?;
        let (spec, usage) = (key.key_spec(), key.key_usage());
        let is_default = !key.default_for_service.is_empty();
        let facts = KeyFacts { owner: key.domain_id, region: key.region, is_default, spec, usage };
        allowed_key(named, &facts, &self.region, &requester.account)?;
        Ok(facts)
    }

    /// Checks those of the required permissions that making or opening a data key does not ask for by itself: each
    /// call is only tried out. Of another account's key, its grants decide alone.
    async fn check_permissions(
        &self,
        client: &Client,
        requester: &Requester,
        key: &KeyReference,
        direction: Direction,
        is_own: bool,
    ) -> Result<(), KeyError> {
        let permission = (requester.clone(), format!("{key:?}"), direction);
        if self.permissions.has(&permission) {
            return Ok(());
        }
        let trial = client.dry_run().map_err(key_error)?;
        let list = async { tried(trial.list_keys(ListKeysRequest::default()).await) };
        let create = async { tried(trial.create_key(new_key()).await) };
        tokio::try_join!(list, create)?;
        if is_own {
            let describe = async { tried(trial.describe_key(key).await) };
            // Opening a data key asks for kms:dek:crypto, making one for kms:dek:create.
            let generate = async {
                match direction {
                    Direction::Upload => Ok(()),
                    Direction::Download => tried(trial.generate_data_key(key, 0, &HashMap::new()).await),
                }
            };
            tokio::try_join!(describe, generate)?;
        }
        self.permissions.add(permission);
        Ok(())
    }
}

#[async_trait]
impl Keys for KmsKeys {
    async fn seal(
        &self,
        requester: &Requester,
        method: &Method,
        context: &HashMap<String, String>,
    ) -> Result<NewKey, KeyError> {
        let client = self.acting_for(requester)?;
        let (reference, owner) = match &method.key {
            KeyChoice::Default => (KeyReference::Service(SERVICE.to_owned()), requester.account.clone()),
            KeyChoice::Named(named) => {
                let facts = self.named(&client, named, requester).await?;
                (KeyReference::KeyId(named.id.clone()), facts.owner)
            }
        };
        let is_own = owner == requester.account;
        self.check_permissions(&client, requester, &reference, Direction::Upload, is_own).await?;
        let made = client.generate_data_key(&reference, key_length(method.suite), context).await;
        let made = made.map_err(key_error)?;
        let encryption = Encryption {
            suite: method.suite,
            key_id: made.key_id,
            key_owner: owner,
            sealed_key: made.ciphertext,
            context: BTreeMap::new(),
            tag: None,
        };
        let key = ObjectKey::new(method.suite, made.plaintext).map_err(|_| KeyError::NotAuthentic)?;
        Ok(NewKey { key, encryption })
    }

    async fn open(
        &self,
        requester: &Requester,
        encryption: &Encryption,
        context: &HashMap<String, String>,
    ) -> Result<ObjectKey, KeyError> {
        let client = self.acting_for(requester)?;
        let reference = KeyReference::KeyId(encryption.key_id.clone());
        let is_own = encryption.key_owner == requester.account;
        self.check_permissions(&client, requester, &reference, Direction::Download, is_own).await?;
        let opened = client.decrypt_data_key(&encryption.sealed_key, Some(&reference), context).await;
        let opened = opened.map_err(key_error)?;
        ObjectKey::new(encryption.suite, opened.plaintext).map_err(|_| KeyError::NotAuthentic)
    }
}

/// A key that is only asked for to see whether it might be made.
fn new_key() -> CreateKeyRequest {
    CreateKeyRequest { alias: format!("trial-{}", uuid::Uuid::new_v4()), ..CreateKeyRequest::default() }
}

fn key_length(suite: Suite) -> u32 {
    match suite {
        Suite::Aes256Gcm => 32,
        Suite::Sm4Gcm => 16,
    }
}

/// What a call that was only tried out says of the permission: all other refusals come later or never.
fn tried<Answer>(answer: Result<Answer, Error>) -> Result<(), KeyError> {
    match answer.map_err(key_error) {
        Err(error @ (KeyError::Denied(_) | KeyError::Throttled | KeyError::Unavailable(_))) => Err(error),
        _ => Ok(()),
    }
}

/// What a refusal of the KMS means for an object.
#[expect(clippy::needless_pass_by_value, reason = "as it is called with what failed")]
fn key_error(error: Error) -> KeyError {
    let Some(refusal) = error.refusal() else { return KeyError::Unavailable(error.to_string()) };
    match (refusal.code, &*refusal.reason) {
        (Code::PermissionDenied, _) => {
            KeyError::Denied(refusal.metadata.get("missing_action").cloned().unwrap_or_default())
        }
        (Code::NotFound, _) => KeyError::NotFound,
        (_, "KEY_DISABLED" | "KEYSTORE_DISABLED") => KeyError::Disabled,
        (_, "CANNOT_DECRYPT") => KeyError::NotAuthentic,
        // What a call that was only tried out is answered with.
        (_, "DRY_RUN") | (Code::FailedPrecondition, _) => KeyError::State,
        (_, "THROTTLED") => KeyError::Throttled,
        _ => KeyError::Unavailable(error.to_string()),
    }
}
