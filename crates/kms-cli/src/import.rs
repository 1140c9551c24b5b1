//! `dewctl import`: key material from outside, wrapped on the way.

use std::path::PathBuf;

use kms_client::{
    Client, Repeat,
    proto::{self, import_service_client::ImportServiceClient},
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    connection::ConnectionOptions,
    input::{read_file, to_base64, write_file},
    key::described,
    output::{Failure, show},
    rotation::at,
    wrapping::{WRAPPING, read_private_key, wrap, wrap_private_key},
};

/// What to do about the material of a key that was made with --external. KEY is its id.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ImportCommand {
    /// Get a token and a public key, to wrap material elsewhere
    Parameters {
        /// The key's id
        key: String,
        /// How it will be wrapped, as RSAES_OAEP_SHA_256
        #[arg(long, default_value = WRAPPING)]
        wrapping: String,
        /// Write the public key (DER) into this new file in place of showing it
        #[arg(long, value_name = "FILE")]
        public_key_out: Option<PathBuf>,
    },
    /// Wrap the bytes of a file, and import them: all in one
    Material(MaterialOptions),
    /// Wrap a private key, and import the key pair: all in one
    PrivateKey(PrivateKeyOptions),
    /// Delete the imported material; the key waits for the same material again
    Delete {
        /// The key's id
        key: String,
    },
}

/// Material to import.
#[derive(Debug, clap::Args)]
pub(crate) struct MaterialOptions {
    /// The key's id
    key: String,
    /// The bare material, as 32 bytes for an AES_256 key; `-`: from stdin
    #[arg(long = "in", value_name = "FILE")]
    file: PathBuf,
    /// When it is deleted, in RFC 3339, as 2030-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    expires: Option<OffsetDateTime>,
}

/// A key pair to import.
#[derive(Debug, clap::Args)]
pub(crate) struct PrivateKeyOptions {
    /// The key's id
    key: String,
    /// The private key in PKCS#8, PEM or DER, without a password; `-`: from stdin
    #[arg(long = "in", value_name = "FILE")]
    file: PathBuf,
    /// When it is deleted, in RFC 3339, as 2030-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    expires: Option<OffsetDateTime>,
}

fn time_of(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string())
}

macro_rules! call {
    ($client:expr, $repeat:expr, $method:ident, $request:expr) => {
        $client.call($repeat, $request, |channel, request| async move {
            ImportServiceClient::new(channel).$method(request).await
        })
    };
}

/// Runs one of them.
pub(crate) async fn run(
    command: &ImportCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let key = match command {
        ImportCommand::Parameters { key, wrapping, public_key_out } => {
            let given = parameters(&client, key, wrapping).await?;
            let public_key = match public_key_out {
                Some(path) => write_file(path, &given.public_key).map(|()| Value::Null)?,
                None => Value::from(to_base64(&given.public_key)),
            };
            let shown = json!({
                "key_id": given.key_id,
                "import_token": to_base64(&given.import_token),
                "public_key": public_key,
                "expires_at": at(given.expires_at.as_ref()),
            });
            return show(&shown, as_json);
        }
        ImportCommand::Material(options) => import(&client, options).await?,
        ImportCommand::PrivateKey(options) => import_pair(&client, options).await?,
        ImportCommand::Delete { key } => {
            let request = proto::DeleteImportedKeyMaterialRequest { key_id: key.clone() };
            call!(client, Repeat::OnlyIfUndone, delete_imported_key_material, request).await?.key
        }
    };
    show(&key.map_or(Value::Null, |key| described(&key)), as_json)
}

async fn parameters(
    client: &Client,
    key: &str,
    wrapping: &str,
) -> Result<proto::GetParametersForImportResponse, Failure> {
    let (key_id, wrapping_algorithm) = (key.to_owned(), wrapping.to_owned());
    let request = proto::GetParametersForImportRequest { key_id, wrapping_algorithm };
    // Asked twice, it answers a second token, which harms nobody.
    Ok(call!(client, Repeat::Harmless, get_parameters_for_import, request).await?)
}

async fn import(client: &Client, options: &MaterialOptions) -> Result<Option<proto::Key>, Failure> {
    let material = read_file(&options.file)?;
    let given = parameters(client, &options.key, WRAPPING).await?;
    let request = proto::ImportKeyMaterialRequest {
        key_id: options.key.clone(),
        import_token: given.import_token,
        wrapped_material: wrap(&given.public_key, &material)?.into(),
        expires_at: options.expires.map(timestamp),
        ..proto::ImportKeyMaterialRequest::default()
    };
    Ok(call!(client, Repeat::OnlyIfUndone, import_key_material, request).await?.key)
}

async fn import_pair(client: &Client, options: &PrivateKeyOptions) -> Result<Option<proto::Key>, Failure> {
    let private_key = read_private_key(&read_file(&options.file)?)?;
    let given = parameters(client, &options.key, WRAPPING).await?;
    let (temporary, private_key) = wrap_private_key(&given.public_key, &private_key)?;
    let request = proto::ImportKeyMaterialRequest {
        key_id: options.key.clone(),
        import_token: given.import_token,
        wrapped_material: temporary.into(),
        wrapped_private_key: private_key.into(),
        expires_at: options.expires.map(timestamp),
    };
    Ok(call!(client, Repeat::OnlyIfUndone, import_key_material, request).await?.key)
}

fn timestamp(moment: OffsetDateTime) -> prost_types::Timestamp {
    let nanos = i32::try_from(moment.nanosecond()).unwrap_or_default(); // less than a second always fits
    prost_types::Timestamp { seconds: moment.unix_timestamp(), nanos }
}
