//! All calls of the contract, each in a valid form.

use kms_proto::v1::{
    CancelKeyDeletionRequest, CreateKeyRequest, DecryptDataKeyRequest, DescribeKeyRequest, DisableKeyRequest,
    EnableKeyRequest, EncryptDataKeyRequest, GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest,
    GenerateRandomRequest, ListKeysRequest, ScheduleKeyDeletionRequest, UpdateKeyAliasRequest,
    UpdateKeyDescriptionRequest,
};
use tonic::{Response, Status};

use crate::{Clients, Context, by_id, request_id};

/// A call of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the contract")]
pub enum Rpc {
    CreateKey,
    DescribeKey,
    ListKeys,
    EnableKey,
    DisableKey,
    ScheduleKeyDeletion,
    CancelKeyDeletion,
    UpdateKeyAlias,
    UpdateKeyDescription,
    GenerateDataKey,
    GenerateDataKeyWithoutPlaintext,
    EncryptDataKey,
    DecryptDataKey,
    GenerateRandom,
}

/// What the calls are about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The key that they name.
    pub key_id: String,
    /// The alias that CreateKey and UpdateKeyAlias ask for.
    pub alias: String,
    /// What DecryptDataKey opens.
    pub ciphertext: Vec<u8>,
}

impl Rpc {
    /// All of them, in an order in which each finds the key in the state that it needs.
    pub const ALL: [Self; 14] = [
        Self::CreateKey,
        Self::DescribeKey,
        Self::ListKeys,
        Self::GenerateDataKey,
        Self::GenerateDataKeyWithoutPlaintext,
        Self::EncryptDataKey,
        Self::DecryptDataKey,
        Self::GenerateRandom,
        Self::UpdateKeyAlias,
        Self::UpdateKeyDescription,
        Self::DisableKey,
        Self::EnableKey,
        Self::ScheduleKeyDeletion,
        Self::CancelKeyDeletion,
    ];

    /// Makes the call; answers the id under which the log keeps it.
    #[allow(clippy::too_many_lines, reason = "one arm for each call of the contract")]
    pub async fn call(self, clients: &mut Clients, subject: &Subject) -> Result<String, Status> {
        let Subject { key_id, alias, ciphertext } = subject.clone();
        let key = by_id(&key_id);
        let (keys, data) = (&mut clients.keys, &mut clients.data);
        let (length, encryption_context) = (0, Context::new());
        match self {
            Self::CreateKey => {
                let alias = format!("{alias}-new");
                named(keys.create_key(CreateKeyRequest { alias, ..CreateKeyRequest::default() }).await)
            }
            Self::DescribeKey => named(keys.describe_key(DescribeKeyRequest { key }).await),
            Self::ListKeys => named(keys.list_keys(ListKeysRequest::default()).await),
            Self::EnableKey => named(keys.enable_key(EnableKeyRequest { key_id }).await),
            Self::DisableKey => named(keys.disable_key(DisableKeyRequest { key_id }).await),
            Self::ScheduleKeyDeletion => named(
                keys.schedule_key_deletion(ScheduleKeyDeletionRequest { key_id, pending_days: 7 }).await,
            ),
            Self::CancelKeyDeletion => {
                named(keys.cancel_key_deletion(CancelKeyDeletionRequest { key_id }).await)
            }
            Self::UpdateKeyAlias => {
                named(keys.update_key_alias(UpdateKeyAliasRequest { key_id, alias }).await)
            }
            Self::UpdateKeyDescription => {
                let description = "described anew".to_owned();
                named(keys.update_key_description(UpdateKeyDescriptionRequest { key_id, description }).await)
            }
            Self::GenerateDataKey => {
                let request =
                    GenerateDataKeyRequest { key, length, encryption_context, ..Default::default() };
                named(data.generate_data_key(request).await)
            }
            Self::GenerateDataKeyWithoutPlaintext => {
                let request = GenerateDataKeyWithoutPlaintextRequest {
                    key,
                    length,
                    encryption_context,
                    ..Default::default()
                };
                named(data.generate_data_key_without_plaintext(request).await)
            }
            Self::EncryptDataKey => {
                let plaintext = vec![7; 32].into();
                named(
                    data.encrypt_data_key(EncryptDataKeyRequest {
                        key,
                        plaintext,
                        encryption_context,
                        ..Default::default()
                    })
                    .await,
                )
            }
            Self::DecryptDataKey => {
                let ciphertext_blob = ciphertext.into();
                let request =
                    DecryptDataKeyRequest { ciphertext_blob, key, encryption_context, ..Default::default() };
                named(data.decrypt_data_key(request).await)
            }
            Self::GenerateRandom => named(data.generate_random(GenerateRandomRequest { length: 16 }).await),
        }
    }
}

fn named<T>(answer: Result<Response<T>, Status>) -> Result<String, Status> {
    answer.map(|response| request_id(&response))
}
