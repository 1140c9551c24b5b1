//! `dewctl data-key` and `dewctl random`: data keys under a master key, random numbers of the HSM.

use std::path::PathBuf;

use kms_client::{
    Client, KeySpec, Repeat, SecretBytes,
    proto::{self, data_key_service_client::DataKeyServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    input::{BytesOptions, ContextOptions, TargetContextOptions, named_key, to_base64, write_file},
    key::spec,
    output::{Failure, show, show_all},
};

/// What to do with data keys. KEY is an id, an alias, or a default key as obs/default.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DataKeyCommand {
    /// Make a data key
    Generate(GenerateOptions),
    /// Make several data keys at once
    GenerateMany {
        /// The master key that seals them
        key: String,
        /// How many
        count: u32,
        /// The length of each in bytes, 1 to 1024; 0: what the master key would use itself
        #[arg(long, default_value_t = 0)]
        length: u32,
        /// Do not answer them in plain
        #[arg(long)]
        without_plaintext: bool,
        #[command(flatten)]
        context: ContextOptions,
    },
    /// Make a key pair whose private key is sealed
    Pair(PairOptions),
    /// Seal a data key of your own
    Encrypt {
        /// The master key that seals it
        key: String,
        #[command(flatten)]
        plaintext: BytesOptions,
        #[command(flatten)]
        context: ContextOptions,
    },
    /// Open a sealed data key
    Decrypt {
        #[command(flatten)]
        ciphertext: BytesOptions,
        /// The master key that must have sealed it
        #[arg(long)]
        master_key: Option<String>,
        /// Write the plaintext into this new file in place of showing it
        #[arg(long, value_name = "FILE")]
        plaintext_out: Option<PathBuf>,
        #[command(flatten)]
        context: ContextOptions,
    },
    /// Seal under another key, or in another context, without showing the plaintext
    ReEncrypt {
        /// The master key that seals it from now on
        key: String,
        #[command(flatten)]
        ciphertext: BytesOptions,
        /// The master key that must have sealed it
        #[arg(long)]
        master_key: Option<String>,
        #[command(flatten)]
        context: ContextOptions,
        #[command(flatten)]
        target: TargetContextOptions,
    },
}

/// A data key to make.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateOptions {
    /// The master key that seals it
    key: String,
    /// Its length in bytes, 1 to 1024; 0: what the master key would use itself
    #[arg(long, default_value_t = 0)]
    length: u32,
    /// Do not answer it in plain
    #[arg(long, conflicts_with = "plaintext_out")]
    without_plaintext: bool,
    /// Write the plaintext into this new file in place of showing it
    #[arg(long, value_name = "FILE")]
    plaintext_out: Option<PathBuf>,
    #[command(flatten)]
    context: ContextOptions,
}

/// A key pair to make.
#[derive(Debug, clap::Args)]
pub(crate) struct PairOptions {
    /// The master key that seals its private key
    key: String,
    /// Its kind, as RSA_3072, EC_P256 or SM2
    #[arg(long, value_parser = spec)]
    spec: KeySpec,
    /// Do not answer the private key in plain
    #[arg(long, conflicts_with = "plaintext_out")]
    without_plaintext: bool,
    /// Write the private key (PKCS #8, DER) into this new file in place of showing it
    #[arg(long, value_name = "FILE")]
    plaintext_out: Option<PathBuf>,
    #[command(flatten)]
    context: ContextOptions,
}

macro_rules! call {
    ($client:expr, $method:ident, $request:expr) => {
        $client.call(Repeat::Harmless, $request, |channel, request| async move {
            DataKeyServiceClient::new(channel).$method(request).await
        })
    };
}

/// Runs one of them.
pub(crate) async fn run(
    command: &DataKeyCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let answer = match command {
        DataKeyCommand::Generate(options) if options.without_plaintext => sealed(&client, options).await?,
        DataKeyCommand::Generate(options) => generated(&client, options).await?,
        DataKeyCommand::GenerateMany { key, count, length, without_plaintext, context } => {
            let request = proto::GenerateDataKeysRequest {
                key: Some(named_key(key)),
                length: *length,
                encryption_context: context.pairs()?,
                additional_authenticated_data: context.aad()?.into(),
                count: *count,
                with_plaintext: !without_plaintext,
            };
            return show_all(&many(&client, request).await?, &["ciphertext", "plaintext"], as_json);
        }
        DataKeyCommand::Pair(options) => pair(&client, options).await?,
        DataKeyCommand::Encrypt { key, plaintext, context } => {
            let request = proto::EncryptDataKeyRequest {
                key: Some(named_key(key)),
                plaintext: plaintext.read()?.into_request(),
                encryption_context: context.pairs()?,
                additional_authenticated_data: context.aad()?.into(),
            };
            encrypted(&client, request).await?
        }
        DataKeyCommand::Decrypt { ciphertext, master_key, plaintext_out, context } => {
            let request = proto::DecryptDataKeyRequest {
                ciphertext_blob: ciphertext.read()?.into_request(),
                key: master_key.as_deref().map(named_key),
                encryption_context: context.pairs()?,
                additional_authenticated_data: context.aad()?.into(),
            };
            opened(&client, request, plaintext_out.as_ref()).await?
        }
        DataKeyCommand::ReEncrypt { key, ciphertext, master_key, context, target } => {
            let request = proto::ReEncryptRequest {
                ciphertext_blob: ciphertext.read()?.into_request(),
                source_key: master_key.as_deref().map(named_key),
                source_encryption_context: context.pairs()?,
                source_additional_authenticated_data: context.aad()?.into(),
                destination_key: Some(named_key(key)),
                destination_encryption_context: target.pairs()?,
                destination_additional_authenticated_data: target.aad()?.into(),
            };
            re_encrypted(&client, request).await?
        }
    };
    show(&answer, as_json)
}

