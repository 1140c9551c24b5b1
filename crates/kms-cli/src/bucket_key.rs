//! `dewctl bucket-key`: keys under which a gateway keeps many objects of a bucket.

use std::path::PathBuf;

use kms_client::{
    KeySpec, Repeat, SecretBytes,
    proto::{self, bucket_key_service_client::BucketKeyServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    data_key::{sealed_as, secret},
    input::{BytesOptions, ContextOptions, named_key, to_base64, write_file},
    key::spec,
    output::{Failure, show},
};

/// What to do with bucket keys. KEY is an id, an alias, or a default key as obs/default.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BucketKeyCommand {
    /// Make a bucket key
    Generate(GenerateOptions),
    /// Open a sealed bucket key, to read objects that hang on it
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
    /// Tell the log how many objects hang on a bucket key
    Report {
        #[command(flatten)]
        receipt: BytesOptions,
        /// All objects that were put under it
        #[arg(long)]
        uses: u64,
    },
}

/// A bucket key to make.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateOptions {
    /// The master key that seals it
    key: String,
    /// What its objects are encrypted with, AES_256 or SM4; without it, as the master key
    #[arg(long, value_parser = spec)]
    algorithm: Option<KeySpec>,
    /// How long objects may be put under it, or less if the service says so; 0: as the service says
    #[arg(long, default_value_t = 0)]
    validity_seconds: u32,
    /// Write the plaintext into this new file in place of showing it
    #[arg(long, value_name = "FILE")]
    plaintext_out: Option<PathBuf>,
    /// Write the receipt into this new file in place of showing it
    #[arg(long, value_name = "FILE")]
    receipt_out: Option<PathBuf>,
    #[command(flatten)]
    context: ContextOptions,
}

macro_rules! call {
    ($client:expr, $method:ident, $request:expr) => {
        $client.call(Repeat::Harmless, $request, |channel, request| async move {
            BucketKeyServiceClient::new(channel).$method(request).await
        })
    };
}

/// Runs one of them.
pub(crate) async fn run(
    command: &BucketKeyCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let answer = match command {
        BucketKeyCommand::Generate(options) => {
            let request = proto::GenerateBucketKeyRequest {
                key: Some(named_key(&options.key)),
                algorithm: options.algorithm.unwrap_or_default().into(),
                encryption_context: options.context.pairs()?,
                additional_authenticated_data: options.context.aad()?.into(),
                validity_seconds: options.validity_seconds,
            };
            generated(call!(client, generate_bucket_key, request).await?, options)?
        }
        BucketKeyCommand::Decrypt { ciphertext, master_key, plaintext_out, context } => {
            let request = proto::DecryptBucketKeyRequest {
                ciphertext_blob: ciphertext.read()?.into_request(),
                key: master_key.as_deref().map(named_key),
                encryption_context: context.pairs()?,
                additional_authenticated_data: context.aad()?.into(),
            };
            opened(call!(client, decrypt_bucket_key, request).await?, plaintext_out.as_ref())?
        }
        BucketKeyCommand::Report { receipt, uses } => {
            let request =
                proto::ReportBucketKeyUseRequest { receipt: receipt.read()?.into_request(), uses: *uses };
            let answer = call!(client, report_bucket_key_use, request).await?;
            json!({
                "bucket_key_id": answer.bucket_key_id,
                "key_id": answer.key_id,
                "key_version": answer.key_version,
                "uses": answer.uses,
            })
        }
    };
    show(&answer, as_json)
}

fn generated(answer: proto::GenerateBucketKeyResponse, options: &GenerateOptions) -> Result<Value, Failure> {
    let mut shown = sealed_as(&answer.key_id, answer.key_version, &answer.ciphertext_blob);
    shown["bucket_key_id"] = answer.bucket_key_id.into();
    shown["algorithm"] = name(answer.algorithm).into();
    shown["validity_seconds"] = answer.validity_seconds.into();
    shown["most_uses"] = answer.most_uses.into();
    shown["receipt"] = match &options.receipt_out {
        Some(path) => write_file(path, &answer.receipt).map(|()| Value::Null)?,
        None => to_base64(&answer.receipt).into(),
    };
    // All may be slices of one buffer, which is wiped only when nobody shares it.
    drop((answer.ciphertext_blob, answer.receipt));
    shown["plaintext"] = secret(&SecretBytes::take(answer.plaintext), options.plaintext_out.as_ref())?;
    Ok(shown)
}

fn opened(answer: proto::DecryptBucketKeyResponse, file: Option<&PathBuf>) -> Result<Value, Failure> {
    let algorithm = name(answer.algorithm);
    let plaintext = secret(&SecretBytes::take(answer.plaintext), file)?;
    Ok(json!({
        "bucket_key_id": answer.bucket_key_id,
        "key_id": answer.key_id,
        "key_version": answer.key_version,
        "algorithm": algorithm,
        "plaintext": plaintext,
    }))
}

/// An algorithm as it is given.
fn name(algorithm: i32) -> &'static str {
    let algorithm = KeySpec::try_from(algorithm).unwrap_or_default();
    algorithm.as_str_name().trim_start_matches("KEY_SPEC_")
}
