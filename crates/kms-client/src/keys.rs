//! Calls of the key service: customer master keys and their life cycle.

use kms_proto::v1::{self, key_service_client::KeyServiceClient};

use crate::{
    Client, CreateKeyRequest, Error, Key, KeyReference, ListKeysRequest, ListKeysResponse, retry::Repeat,
};

/// One call whose answer is a key.
macro_rules! call_for_key {
    ($client:expr, $repeat:expr, $message:expr, $method:ident) => {{
        let answer = $client
            .call($repeat, $message, |channel, request| async move {
                KeyServiceClient::new(channel).$method(request).await
            })
            .await?;
        answer.key.ok_or(Error::InvalidAnswer("the key is missing"))
    }};
}

/// Customer master keys.
impl Client {
    /// Makes a custom key. An empty idempotency token is replaced by a random one, so that a retry cannot make a
    /// second key. Permission `kms:cmk:create`.
    pub async fn create_key(&self, mut request: CreateKeyRequest) -> Result<Key, Error> {
        if request.idempotency_token.is_empty() {
            request.idempotency_token = random_token()?;
        }
        call_for_key!(self, Repeat::Harmless, request, create_key)
    }

    /// Describes one key. Permission `kms:cmk:get`.
    pub async fn describe_key(&self, key: &KeyReference) -> Result<Key, Error> {
        let request = v1::DescribeKeyRequest { key: Some(named(key)) };
        call_for_key!(self, Repeat::Read, request, describe_key)
    }

    /// One page of the account's keys. Permission `kms:cmk:list`.
    pub async fn list_keys(&self, request: ListKeysRequest) -> Result<ListKeysResponse, Error> {
        self.call(Repeat::Read, request, |channel, request| async move {
            KeyServiceClient::new(channel).list_keys(request).await
        })
        .await
    }

    /// DISABLED to ENABLED. Permission `kms:cmk:enable`.
    pub async fn enable_key(&self, key_id: &str) -> Result<Key, Error> {
        let request = v1::EnableKeyRequest { key_id: key_id.to_owned() };
        call_for_key!(self, Repeat::OnlyIfUndone, request, enable_key)
    }

    /// ENABLED to DISABLED: the key refuses all use from the next call on. Permission `kms:cmk:disable`.
    pub async fn disable_key(&self, key_id: &str) -> Result<Key, Error> {
        let request = v1::DisableKeyRequest { key_id: key_id.to_owned() };
        call_for_key!(self, Repeat::OnlyIfUndone, request, disable_key)
    }

    /// To PENDING_DELETION; the key is destroyed after 7 to 1096 days. Permission `kms:cmk:update`.
    pub async fn schedule_key_deletion(&self, key_id: &str, pending_days: u32) -> Result<Key, Error> {
        let request = v1::ScheduleKeyDeletionRequest { key_id: key_id.to_owned(), pending_days };
        call_for_key!(self, Repeat::OnlyIfUndone, request, schedule_key_deletion)
    }

    /// As [`schedule_key_deletion`](Self::schedule_key_deletion); answers besides how the key was used until now.
    pub async fn schedule_key_deletion_with_usage(
        &self,
        key_id: &str,
        pending_days: u32,
    ) -> Result<(Key, v1::KeyUse), Error> {
        let request = v1::ScheduleKeyDeletionRequest { key_id: key_id.to_owned(), pending_days };
        let answer = self
            .call(Repeat::OnlyIfUndone, request, |channel, request| async move {
                KeyServiceClient::new(channel).schedule_key_deletion(request).await
            })
            .await?;
        Ok((answer.key.ok_or(Error::InvalidAnswer("the key is missing"))?, answer.usage.unwrap_or_default()))
    }

    /// PENDING_DELETION to DISABLED. Permission `kms:cmk:update`.
    pub async fn cancel_key_deletion(&self, key_id: &str) -> Result<Key, Error> {
        let request = v1::CancelKeyDeletionRequest { key_id: key_id.to_owned() };
        call_for_key!(self, Repeat::OnlyIfUndone, request, cancel_key_deletion)
    }

    /// Renames a key. Permission `kms:cmk:update`.
    pub async fn update_key_alias(&self, key_id: &str, alias: &str) -> Result<Key, Error> {
        let request = v1::UpdateKeyAliasRequest { key_id: key_id.to_owned(), alias: alias.to_owned() };
        call_for_key!(self, Repeat::OnlyIfUndone, request, update_key_alias)
    }

    /// Describes a key anew, in 0 to 255 characters. Permission `kms:cmk:update`.
    pub async fn update_key_description(&self, key_id: &str, description: &str) -> Result<Key, Error> {
        let request = v1::UpdateKeyDescriptionRequest {
            key_id: key_id.to_owned(),
            description: description.to_owned(),
        };
        call_for_key!(self, Repeat::OnlyIfUndone, request, update_key_description)
    }
}

/// A key reference as the contract nests it.
pub(crate) fn named(key: &KeyReference) -> v1::KeyReference {
    v1::KeyReference { reference: Some(key.clone()) }
}

/// An idempotency token of 128 random bits in 32 hexadecimal digits.
fn random_token() -> Result<String, Error> {
    let random = || getrandom::u64().map_err(|_| Error::Randomness);
    Ok(format!("{:016x}{:016x}", random()?, random()?))
}
