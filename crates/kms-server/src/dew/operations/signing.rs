//! Signatures, message authentication codes and shared secrets. All bytes are base64 but for codes, which are
//! hexadecimal digits, and public keys, which are answered as PEM.

use http::Method;
use kms_core::{
    Error,
    crypto::{AgreementAlgorithm, MacAlgorithm, MessageType, SigningAlgorithm},
    error::Field,
    identity::Caller,
    ops::{
        DeriveSharedSecret, GenerateMac, GetPublicKey, MessageMac, PublicHalf, SharedSecret, Sign, Signature,
        Validity, Verify, VerifyMac,
    },
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::keys::KeyBody;
use crate::dew::{
    answer::Json,
    codes::{Code, Unfit},
    forms::{self, Scalar, SecretBase64},
    json::JsonSecret,
    routes::{Asked, Row, keeping, row},
};

/// The only key agreement. DEW: key_agreement_algorithm.
const ECDH: &str = "ECDH";

pub(super) fn rows() -> Vec<Row> {
    let post = Method::POST;
    vec![
        row(post.clone(), "/v1.0/{project_id}/kms/sign", sign, signed),
        row(post.clone(), "/v1.0/{project_id}/kms/verify", verify, verified),
        row(post.clone(), "/v1.0/{project_id}/kms/get-publickey", get_public_key, public_key),
        row(post.clone(), "/v1.0/{project_id}/kms/derive-shared-secret", derive_shared_secret, derived),
        row(post.clone(), "/v1.0/{project_id}/kms/generate-mac", generate_mac, mac),
        keeping(post, "/v1.0/{project_id}/kms/verify-mac", verify_mac, verified_mac),
    ]
}

#[derive(Deserialize)]
struct SignBody {
    key_id: Option<Scalar>,
    message: Option<JsonSecret>,
    signing_algorithm: Option<Scalar>,
    message_type: Option<Scalar>,
}

#[derive(Deserialize)]
struct VerifyBody {
    key_id: Option<Scalar>,
    message: Option<JsonSecret>,
    signature: Option<Scalar>,
    signing_algorithm: Option<Scalar>,
    message_type: Option<Scalar>,
}

#[derive(Deserialize)]
struct DeriveBody {
    key_id: Option<Scalar>,
    key_agreement_algorithm: Option<Scalar>,
    public_key: Option<Scalar>,
    recipient: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct GenerateMacBody {
    key_id: Option<Scalar>,
    mac_algorithm: Option<Scalar>,
    message: Option<JsonSecret>,
}

#[derive(Deserialize)]
struct VerifyMacBody {
    key_id: Option<Scalar>,
    mac_algorithm: Option<Scalar>,
    message: Option<JsonSecret>,
    mac: Option<Scalar>,
}

fn sign(asked: Asked<SignBody>) -> Result<Sign, Unfit> {
    let body = asked.body;
    let key = forms::key(body.key_id)?;
    let message = forms::required_secret_base64(body.message.as_ref(), Field::Message)?;
    let algorithm = signing_algorithm(body.signing_algorithm)?;
    let message_type = message_type(body.message_type.as_ref())?;
    Sign::new(key, algorithm, message_type, message).map_err(|error| of_message(error, message_type))
}

fn verify(asked: Asked<VerifyBody>) -> Result<Verify, Unfit> {
    let body = asked.body;
    let key = forms::key(body.key_id)?;
    let message = forms::required_secret_base64(body.message.as_ref(), Field::Message)?;
    let signature = forms::required_base64(body.signature, Field::Signature)?;
    let algorithm = signing_algorithm(body.signing_algorithm)?;
    let message_type = message_type(body.message_type.as_ref())?;
    Verify::new(key, algorithm, message_type, message, signature)
        .map_err(|error| of_message(error, message_type))
}

/// DEW: KMS.0329 for a digest that is not as long as those of the algorithm.
fn of_message(error: Error, message_type: MessageType) -> Unfit {
    let is_length = message_type == MessageType::Digest
        && matches!(error, Error::InvalidField { field: Field::Message, .. });
    Unfit { code: is_length.then_some(Code::DIGEST_LENGTH), error }
}

fn signing_algorithm(name: Option<Scalar>) -> Result<SigningAlgorithm, Unfit> {
    let name = forms::required(name, Field::Algorithm)?;
    let found = SigningAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name.as_str());
    Ok(found.ok_or(Error::invalid(Field::Algorithm, "must be an algorithm, as ECDSA_SHA_256"))?)
}

/// DEW: message_type, DIGEST if it is not given.
fn message_type(name: Option<&Scalar>) -> Result<MessageType, Unfit> {
    match forms::text(name) {
        "" | "DIGEST" => Ok(MessageType::Digest),
        "RAW" => Ok(MessageType::Raw),
        _ => Err(Error::invalid(Field::MessageType, "must be DIGEST or RAW").into()),
    }
}

fn get_public_key(asked: Asked<KeyBody>) -> Result<GetPublicKey, Unfit> {
    Ok(GetPublicKey { key: forms::key(asked.body.key_id)? })
}

fn derive_shared_secret(asked: Asked<DeriveBody>) -> Result<DeriveSharedSecret, Unfit> {
    let body = asked.body;
    let key = forms::key(body.key_id)?;
    if forms::required(body.key_agreement_algorithm, Field::Algorithm)?.as_str() != ECDH {
        return Err(Error::invalid(Field::Algorithm, "must be ECDH").into());
    }
    // Who expects a secret that only an enclave can read must not be sent it in plain.
    if body.recipient.is_some() {
        let problem = "must have no recipient: there are no enclaves here";
        return Err(Unfit::new(Code::PARAMETER_INVALID, Field::Body, problem));
    }
    let public_key = forms::required_base64(body.public_key, Field::PublicKey)?;
    Ok(DeriveSharedSecret { key, algorithm: AgreementAlgorithm::Ecdh, public_key })
}

fn generate_mac(asked: Asked<GenerateMacBody>) -> Result<GenerateMac, Unfit> {
    let body = asked.body;
    let (key, algorithm) = (forms::key(body.key_id)?, mac_algorithm(body.mac_algorithm)?);
    Ok(GenerateMac::new(
        key,
        algorithm,
        forms::required_secret_base64(body.message.as_ref(), Field::Message)?,
    )?)
}

fn verify_mac(asked: Asked<VerifyMacBody>) -> Result<(VerifyMac, MacAlgorithm), Unfit> {
    let body = asked.body;
    let (key, algorithm) = (forms::key(body.key_id)?, mac_algorithm(body.mac_algorithm)?);
    let message = forms::required_secret_base64(body.message.as_ref(), Field::Message)?;
    let mac = forms::hexadecimal(forms::required(body.mac, Field::Mac)?.as_str(), Field::Mac)?;
    Ok((VerifyMac::new(key, algorithm, message, mac)?, algorithm))
}

fn mac_algorithm(name: Option<Scalar>) -> Result<MacAlgorithm, Unfit> {
    let name = forms::required(name, Field::Algorithm)?;
    let found = MacAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name.as_str());
    Ok(found.ok_or(Error::invalid(Field::Algorithm, "must be an algorithm, as HMAC_SHA_256"))?)
}

