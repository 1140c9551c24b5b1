//! `dewctl sign`, `verify`, `public-key`, `mac`, `verify-mac` and `derive`: keys that sign, authenticate and agree.

use std::path::PathBuf;

use kms_client::{
    Client, Repeat, SecretBytes,
    proto::{
        self, KeyAgreementAlgorithm, MacAlgorithm, MessageType, SigningAlgorithm,
        signing_service_client::SigningServiceClient,
    },
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    data_key::secret,
    input::{BytesOptions, from_base64, named_key, read_file, to_base64, write_file},
    key::{name, named},
    output::{Failure, show},
};

/// What to sign, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct SignOptions {
    /// The key: its id or its alias
    key: String,
    /// As ECDSA_SHA_256, RSASSA_PSS_SHA_256, ED25519_SHA_512 or SM2DSA_SM3
    #[arg(long, value_parser = signing_algorithm)]
    algorithm: SigningAlgorithm,
    /// The bytes are the digest of the message, not the message itself
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    message: BytesOptions,
}

/// A signature to check.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyOptions {
    #[command(flatten)]
    signed: SignOptions,
    /// The signature in base64
    #[arg(long, value_name = "TEXT")]
    signature: String,
}

/// What to authenticate.
#[derive(Debug, clap::Args)]
pub(crate) struct MacOptions {
    /// The key: its id or its alias
    key: String,
    /// HMAC_SHA_256, HMAC_SHA_384, HMAC_SHA_512 or HMAC_SM3: the key's own
    #[arg(long, value_parser = mac_algorithm)]
    algorithm: MacAlgorithm,
    #[command(flatten)]
    message: BytesOptions,
}

/// A message authentication code to check.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyMacOptions {
    #[command(flatten)]
    authenticated: MacOptions,
    /// The code in base64
    #[arg(long, value_name = "TEXT")]
    mac: String,
}

/// Whose public half is wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct PublicKeyOptions {
    /// The key: its id or its alias
    key: String,
    /// Write it into this new file, as PEM
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// With whom to agree.
#[derive(Debug, clap::Args)]
pub(crate) struct DeriveOptions {
    /// The key: its id or its alias
    key: String,
    /// The other side's public key: a file with a SubjectPublicKeyInfo in DER; `-`: from stdin
    #[arg(long, value_name = "FILE")]
    peer: PathBuf,
    /// Write the secret into this new file in place of showing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn signing_algorithm(text: &str) -> Result<SigningAlgorithm, String> {
    named(text, "SIGNING_ALGORITHM_", SigningAlgorithm::from_str_name)
}

fn mac_algorithm(text: &str) -> Result<MacAlgorithm, String> {
    named(text, "MAC_ALGORITHM_", MacAlgorithm::from_str_name)
}

impl SignOptions {
    const fn message_type(&self) -> MessageType {
        if self.digest { MessageType::Digest } else { MessageType::Raw }
    }
}

/// One call of the signing service.
macro_rules! call {
    ($client:expr, $request:expr, $method:ident) => {
        $client.call(Repeat::Harmless, $request, |channel, request| async move {
            SigningServiceClient::new(channel).$method(request).await
        })
    };
}

/// Signs.
pub(crate) async fn sign(
    options: &SignOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let request = proto::SignRequest {
        key: Some(named_key(&options.key)),
        algorithm: options.algorithm.into(),
        message_type: options.message_type().into(),
        message: options.message.read()?.into_request(),
    };
    let answer = call!(connection.user().await?, request, sign).await?;
    let algorithm = name(answer.algorithm().as_str_name(), "SIGNING_ALGORITHM_").to_owned();
    let signature = to_base64(&answer.signature);
    show(&json!({ "key_id": answer.key_id, "algorithm": algorithm, "signature": signature }), as_json)
}

/// Checks a signature; one that is not valid is an answer, not a failure.
pub(crate) async fn verify(
    options: &VerifyOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let signed = &options.signed;
    let request = proto::VerifyRequest {
        key: Some(named_key(&signed.key)),
        algorithm: signed.algorithm.into(),
        message_type: signed.message_type().into(),
        message: signed.message.read()?.into_request(),
        signature: from_base64(&options.signature)?.into(),
    };
    let answer = call!(connection.user().await?, request, verify).await?;
    show(&json!({ "key_id": answer.key_id, "valid": answer.valid }), as_json)
}

/// Shows the public half of a key pair.
pub(crate) async fn public_key(
    options: &PublicKeyOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let request = proto::GetPublicKeyRequest { key: Some(named_key(&options.key)) };
    let answer = call!(connection.user().await?, request, get_public_key).await?;
    let algorithms: Vec<&str> = answer
        .signing_algorithms()
        .map(|algorithm| name(algorithm.as_str_name(), "SIGNING_ALGORITHM_"))
        .collect();
    let pem = match &options.out {
        Some(path) => write_file(path, answer.public_key_pem.as_bytes()).map(|()| Value::Null)?,
        None => Value::from(answer.public_key_pem.as_str()),
    };
    show(
        &json!({
            "key_id": answer.key_id,
            "key_spec": name(answer.key_spec().as_str_name(), "KEY_SPEC_"),
            "key_usage": name(answer.key_usage().as_str_name(), "KEY_USAGE_"),
            "signing_algorithms": algorithms,
            "public_key": pem,
        }),
        as_json,
    )
}

/// Computes a message authentication code.
pub(crate) async fn mac(
    options: &MacOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let request = proto::GenerateMacRequest {
        key: Some(named_key(&options.key)),
        algorithm: options.algorithm.into(),
        message: options.message.read()?.into_request(),
    };
    let answer = call!(connection.user().await?, request, generate_mac).await?;
    show(&json!({ "key_id": answer.key_id, "mac": to_base64(&answer.mac) }), as_json)
}

/// Checks a message authentication code; one that is not valid is an answer, not a failure.
pub(crate) async fn verify_mac(
    options: &VerifyMacOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let authenticated = &options.authenticated;
    let request = proto::VerifyMacRequest {
        key: Some(named_key(&authenticated.key)),
        algorithm: authenticated.algorithm.into(),
        message: authenticated.message.read()?.into_request(),
        mac: from_base64(&options.mac)?.into(),
    };
    let answer = call!(connection.user().await?, request, verify_mac).await?;
    show(&json!({ "key_id": answer.key_id, "valid": answer.valid }), as_json)
}

/// Agrees on a secret with another key pair.
pub(crate) async fn derive(
    options: &DeriveOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let request = proto::DeriveSharedSecretRequest {
        key: Some(named_key(&options.key)),
        algorithm: KeyAgreementAlgorithm::Ecdh.into(),
        public_key: read_file(&options.peer)?.into_request(),
    };
    let client: Client = connection.user().await?;
    let answer = call!(client, request, derive_shared_secret).await?;
    let shared = secret(&SecretBytes::take(answer.shared_secret), options.out.as_ref())?;
    show(&json!({ "key_id": answer.key_id, "shared_secret": shared }), as_json)
}
