//! `dewctl data-key` and `dewctl random`: data keys under a master key, random numbers of the HSM.

use std::path::PathBuf;

use kms_client::{Client, SecretBytes};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    input::{BytesOptions, ContextOptions, key_reference, to_base64, write_file},
    output::{Failure, show},
};

/// What to do with data keys. KEY is an id, an alias, or a default key as obs/default.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DataKeyCommand {
    /// Make a data key
    Generate {
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
    },
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
}

/// Runs one of them.
pub(crate) async fn run(
    command: &DataKeyCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    show(&answer(command, &client).await?, as_json)
}

async fn answer(command: &DataKeyCommand, client: &Client) -> Result<Value, Failure> {
    Ok(match command {
        DataKeyCommand::Generate { key, length, without_plaintext: true, context, .. } => {
            let (key, context) = (key_reference(key), context.pairs()?);
            let sealed = client.generate_data_key_without_plaintext(&key, *length, &context).await?;
            json!({
                "key_id": sealed.key_id,
                "key_version": sealed.key_version,
                "ciphertext": to_base64(&sealed.ciphertext),
            })
        }
        DataKeyCommand::Generate { key, length, plaintext_out, context, .. } => {
            let made = client.generate_data_key(&key_reference(key), *length, &context.pairs()?).await?;
            json!({
                "key_id": made.key_id,
                "key_version": made.key_version,
                "ciphertext": to_base64(&made.ciphertext),
                "plaintext": secret(&made.plaintext, plaintext_out.as_ref())?,
            })
        }
        DataKeyCommand::Encrypt { key, plaintext, context } => {
            let plaintext = plaintext.read()?;
            let sealed = client.encrypt_data_key(&key_reference(key), plaintext, &context.pairs()?).await?;
            json!({
                "key_id": sealed.key_id,
                "key_version": sealed.key_version,
                "ciphertext": to_base64(&sealed.ciphertext),
            })
        }
        DataKeyCommand::Decrypt { ciphertext, master_key, plaintext_out, context } => {
            let (ciphertext, key) = (ciphertext.read()?, master_key.as_deref().map(key_reference));
            let opened =
                client.decrypt_data_key(ciphertext.expose(), key.as_ref(), &context.pairs()?).await?;
            json!({
                "key_id": opened.key_id,
                "key_version": opened.key_version,
                "plaintext": secret(&opened.plaintext, plaintext_out.as_ref())?,
            })
        }
    })
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