#[derive(Serialize)]
struct Signed {
    key_id: String,
    signature: String,
}

#[derive(Serialize)]
struct Verified {
    key_id: String,
    signature_valid: &'static str,
}

#[derive(Serialize)]
struct PublicKey {
    key_id: String,
    public_key: String,
}

#[derive(Serialize)]
struct Derived {
    key_id: String,
    key_agreement_algorithm: &'static str,
    shared_secret: SecretBase64,
}

#[derive(Serialize)]
struct Authenticated {
    key_id: String,
    mac_algorithm: &'static str,
    mac: String,
}

#[derive(Serialize)]
struct VerifiedMac {
    key_id: String,
    mac_algorithm: &'static str,
    mac_valid: bool,
}

fn signed(_: &Caller, signature: Signature) -> Json<Signed> {
    Json(Signed { key_id: signature.key_id.to_string(), signature: forms::to_base64(&signature.bytes) })
}

// DEW: not stated; a signature that is another's is no error, as the answer has a word for it.
fn verified(_: &Caller, found: Validity) -> Json<Verified> {
    Json(Verified { key_id: found.key_id.to_string(), signature_valid: forms::truth(found.valid) })
}

/// DEW: the lines of a public key end in CR LF.
fn public_key(_: &Caller, key: PublicHalf) -> Json<PublicKey> {
    Json(PublicKey { key_id: key.key_id.to_string(), public_key: key.pem.replace('\n', "\r\n") })
}

fn derived(_: &Caller, shared: SharedSecret) -> Json<Derived> {
    let (key_id, shared_secret) = (shared.key_id.to_string(), SecretBase64(shared.secret));
    Json(Derived { key_id, key_agreement_algorithm: ECDH, shared_secret })
}

fn mac(_: &Caller, mac: MessageMac) -> Json<Authenticated> {
    let (key_id, mac_algorithm) = (mac.key_id.to_string(), mac.algorithm.name());
    Json(Authenticated { key_id, mac_algorithm, mac: hex::encode(mac.bytes) })
}

