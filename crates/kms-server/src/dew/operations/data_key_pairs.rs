//! Data key pairs, and ciphertexts that move to another key. Sealed private halves are hexadecimal digits, as
//! decrypt-datakey takes them; halves in plain are base64.

use std::convert::Infallible;

use http::Method;
use kms_core::{
    error::Field,
    identity::Caller,
    key::KeySpec,
    ops::{
        CreatePin, DataKeyPair, DataKeyPairSpec, EncryptionAlgorithm, GenerateDataKeyPair, ReEncrypt,
        ReEncrypted,
    },
};
use serde::{Deserialize, Serialize};

use super::{data_keys, encryption};
use crate::dew::{
    answer::{Json, Nothing},
    codes::{Code, Unfit},
    forms::{self, Pairs, Scalar, SecretBase64},
    json::JsonSecret,
    routes::{Asked, Bodiless, Row, keeping, row},
};

/// The kinds of RSA pairs. DEW: key_spec of create-rsa-datakey-pair.
const RSA: &[(&str, KeySpec)] =
    &[("RSA_2048", KeySpec::Rsa2048), ("RSA_3072", KeySpec::Rsa3072), ("RSA_4096", KeySpec::Rsa4096)];
/// The kinds of EC pairs but for ECC_NIST_P521, which is not offered. DEW: key_spec of create-ec-datakey-pair.
const CURVES: &[(&str, KeySpec)] = &[
    ("ECC_NIST_P256", KeySpec::EcP256),
    ("ECC_NIST_P384", KeySpec::EcP384),
    ("ECC_SECG_P256K1", KeySpec::Secp256k1),
    ("SM2", KeySpec::Sm2),
];

pub(super) fn rows() -> Vec<Row> {
    let post = Method::POST;
    vec![
        keeping(
            post.clone(),
            "/v1.0/{project_id}/kms/create-rsa-datakey-pair",
            |asked| create(asked, RSA),
            created,
        ),
        keeping(
            post.clone(),
            "/v1.0/{project_id}/kms/create-ec-datakey-pair",
            |asked| create(asked, CURVES),
            created,
        ),
        keeping(post.clone(), "/v1.0/{project_id}/kms/re-encrypt", re_encrypt, re_encrypted),
        row(post, "/v1.0/{project_id}/kms/create-pin", |_: Asked<Bodiless>| Ok(CreatePin), not_offered),
    ]
}

#[derive(Deserialize)]
struct CreateBody {
    key_id: Option<Scalar>,
    key_spec: Option<Scalar>,
    with_plain_text: Option<Scalar>,
    additional_authenticated_data: Option<Scalar>,
    encryption_context: Option<Pairs>,
    pin: Option<JsonSecret>,
}

#[derive(Deserialize)]
struct ReEncryptBody {
    source_key_id: Option<Scalar>,
    source_additional_authenticated_data: Option<Scalar>,
    source_encryption_algorithm: Option<Scalar>,
    destination_key_id: Option<Scalar>,
    destination_additional_authenticated_data: Option<Scalar>,
    destination_encryption_algorithm: Option<Scalar>,
    datakey_cipher_length: Option<Scalar>,
    cipher_text: Option<Scalar>,
}

/// What a ciphertext is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Hexadecimal,
    Base64,
}