async fn sealed(client: &Client, options: &GenerateOptions) -> Result<Value, Failure> {
    let request = proto::GenerateDataKeyWithoutPlaintextRequest {
        key: Some(named_key(&options.key)),
        length: options.length,
        encryption_context: options.context.pairs()?,
        additional_authenticated_data: options.context.aad()?.into(),
    };
    let answer = call!(client, generate_data_key_without_plaintext, request).await?;
    Ok(sealed_as(&answer.key_id, answer.key_version, &answer.ciphertext_blob))
}

async fn generated(client: &Client, options: &GenerateOptions) -> Result<Value, Failure> {
    let request = proto::GenerateDataKeyRequest {
        key: Some(named_key(&options.key)),
        length: options.length,
        encryption_context: options.context.pairs()?,
        additional_authenticated_data: options.context.aad()?.into(),
    };
    let answer = call!(client, generate_data_key, request).await?;
    let mut shown = sealed_as(&answer.key_id, answer.key_version, &answer.ciphertext_blob);
    drop(answer.ciphertext_blob); // both may be slices of one buffer, which is wiped only when nobody shares it
    shown["plaintext"] = secret(&SecretBytes::take(answer.plaintext), options.plaintext_out.as_ref())?;
    Ok(shown)
}

async fn many(client: &Client, request: proto::GenerateDataKeysRequest) -> Result<Vec<Value>, Failure> {
    let answer = call!(client, generate_data_keys, request).await?;
    let shown = answer.data_keys.into_iter().map(|made| {
        let mut shown = sealed_as(&answer.key_id, made.key_version, &made.ciphertext_blob);
        if !made.plaintext.is_empty() {
            shown["plaintext"] = secret(&SecretBytes::take(made.plaintext), None)?;
        }
        Ok(shown)
    });
    shown.collect()
}

async fn pair(client: &Client, options: &PairOptions) -> Result<Value, Failure> {
    let request = proto::GenerateDataKeyPairRequest {
        key: Some(named_key(&options.key)),
        key_pair_spec: options.spec.into(),
        encryption_context: options.context.pairs()?,
        additional_authenticated_data: options.context.aad()?.into(),
        with_plaintext: !options.without_plaintext,
    };
    let answer = call!(client, generate_data_key_pair, request).await?;
    let mut shown = sealed_as(&answer.key_id, answer.key_version, &answer.private_key_ciphertext_blob);
    shown["public_key"] = Value::from(to_base64(&answer.public_key));
    if !options.without_plaintext {
        let private_key = SecretBytes::take(answer.private_key_plaintext);
        shown["plaintext"] = secret(&private_key, options.plaintext_out.as_ref())?;
    }
    Ok(shown)
}

async fn encrypted(client: &Client, request: proto::EncryptDataKeyRequest) -> Result<Value, Failure> {
    let answer = call!(client, encrypt_data_key, request).await?;
    Ok(sealed_as(&answer.key_id, answer.key_version, &answer.ciphertext_blob))
}

async fn opened(
    client: &Client,
    request: proto::DecryptDataKeyRequest,
    file: Option<&PathBuf>,
) -> Result<Value, Failure> {
    let answer = call!(client, decrypt_data_key, request).await?;
    let plaintext = secret(&SecretBytes::take(answer.plaintext), file)?;
    Ok(json!({ "key_id": answer.key_id, "key_version": answer.key_version, "plaintext": plaintext }))
}

async fn re_encrypted(client: &Client, request: proto::ReEncryptRequest) -> Result<Value, Failure> {
    let answer = call!(client, re_encrypt, request).await?;
    let mut shown = sealed_as(&answer.key_id, answer.key_version, &answer.ciphertext_blob);
    shown["source_key_id"] = answer.source_key_id.into();
    shown["source_key_version"] = answer.source_key_version.into();
    Ok(shown)
}

/// A ciphertext, and which key made it, as they are shown.
pub(crate) fn sealed_as(key_id: &str, key_version: u32, ciphertext: &[u8]) -> Value {
    json!({ "key_id": key_id, "key_version": key_version, "ciphertext": to_base64(ciphertext) })
}

/// Random bytes of the HSM.
#[derive(Debug, clap::Args)]
pub(crate) struct RandomOptions {
    /// How many, 1 to 1024
    length: u32,
    /// Write them into this new file in place of showing them
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Shows random bytes.
pub(crate) async fn random(
    options: &RandomOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let random = connection.user().await?.generate_random(options.length).await?;
    show(&json!({ "random": secret(&random, options.out.as_ref())? }), as_json)
}

/// Secret bytes in base64, or nothing once they are in their file.
pub(crate) fn secret(bytes: &SecretBytes, file: Option<&PathBuf>) -> Result<Value, Failure> {
    match file {
        Some(path) => write_file(path, bytes.expose()).map(|()| Value::Null),
        None => Ok(Value::from(to_base64(bytes.expose()))),
    }
}