fn verified_mac(algorithm: MacAlgorithm, _: &Caller, found: Validity) -> Json<VerifiedMac> {
    let (key_id, mac_algorithm) = (found.key_id.to_string(), algorithm.name());
    Json(VerifiedMac { key_id, mac_algorithm, mac_valid: found.valid })
}

#[cfg(test)]
mod tests {
    use kms_core::operation::OperationName;
    use serde_json::{Value, json};

    use super::*;
    use crate::dew::operations::anybody;

    const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    fn refused<B, O>(
        parse: fn(Asked<B>) -> Result<O, Unfit>,
        operation: OperationName,
        body: Value,
    ) -> Option<Code>
    where
        B: serde::de::DeserializeOwned,
    {
        parse(Asked::of(body)).err().map(|unfit| unfit.code(operation))
    }

    #[test]
    fn digests_are_as_long_as_the_algorithm_makes_them() {
        let refused = |algorithm: &str, length, message_type: Option<&str>| {
            let message = forms::to_base64(&vec![1; length]);
            let body = json!({
                "key_id": KEY, "message": message, "signing_algorithm": algorithm, "message_type": message_type,
                "signature": "AAAA",
            });
            let of_sign = refused(sign, OperationName::Sign, body.clone());
            assert_eq!(of_sign, refused(verify, OperationName::Verify, body));
            of_sign
        };
        for algorithm in SigningAlgorithm::ALL.map(SigningAlgorithm::name) {
            assert_eq!(refused(algorithm, 4096, Some("RAW")), None);
            assert_eq!(refused(algorithm, 4097, Some("RAW")), Some(Code::PARAMETER_INVALID));
        }
        assert_eq!(refused("ECDSA_SHA_256", 32, None), None);
        assert_eq!(refused("RSASSA_PSS_SHA_384", 48, Some("DIGEST")), None);
        assert_eq!(refused("RSASSA_PKCS1_V1_5_SHA_512", 64, None), None);
        for (algorithm, length) in [("ECDSA_SHA_256", 48), ("SM2DSA_SM3", 64), ("ED25519_PH_SHA_512", 32)] {
            assert_eq!(refused(algorithm, length, None), Some(Code::DIGEST_LENGTH));
            assert_eq!(refused(algorithm, 0, None), Some(Code::DIGEST_LENGTH));
        }
        assert_eq!(refused("ED25519_SHA_512", 64, None), Some(Code::PARAMETER_INVALID)); // takes no digest
        assert_eq!(refused("ECDSA", 32, None), Some(Code::PARAMETER_INVALID));
        assert_eq!(refused("ECDSA_SHA_256", 32, Some("raw")), Some(Code::PARAMETER_INVALID));
    }

    #[test]
    fn codes_are_hexadecimal_digits_of_either_case() {
        let refused = |mac| {
            let body = json!({"key_id": KEY, "mac_algorithm": "HMAC_SM3", "message": "AAAA", "mac": mac});
            refused(verify_mac, OperationName::VerifyMac, body)
        };
        assert_eq!((refused("00aB"), refused("00aB0")), (None, Some(Code::PARAMETER_INVALID)));
        assert_eq!(
            (refused("Zm9v"), refused("")),
            (Some(Code::PARAMETER_INVALID), Some(Code::PARAMETER_INVALID))
        );
    }

    #[test]
    fn no_secret_goes_to_who_expects_it_for_an_enclave() {
        let refused = |recipient| {
            let body = json!({
                "key_id": KEY, "key_agreement_algorithm": ECDH, "public_key": "AAAA", "recipient": recipient,
            });
            refused(derive_shared_secret, OperationName::DeriveSharedSecret, body)
        };
        assert_eq!(refused(Value::Null), None);
        assert_eq!(refused(json!({})), Some(Code::PARAMETER_INVALID));
        assert_eq!(refused(json!({"attestation_document": "AAAA"})), Some(Code::PARAMETER_INVALID));
    }

    #[test]
    fn truth_is_a_word_for_signatures_and_a_value_for_codes() {
        let (key_id, caller) = (KEY.parse().expect("a key id"), anybody());
        let Json(answer) = verified(&caller, Validity { key_id, valid: false });
        let signature = serde_json::to_value(answer).expect("JSON");
        assert_eq!(signature, json!({"key_id": KEY, "signature_valid": "false"}));
        let Json(answer) = verified_mac(MacAlgorithm::HmacSm3, &caller, Validity { key_id, valid: true });
        let mac = serde_json::to_value(answer).expect("JSON");
        assert_eq!(mac, json!({"key_id": KEY, "mac_algorithm": "HMAC_SM3", "mac_valid": true}));
    }
}
