//! `dewctl encrypt` and `dewctl decrypt`: small data under a master key.

use std::path::PathBuf;

use kms_client::{
    Repeat, SecretBytes,
    proto::{self, EncryptionAlgorithm, encryption_service_client::EncryptionServiceClient},
};
use serde_json::json;

use crate::{
    connection::ConnectionOptions,
    data_key::{sealed_as, secret},
    input::{BytesOptions, ContextOptions, named_key},
    key::named,
    output::{Failure, show},
};

/// Data to encrypt.
#[derive(Debug, clap::Args)]
pub(crate) struct EncryptOptions {
    /// The key: its id, its alias, or a default key as obs/default
    key: String,
    #[command(flatten)]
    plaintext: BytesOptions,
    #[command(flatten)]
    with: AlgorithmOptions,
}

/// A ciphertext to decrypt.
#[derive(Debug, clap::Args)]
pub(crate) struct DecryptOptions {
    #[command(flatten)]
    ciphertext: BytesOptions,
    /// The key that must have encrypted it; ciphertexts of asymmetric keys do not name theirs
    #[arg(long, value_name = "KEY")]
    master_key: Option<String>,
    /// Write the plaintext into this new file in place of showing it
    #[arg(long, value_name = "FILE")]
    plaintext_out: Option<PathBuf>,
    #[command(flatten)]
    with: AlgorithmOptions,
}

/// How, and bound to what.
#[derive(Debug, clap::Args)]
struct AlgorithmOptions {
    /// SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1 or SM2_ENCRYPT; without it, that of symmetric keys
    #[arg(long, value_parser = algorithm)]
    algorithm: Option<EncryptionAlgorithm>,
    #[command(flatten)]
    context: ContextOptions,
}

fn algorithm(text: &str) -> Result<EncryptionAlgorithm, String> {
    named(text, "ENCRYPTION_ALGORITHM_", EncryptionAlgorithm::from_str_name)
}

/// Encrypts.
pub(crate) async fn encrypt(
    options: &EncryptOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let request = proto::EncryptDataRequest {
        key: Some(named_key(&options.key)),
        plaintext: options.plaintext.read()?.into_request(),
        encryption_context: options.with.context.pairs()?,
        additional_authenticated_data: options.with.context.aad()?.into(),
        algorithm: options.with.algorithm.unwrap_or_default().into(),
    };
    let client = connection.user().await?;
    let answer = client.call(Repeat::Harmless, request, |channel, request| async move {
        EncryptionServiceClient::new(channel).encrypt_data(request).await
    });
    let answer = answer.await?;
    show(&sealed_as(&answer.key_id, answer.key_version, &answer.ciphertext_blob), as_json)
}

/// Decrypts.
pub(crate) async fn decrypt(
    options: &DecryptOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let request = proto::DecryptDataRequest {
        ciphertext_blob: options.ciphertext.read()?.into_request(),
        key: options.master_key.as_deref().map(named_key),
        encryption_context: options.with.context.pairs()?,
        additional_authenticated_data: options.with.context.aad()?.into(),
        algorithm: options.with.algorithm.unwrap_or_default().into(),
    };
    let client = connection.user().await?;
    let answer = client.call(Repeat::Harmless, request, |channel, request| async move {
        EncryptionServiceClient::new(channel).decrypt_data(request).await
    });
    let answer = answer.await?;
    let plaintext = secret(&SecretBytes::take(answer.plaintext), options.plaintext_out.as_ref())?;
    show(
        &json!({ "key_id": answer.key_id, "key_version": answer.key_version, "plaintext": plaintext }),
        as_json,
    )
}
