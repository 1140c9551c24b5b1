//! Dewpoint's client: typed calls over mutual TLS, retry that is safe, and envelope encryption of streams.
//!
//! ```no_run
//! use std::collections::HashMap;
//! use kms_client::{Client, ClientConfig, KeyReference};
//!
//! # async fn example() -> Result<(), kms_client::Error> {
//! let config = ClientConfig::from_files("https://kms.example:7443", "ca.pem", "me.pem", "me.key")?;
//! let client = Client::connect(config).await?;
//! let context = HashMap::from([("object".to_owned(), "bucket/path".to_owned())]);
//! let key = KeyReference::Service("obs".to_owned());
//! let data_key = client.generate_data_key(&key, 32, &context).await?;
//! let opened = client.decrypt_data_key(&data_key.ciphertext, None, &context).await?;
//! assert_eq!(data_key.plaintext.expose(), opened.plaintext.expose());
//! # Ok(())
//! # }
//! ```
//!
//! The module [`envelope`] encrypts whole streams under such a data key. For gateways, [`bucket_keys`] spares a call for each
//! object, and [`rules`] says which key may encrypt one.
//!
//! What cannot be wiped: TLS and HTTP/2 keep copies of what they carry in buffers of their own. This crate wipes
//! its own copies, and the transport's copy of a plaintext where nobody else holds it.

mod audit;
mod backup;
pub mod bucket_keys;
mod campaign;
mod client;
mod config;
mod data_keys;
mod dev;
pub mod envelope;
mod error;
mod hedge;
mod keys;
mod operator;
mod retry;
pub mod rules;
mod secret;

pub use audit::RecordStream;
pub use backup::{BackupPart, BackupStream};
pub use campaign::{RewrapAnswers, RewrapItems};
pub use client::Client;
pub use config::{ClientConfig, RetryPolicy};
pub use data_keys::{DataKey, OpenedDataKey, SealedDataKey};
pub use error::{Error, FieldViolation, Refusal};
/// The contract's messages and stubs.
pub use kms_proto::v1 as proto;
pub use kms_proto::v1::{
    BackupContents, CreateKeyRequest, DestroyedKey, ExplainAccessResponse as ExplainedAccess, Key, KeySpec,
    KeyState, ListKeysRequest, ListKeysResponse, ReloadIdentitiesResponse as ReloadedIdentities, Root,
    Rotation, RotationStage, UsedKey, key_reference::Reference as KeyReference,
};
pub use operator::RootStatus;
pub use retry::Repeat;
pub use secret::SecretBytes;
pub use tonic::Code;