/// A pair of one of these kinds, and the kind's name.
fn create(
    asked: Asked<CreateBody>,
    kinds: &[(&'static str, KeySpec)],
) -> Result<(GenerateDataKeyPair, &'static str), Unfit> {
    let body = asked.body;
    forms::no_pin(body.pin.as_ref())?;
    let key = forms::key(body.key_id)?;
    let name = forms::required(body.key_spec, Field::KeyPairSpec)?;
    let kind = kinds.iter().find(|(known, _)| *known == name.as_str());
    let kind = kind.and_then(|(name, spec)| Some((*name, DataKeyPairSpec::of(*spec)?)));
    let (name, spec) = kind.ok_or(Unfit::new(
        Code::DATA_KEY_SPEC,
        Field::KeyPairSpec,
        "must be RSA_2048, RSA_3072 or RSA_4096; or ECC_NIST_P256, ECC_NIST_P384, ECC_SECG_P256K1 or SM2",
    ))?;
    // DEW: with_plain_text, true if it is not given.
    let with_plaintext =
        body.with_plain_text.map_or(Ok(true), |plain| forms::truth_of(plain.as_str(), Field::Body))?;
    let encryption_context = forms::context(body.additional_authenticated_data, body.encryption_context)?;
    Ok((GenerateDataKeyPair { key, spec, with_plaintext, encryption_context }, name))
}

fn re_encrypt(asked: Asked<ReEncryptBody>) -> Result<(ReEncrypt, Form), Unfit> {
    let body = asked.body;
    let destination = forms::key(body.destination_key_id)?;
    let source = forms::optional_key(body.source_key_id)?;
    symmetric(body.source_encryption_algorithm.as_ref())?;
    symmetric(body.destination_encryption_algorithm.as_ref())?;
    let ciphertext = forms::required(body.cipher_text, Field::CiphertextBlob)?;
    let length = body.datakey_cipher_length.filter(|length| !length.as_str().is_empty());
    let length = length.map(|length| data_keys::sealed_length(Some(length))).transpose()?;
    // DEW: not stated; datakey_cipher_length is for data keys, whose ciphertexts are hexadecimal digits.
    let (ciphertext, form) = match length {
        Some(_) => (forms::hexadecimal(ciphertext.as_str(), Field::CiphertextBlob)?, Form::Hexadecimal),
        None => (forms::base64(ciphertext.as_str(), Field::CiphertextBlob)?, Form::Base64),
    };
    let source_context = forms::context(body.source_additional_authenticated_data, None)?;
    let destination_context = forms::context(body.destination_additional_authenticated_data, None)?;
    let operation = ReEncrypt::new(&ciphertext, source, source_context, destination, destination_context)?;
    if let Some(length) = length {
        data_keys::check_sealed_length(operation.plaintext_length(), length)?;
    }
    Ok((operation, form))
}

/// Only symmetric keys move what they sealed.
fn symmetric(algorithm: Option<&Scalar>) -> Result<(), Unfit> {
    match encryption::algorithm(algorithm)? {
        EncryptionAlgorithm::SymmetricDefault => Ok(()),
        _ => Err(Unfit::new(
            Code::ASYMMETRIC_UNSUPPORTED,
            Field::Algorithm,
            "must be SYMMETRIC_DEFAULT: ciphertexts of asymmetric keys do not move",
        )),
    }
}

// DEW: the forms of the halves are not stated. A public key is written as derive-shared-secret takes one.
#[derive(Serialize)]
struct Created {
    key_id: String,
    key_spec: &'static str,
    public_key: String,
    private_key_cipher_text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key_plain_text: Option<SecretBase64>,
}

#[derive(Serialize)]
struct Moved {
    key_id: String,
    source_key_id: String,
    source_encryption_algorithm: &'static str,
    destination_encryption_algorithm: &'static str,
    cipher_text: String,
}

fn created(key_spec: &'static str, _: &Caller, pair: DataKeyPair) -> Json<Created> {
    Json(Created {
        key_id: pair.key_id.to_string(),
        key_spec,
        public_key: forms::to_base64(&pair.public_key),
        private_key_cipher_text: hex::encode(pair.ciphertext),
        private_key_plain_text: pair.private_key.map(SecretBase64),
    })
}

fn re_encrypted(form: Form, _: &Caller, moved: ReEncrypted) -> Json<Moved> {
    let cipher_text = match form {
        Form::Hexadecimal => hex::encode(moved.ciphertext),
        Form::Base64 => forms::to_base64(&moved.ciphertext),
    };
    Json(Moved {
        key_id: moved.key_id.to_string(),
        source_key_id: moved.source_key_id.to_string(),
        source_encryption_algorithm: encryption::SYMMETRIC_DEFAULT,
        destination_encryption_algorithm: encryption::SYMMETRIC_DEFAULT,
        cipher_text,
    })
}

fn not_offered(_: &Caller, never: Infallible) -> Nothing {
    match never {}
}

#[cfg(test)]
mod tests {
    use kms_core::{
        SecretBytes,
        ciphertext::{HEADER_BYTES, TAG_BYTES},
        operation::OperationName,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::dew::operations::anybody;

    const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    fn creating(
        kinds: &[(&'static str, KeySpec)],
        spec: &str,
        plain: Value,
    ) -> Result<(bool, &'static str), Code> {
        let body = json!({"key_id": KEY, "key_spec": spec, "with_plain_text": plain});
        let created = create(Asked::of(body), kinds).map(|(pair, name)| (pair.with_plaintext, name));
        created.map_err(|unfit| unfit.code(OperationName::GenerateDataKeyPair))
    }

    #[test]
    fn each_call_makes_pairs_of_its_own_kinds() {
        assert_eq!(creating(RSA, "RSA_3072", Value::Null), Ok((true, "RSA_3072")));
        assert_eq!(creating(CURVES, "ECC_SECG_P256K1", json!(false)), Ok((false, "ECC_SECG_P256K1")));
        assert_eq!(creating(CURVES, "SM2", json!("true")), Ok((true, "SM2")));
        for (kinds, spec) in
            [(RSA, "ECC_NIST_P256"), (CURVES, "RSA_2048"), (CURVES, "ECC_NIST_P521"), (RSA, "")]
        {
            assert_eq!(creating(kinds, spec, Value::Null), Err(Code::DATA_KEY_SPEC));
        }
    }

    /// A ciphertext of this service's form that holds a data key of so many bytes; no key opens it.
    fn ciphertext(bytes: usize) -> Vec<u8> {
        let mut ciphertext = vec![0; HEADER_BYTES + bytes + TAG_BYTES];
        ciphertext[..4].copy_from_slice(&[1, 1, 1, 1]);
        ciphertext
    }

    #[test]
    fn a_ciphertext_is_answered_as_it_came() {
        let moving = |text: String, length: Option<&str>| {
            let body =
                json!({"destination_key_id": KEY, "cipher_text": text, "datakey_cipher_length": length});
            let moving = re_encrypt(Asked::of(body)).map(|(_, form)| form);
            moving.map_err(|unfit| unfit.code(OperationName::ReEncrypt))
        };
        let (digits, base64) = (|| hex::encode_upper(ciphertext(64)), || forms::to_base64(&ciphertext(64)));
        assert_eq!(moving(digits(), Some("64")), Ok(Form::Hexadecimal));
        assert_eq!(
            (moving(base64(), None), moving(base64(), Some(""))),
            (Ok(Form::Base64), Ok(Form::Base64))
        );
        assert_eq!(moving(digits(), Some("63")), Err(Code::CIPHERTEXT_LENGTH_MISMATCH));
        assert_eq!(moving(digits(), Some("4097")), Err(Code::CIPHERTEXT_LENGTH));
        assert_eq!(moving(base64(), Some("64")), Err(Code::CIPHERTEXT_INVALID));
        assert_eq!(moving(digits(), None), Err(Code::CIPHERTEXT_INVALID));
    }

    #[test]
    fn only_symmetric_keys_move_what_they_sealed() {
        let moving = |field: &str, algorithm: &str| {
            let text = forms::to_base64(&ciphertext(64));
            let mut body = json!({"destination_key_id": KEY, "cipher_text": text});
            body[field] = json!(algorithm);
            re_encrypt(Asked::of(body)).err().map(|unfit| unfit.code(OperationName::ReEncrypt))
        };
        for field in ["source_encryption_algorithm", "destination_encryption_algorithm"] {
            assert_eq!(moving(field, "SYMMETRIC_DEFAULT"), None);
            assert_eq!(moving(field, "RSAES_OAEP_SHA_256"), Some(Code::ASYMMETRIC_UNSUPPORTED));
            assert_eq!(moving(field, "AES"), Some(Code::PARAMETER_INVALID));
        }
    }

    #[test]
    fn a_half_in_plain_is_there_only_if_it_was_asked_for() {
        let answered = |private_key: Option<&[u8]>| {
            let private_key = private_key.map(|bytes| SecretBytes::new(bytes.to_vec()));
            let key_id = KEY.parse().expect("a key id");
            let pair = DataKeyPair {
                key_id,
                key_version: 1,
                public_key: vec![0],
                ciphertext: vec![0xab],
                private_key,
            };
            let Json(answer) = created("SM2", &anybody(), pair);
            serde_json::to_value(answer).expect("JSON")
        };
        let mut body =
            json!({"key_id": KEY, "key_spec": "SM2", "public_key": "AA==", "private_key_cipher_text": "ab"});
        assert_eq!(answered(None), body);
        body["private_key_plain_text"] = json!("AQ==");
        assert_eq!(answered(Some(&[1])), body);
    }
}
