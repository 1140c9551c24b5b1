//! Data keys. Lengths of new ones are in bits, of others in bytes; all are hexadecimal digits.

use http::Method;
use kms_core::{
    SecretBytes,
    ciphertext::{MAX_DATA_KEY_BYTES, MAX_SEALED_BYTES},
    error::Field,
    identity::Caller,
    ops::{
        DataKey, DataKeyLength, DecryptDataKey, DecryptedDataKey, EncryptDataKey, GenerateDataKey,
        GenerateDataKeyWithoutPlaintext, GenerateRandom, SealedDataKey,
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::dew::{
    answer::Json,
    codes::{Code, Unfit},
    forms::{self, Pairs, Scalar, SecretHexadecimal},
    json::JsonSecret,
    routes::{Asked, Row, keeping, row},
};

/// The length of a data key when neither length nor kind is given, in bytes. DEW: datakey_length.
const DEFAULT_BYTES: usize = 32;
/// SHA-256 and SM3 alike.
const DIGEST_BYTES: usize = 32;

pub(super) fn rows() -> Vec<Row> {
    let post = Method::POST;
    vec![
        row(post.clone(), "/v1.0/{project_id}/kms/create-datakey", create, created),
        row(
            post.clone(),
            "/v1.0/{project_id}/kms/create-datakey-without-plaintext",
            |asked| create(asked).map(GenerateDataKeyWithoutPlaintext),
            sealed,
        ),
        keeping(post.clone(), "/v1.0/{project_id}/kms/encrypt-datakey", encrypt, encrypted),
        row(post.clone(), "/v1.0/{project_id}/kms/decrypt-datakey", decrypt, decrypted),
        row(post, "/v1.0/{project_id}/kms/gen-random", random, made),
    ]
}

#[derive(Deserialize)]
struct CreateBody {
    key_id: Option<Scalar>,
    key_spec: Option<Scalar>,
    datakey_length: Option<Scalar>,
    additional_authenticated_data: Option<Scalar>,
    encryption_context: Option<Pairs>,
    pin: Option<JsonSecret>,
}

#[derive(Deserialize)]
struct EncryptBody {
    key_id: Option<Scalar>,
    plain_text: Option<JsonSecret>,
    datakey_plain_length: Option<Scalar>,
    key_spec: Option<Scalar>,
    additional_authenticated_data: Option<Scalar>,
    encryption_context: Option<Pairs>,
    pin: Option<JsonSecret>,
}

#[derive(Deserialize)]
struct DecryptBody {
    key_id: Option<Scalar>,
    cipher_text: Option<Scalar>,
    datakey_cipher_length: Option<Scalar>,
    additional_authenticated_data: Option<Scalar>,
    encryption_context: Option<Pairs>,
}

#[derive(Deserialize)]
struct RandomBody {
    random_data_length: Option<Scalar>,
}

fn create(asked: Asked<CreateBody>) -> Result<GenerateDataKey, Unfit> {
    let body = asked.body;
    forms::no_pin(body.pin.as_ref())?;
    Ok(GenerateDataKey {
        key: forms::key(body.key_id)?,
        length: Some(length(body.datakey_length.as_ref(), body.key_spec.as_ref())?),
        encryption_context: forms::context(body.additional_authenticated_data, body.encryption_context)?,
    })
}

/// DEW: datakey_length wins over key_spec; KMS.1901, KMS.1902, KMS.1903.
fn length(length: Option<&Scalar>, spec: Option<&Scalar>) -> Result<DataKeyLength, Unfit> {
    let bytes = match (forms::text(length), forms::text(spec)) {
        ("", "") => DEFAULT_BYTES,
        ("", "AES_128" | "SM4") => 16,
        ("", "AES_256" | "HMAC_256" | "HMAC_SM3") => 32,
        ("", "HMAC_384") => 48,
        ("", "HMAC_512") => 64,
        ("", _) => {
            return Err(Unfit::new(
                Code::DATA_KEY_SPEC,
                Field::KeySpec,
                "must be a kind of data key, as AES_256",
            ));
        }
        (bits, _) => forms::bits(bits, (Code::DATA_KEY_LENGTH, Code::DATA_KEY_LENGTH_NOT_IN_BYTES))?,
    };
    Ok(DataKeyLength::parse(bytes)?)
}

/// A length in bytes, up to the longest.
fn bytes(value: Option<Scalar>, longest: usize, unfit: Unfit) -> Result<usize, Unfit> {
    let text = forms::required(value, Field::Length)?;
    let bytes = forms::number(text.as_str()).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.filter(|bytes| (1..=longest).contains(bytes)).ok_or(unfit)
}

/// How long what a ciphertext holds is, in bytes. The private half of a pair may be longer than any data key.
pub(super) fn sealed_length(value: Option<Scalar>) -> Result<usize, Unfit> {
    let problem = "must be 1 to 4096 bytes";
    bytes(value, MAX_SEALED_BYTES, Unfit::new(Code::CIPHERTEXT_LENGTH, Field::Length, problem))
}

/// Refuses a ciphertext of another length than was named.
pub(super) fn check_sealed_length(length: usize, named: usize) -> Result<(), Unfit> {
    if length == named {
        return Ok(());
    }
    Err(Unfit::new(
        Code::CIPHERTEXT_LENGTH_MISMATCH,
        Field::CiphertextBlob,
        "is not that of a data key of datakey_cipher_length bytes",
    ))
}

/// DEW: encrypt-datakey: the data key, and its digest behind it.
fn encrypt(asked: Asked<EncryptBody>) -> Result<(EncryptDataKey, usize), Unfit> {
    let body = asked.body;
    forms::no_pin(body.pin.as_ref())?;
    forms::not_offered(body.key_spec.as_ref(), "must have no key_spec: the data key is the caller's own")?;
    let key = forms::key(body.key_id)?;
    let plaintext = forms::required(body.plain_text, Field::Plaintext)?;
    let problem = "must be 1 to 1024 bytes";
    let unfit = Unfit::new(Code::PLAINTEXT_LENGTH, Field::Length, problem);
    let length = bytes(body.datakey_plain_length, MAX_DATA_KEY_BYTES, unfit)?;
    let both = forms::secret_hexadecimal(&plaintext, Field::Plaintext)?;
    let parts =
        both.expose_secret().split_at_checked(length).filter(|(_, digest)| digest.len() == DIGEST_BYTES);
    let (data_key, digest) = parts.ok_or(Unfit::new(
        Code::PLAINTEXT_LENGTH_MISMATCH,
        Field::Plaintext,
        "must be a data key of datakey_plain_length bytes and the 32 bytes of its digest",
    ))?;
    let context = forms::context(body.additional_authenticated_data, body.encryption_context)?;
    let operation = EncryptDataKey::new(key, SecretBytes::new(data_key.to_vec()), context)?;
    Ok((operation.with_digest(SecretBytes::new(digest.to_vec())), length))
}

fn decrypt(asked: Asked<DecryptBody>) -> Result<DecryptDataKey, Unfit> {
    let body = asked.body;
    let key = forms::key(body.key_id)?;
    let ciphertext = forms::required(body.cipher_text, Field::CiphertextBlob)?;
    let length = sealed_length(body.datakey_cipher_length)?;
    let ciphertext = forms::hexadecimal(ciphertext.as_str(), Field::CiphertextBlob)?;
    let context = forms::context(body.additional_authenticated_data, body.encryption_context)?;
    let operation = DecryptDataKey::new(&ciphertext, Some(key), context)?;
    check_sealed_length(operation.plaintext_length(), length)?;
    Ok(operation)
}

fn random(asked: Asked<RandomBody>) -> Result<GenerateRandom, Unfit> {
    let length = forms::required(asked.body.random_data_length, Field::Length)?;
    let codes = (Code::RANDOM_LENGTH, Code::RANDOM_LENGTH_NOT_IN_BYTES);
    Ok(GenerateRandom::new(forms::bits(length.as_str(), codes)?)?)
}

#[derive(Serialize)]
struct CreatedDataKey {
    key_id: String,
    plain_text: SecretHexadecimal,
    cipher_text: String,
}

#[derive(Serialize)]
struct Sealed {
    key_id: String,
    cipher_text: String,
}

#[derive(Serialize)]
struct Encrypted {
    key_id: String,
    cipher_text: String,
    datakey_length: String,
}

#[derive(Serialize)]
struct Decrypted {
    data_key: SecretHexadecimal,
    datakey_length: String,
    datakey_dgst: SecretHexadecimal,
}

#[derive(Serialize)]
struct Random {
    random_data: SecretHexadecimal,
}

fn created(_: &Caller, key: DataKey) -> Json<CreatedDataKey> {
    let (key_id, cipher_text) = (key.sealed.key_id.to_string(), hex::encode(key.sealed.ciphertext));
    Json(CreatedDataKey { key_id, plain_text: SecretHexadecimal(key.plaintext), cipher_text })
}

fn sealed(_: &Caller, key: SealedDataKey) -> Json<Sealed> {
    Json(Sealed { key_id: key.key_id.to_string(), cipher_text: hex::encode(key.ciphertext) })
}

fn encrypted(length: usize, _: &Caller, key: SealedDataKey) -> Json<Encrypted> {
    let (key_id, cipher_text) = (key.key_id.to_string(), hex::encode(key.ciphertext));
    Json(Encrypted { key_id, cipher_text, datakey_length: length.to_string() })
}

fn decrypted(_: &Caller, key: DecryptedDataKey) -> Json<Decrypted> {
    let digest = SecretBytes::new(Sha256::digest(key.plaintext.expose_secret()).to_vec());
    Json(Decrypted {
        datakey_length: key.plaintext.len().to_string(),
        data_key: SecretHexadecimal(key.plaintext),
        datakey_dgst: SecretHexadecimal(digest),
    })
}

fn made(_: &Caller, random: SecretBytes) -> Json<Random> {
    Json(Random { random_data: SecretHexadecimal(random) })
}
