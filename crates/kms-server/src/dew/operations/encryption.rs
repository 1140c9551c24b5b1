//! Small data. What is encrypted is a text; ciphertexts are base64.

use http::Method;
use kms_core::{
    Error, SecretBytes,
    ciphertext::MAX_SEALED_BYTES,
    error::Field,
    identity::Caller,
    ops::{DecryptData, DecryptedData, EncryptData, EncryptedData, EncryptionAlgorithm},
};
use serde::{Deserialize, Serialize};

use crate::dew::{
    answer::Json,
    codes::{Code, Unfit},
    forms::{self, Pairs, Scalar, SecretBase64, SecretLossyText},
    json::JsonSecret,
    routes::{Asked, Row, row},
};

pub(super) fn rows() -> Vec<Row> {
    let post = Method::POST;
    vec![
        row(post.clone(), "/v1.0/{project_id}/kms/encrypt-data", encrypt, encrypted),
        row(post, "/v1.0/{project_id}/kms/decrypt-data", decrypt, decrypted),
    ]
}

#[derive(Deserialize)]
struct EncryptBody {
    key_id: Option<Scalar>,
    plain_text: Option<JsonSecret>,
    encryption_algorithm: Option<Scalar>,
    additional_authenticated_data: Option<Scalar>,
    encryption_context: Option<Pairs>,
}

#[derive(Deserialize)]
struct DecryptBody {
    key_id: Option<Scalar>,
    cipher_text: Option<Scalar>,
    encryption_algorithm: Option<Scalar>,
    additional_authenticated_data: Option<Scalar>,
    encryption_context: Option<Pairs>,
}

fn encrypt(asked: Asked<EncryptBody>) -> Result<EncryptData, Unfit> {
    let body = asked.body;
    let key = forms::key(body.key_id)?;
    let text = forms::required(body.plain_text, Field::Plaintext)?;
    let bytes = text.expose_secret().as_bytes();
    // DEW: plain_text, 4096 characters, which have no fewer bytes.
    if !(1..=MAX_SEALED_BYTES).contains(&bytes.len()) {
        return Err(Unfit::new(Code::PLAINTEXT_INVALID, Field::Plaintext, "must be 1 to 4096 bytes"));
    }
    let algorithm = algorithm(body.encryption_algorithm.as_ref())?;
    let context = forms::context(body.additional_authenticated_data, body.encryption_context)?;
    Ok(EncryptData::new(key, SecretBytes::new(bytes.to_vec()), algorithm, context)?)
}

fn decrypt(asked: Asked<DecryptBody>) -> Result<DecryptData, Unfit> {
    let body = asked.body;
    let ciphertext = forms::required_base64(body.cipher_text, Field::CiphertextBlob)?;
    let algorithm = algorithm(body.encryption_algorithm.as_ref())?;
    let key = match algorithm {
        EncryptionAlgorithm::SymmetricDefault => forms::optional_key(body.key_id)?,
        // DEW: required for what an asymmetric key encrypted, which does not name its key.
        _ => Some(forms::key(body.key_id)?),
    };
    let context = forms::context(body.additional_authenticated_data, body.encryption_context)?;
    Ok(DecryptData::new(&ciphertext, key, algorithm, context)?)
}

/// The name of what symmetric keys encrypt with.
pub(super) const SYMMETRIC_DEFAULT: &str = "SYMMETRIC_DEFAULT";

/// DEW: encryption_algorithm, SYMMETRIC_DEFAULT if it is not given.
pub(super) fn algorithm(name: Option<&Scalar>) -> Result<EncryptionAlgorithm, Unfit> {
    match forms::text(name) {
        "" | SYMMETRIC_DEFAULT => Ok(EncryptionAlgorithm::SymmetricDefault),
        "RSAES_OAEP_SHA_256" => Ok(EncryptionAlgorithm::RsaesOaepSha256),
        "RSAES_OAEP_SHA_1" => Ok(EncryptionAlgorithm::RsaesOaepSha1),
        "SM2_ENCRYPT" => Ok(EncryptionAlgorithm::Sm2Encrypt),
        _ => Err(Error::invalid(Field::Algorithm, "must be an algorithm, as SYMMETRIC_DEFAULT").into()),
    }
}

#[derive(Serialize)]
struct Encrypted {
    key_id: String,
    cipher_text: String,
}

#[derive(Serialize)]
struct Decrypted {
    key_id: String,
    plain_text: SecretLossyText,
    plain_text_base64: SecretBase64,
}

fn encrypted(_: &Caller, data: EncryptedData) -> Json<Encrypted> {
    Json(Encrypted { key_id: data.key_id.to_string(), cipher_text: forms::to_base64(&data.ciphertext) })
}

/// DEW: plain_text_base64 is what holds if the data is no text that can be shown.
fn decrypted(_: &Caller, data: DecryptedData) -> Json<Decrypted> {
    let copy = SecretBytes::new(data.plaintext.expose_secret().to_vec());
    Json(Decrypted {
        key_id: data.key_id.to_string(),
        plain_text: SecretLossyText(copy),
        plain_text_base64: SecretBase64(data.plaintext),
    })
}

#[cfg(test)]
mod tests {
    use kms_core::operation::OperationName;
    use serde_json::json;

    use super::*;
    use crate::dew::operations::anybody;

    const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    fn encrypting(text: &str, algorithm: Option<&str>) -> Result<EncryptData, Code> {
        let body = json!({"key_id": KEY, "plain_text": text, "encryption_algorithm": algorithm});
        encrypt(Asked::of(body)).map_err(|unfit| unfit.code(OperationName::EncryptData))
    }

    #[test]
    fn a_text_is_bounded_by_its_bytes() {
        assert!(encrypting(&"x".repeat(4096), None).is_ok());
        assert!(encrypting(&"\u{e9}".repeat(2048), Some("RSAES_OAEP_SHA_256")).is_ok());
        for wrong in [String::new(), "x".repeat(4097), "\u{e9}".repeat(2049)] {
            assert_eq!(encrypting(&wrong, None).err(), Some(Code::PLAINTEXT_INVALID));
        }
    }

    #[test]
    fn a_context_is_pairs_of_texts() {
        let refused = |context| {
            let body = json!({"key_id": KEY, "plain_text": "x", "encryption_context": context});
            encrypt(Asked::of(body)).err().map(|unfit| unfit.code(OperationName::EncryptData))
        };
        for context in [json!(null), json!({}), json!({"a": "b", "c": "\u{e9}"})] {
            assert_eq!(refused(context), None);
        }
        for wrong in
            [json!([]), json!([["a", "b"]]), json!("a"), json!({"a": 1}), json!({"a": "x".repeat(8192)})]
        {
            assert_eq!(refused(wrong), Some(Code::CONTEXT_INVALID));
        }
    }

    #[test]
    fn what_only_opens_does_not_encrypt() {
        assert_eq!(encrypting("x", Some("RSAES_OAEP_SHA_1")).err(), Some(Code::PARAMETER_INVALID));
        assert_eq!(encrypting("x", Some("AES_GCM")).err(), Some(Code::PARAMETER_INVALID));
    }

    #[test]
    fn what_an_asymmetric_key_encrypted_needs_its_key() {
        let refused =
            |body| decrypt(Asked::of(body)).err().map(|unfit| unfit.code(OperationName::DecryptData));
        let mut body = json!({"cipher_text": "AAAA", "encryption_algorithm": "RSAES_OAEP_SHA_256"});
        assert_eq!(refused(body.clone()), Some(Code::PARAMETER_MISSING));
        body["key_id"] = json!(KEY);
        assert_eq!(refused(body.clone()), None);
        body["cipher_text"] = json!("AAA"); // without its padding
        assert_eq!(refused(body), Some(Code::CIPHERTEXT_INVALID));
    }

    #[test]
    fn what_is_no_text_is_whole_in_base64() {
        let answered = |bytes: &[u8]| {
            let plaintext = SecretBytes::new(bytes.to_vec());
            let Json(answer) = decrypted(
                &anybody(),
                DecryptedData { key_id: KEY.parse().expect("a key id"), key_version: 1, plaintext },
            );
            serde_json::to_value(answer).expect("JSON")
        };
        let answer = answered("a\u{0}\u{e9}\"".as_bytes());
        assert_eq!(
            (&answer["plain_text"], &answer["plain_text_base64"]),
            (&json!("a\u{0}\u{e9}\""), &json!("YQDDqSI="))
        );
        let answer = answered(b"a\xff\xfeb\xe2\x82");
        assert_eq!(answer["plain_text"], json!("a\u{fffd}\u{fffd}b\u{fffd}"));
        assert_eq!(answer["plain_text_base64"], json!("Yf/+YuKC"));
    }
}
