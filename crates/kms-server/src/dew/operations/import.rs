//! Imported material. All bytes are base64, times are numbers of seconds.

use http::Method;
use kms_core::{
    Timestamp,
    error::Field,
    identity::Caller,
    key::KeyRecord,
    ops::{
        DeleteImportedKeyMaterial, GetParametersForImport, ImportKeyMaterial, ImportParameters,
        WrappingAlgorithm,
    },
};
use serde::{Deserialize, Serialize};

use super::keys::KeyBody;
use crate::dew::{
    answer::{Json, Nothing},
    codes::{Code, Unfit},
    forms::{self, Scalar},
    routes::{Asked, Row, row},
};

pub(super) fn rows() -> Vec<Row> {
    let post = Method::POST;
    vec![
        row(post.clone(), "/v1.0/{project_id}/kms/get-parameters-for-import", get_parameters, parameters),
        row(post.clone(), "/v1.0/{project_id}/kms/import-key-material", import, done),
        row(post, "/v1.0/{project_id}/kms/delete-imported-key-material", delete, done),
    ]
}

#[derive(Deserialize)]
struct ParametersBody {
    key_id: Option<Scalar>,
    wrapping_algorithm: Option<Scalar>,
}

#[derive(Deserialize)]
struct ImportBody {
    key_id: Option<Scalar>,
    import_token: Option<Scalar>,
    encrypted_key_material: Option<Scalar>,
    encrypted_privatekey: Option<Scalar>,
    expiration_time: Option<Scalar>,
}

fn get_parameters(asked: Asked<ParametersBody>) -> Result<GetParametersForImport, Unfit> {
    let key = forms::key_id(asked.body.key_id)?;
    let algorithm = forms::required(asked.body.wrapping_algorithm, Field::WrappingAlgorithm)?;
    Ok(GetParametersForImport { key, algorithm: WrappingAlgorithm::parse(algorithm.as_str())? })
}

fn import(asked: Asked<ImportBody>) -> Result<ImportKeyMaterial, Unfit> {
    let body = asked.body;
    Ok(ImportKeyMaterial {
        key: forms::key_id(body.key_id)?,
        token: forms::required_base64(body.import_token, Field::ImportToken)?,
        wrapped_material: forms::required_base64(body.encrypted_key_material, Field::WrappedMaterial)?,
        wrapped_private_key: wrapped_private_key(body.encrypted_privatekey.as_ref())?,
        expires: expires(body.expiration_time.as_ref())?,
    })
}

/// An empty text is none. DEW: KMS.2609.
fn wrapped_private_key(text: Option<&Scalar>) -> Result<Option<Vec<u8>>, Unfit> {
    let text = forms::text(text);
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |unfit: Unfit| Unfit { code: Some(Code::PRIVATE_KEY_INVALID), ..unfit };
    forms::base64(text, Field::WrappedPrivateKey).map(Some).map_err(invalid)
}

/// An empty text is none.
fn expires(seconds: Option<&Scalar>) -> Result<Option<Timestamp>, Unfit> {
    match forms::text(seconds) {
        "" => Ok(None),
        // Milliseconds, as of other times, are refused: they would be a year far from all that anybody means.
        seconds => forms::moment_of_seconds(seconds).map(Some).ok_or(Unfit::new(
            Code::MATERIAL_EXPIRY,
            Field::ExpiresAt,
            "must be a number of seconds since 1970, up to the year 9999",
        )),
    }
}

fn delete(asked: Asked<KeyBody>) -> Result<DeleteImportedKeyMaterial, Unfit> {
    Ok(DeleteImportedKeyMaterial { key: forms::key_id(asked.body.key_id)? })
}

#[derive(Serialize)]
struct Parameters {
    key_id: String,
    import_token: String,
    expiration_time: i64,
    public_key: String,
}

fn parameters(_: &Caller, parameters: ImportParameters) -> Json<Parameters> {
    Json(Parameters {
        key_id: parameters.key_id.to_string(),
        import_token: forms::to_base64(&parameters.token),
        expiration_time: forms::seconds(parameters.expires),
        public_key: forms::to_base64(&parameters.public_key),
    })
}

fn done(_: &Caller, _: KeyRecord) -> Nothing {
    Nothing
}

#[cfg(test)]
mod tests {
    use kms_core::operation::OperationName;
    use serde_json::{Value, json};

    use super::*;
    use crate::dew::operations::anybody;

    const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    /// An import that can be read, with this field as it is given.
    fn importing(field: &str, value: Value) -> Result<ImportKeyMaterial, Code> {
        let mut body = json!({"key_id": KEY, "import_token": "AAAA", "encrypted_key_material": "AAAA"});
        body[field] = value;
        import(Asked::of(body)).map_err(|unfit| unfit.code(OperationName::ImportKeyMaterial))
    }

    #[test]
    fn an_expiry_is_a_number_of_seconds() {
        let expiry = |value| importing("expiration_time", value).map(|import| import.expires);
        let moment = Timestamp::from_micros(1_550_291_833_000_000);
        assert_eq!(expiry(json!(1_550_291_833)), Ok(Some(moment)));
        assert_eq!(expiry(json!("1550291833")), Ok(Some(moment)));
        assert_eq!((expiry(Value::Null), expiry(json!(""))), (Ok(None), Ok(None)));
        for wrong in [json!(-1), json!("soon"), json!(1_550_291_833_000_i64), json!(u64::MAX)] {
            assert_eq!(expiry(wrong), Err(Code::MATERIAL_EXPIRY));
        }
    }

    #[test]
    fn each_part_has_its_code() {
        let refused = |field, value: &str| importing(field, json!(value)).err();
        assert_eq!(refused("import_token", "?"), Some(Code::IMPORT_TOKEN_INVALID));
        assert_eq!(refused("encrypted_key_material", "?"), Some(Code::MATERIAL_UNREADABLE));
        assert_eq!(refused("encrypted_privatekey", "?"), Some(Code::PRIVATE_KEY_INVALID));
        assert_eq!(importing("import_token", Value::Null).err(), Some(Code::PARAMETER_MISSING));
        let private_key = |value| importing("encrypted_privatekey", value).map(|one| one.wrapped_private_key);
        assert_eq!(private_key(json!("AAAA")), Ok(Some(vec![0; 3])));
        assert_eq!(private_key(json!("")), Ok(None));
    }

    #[test]
    fn parameters_end_at_a_number_of_seconds() {
        let key_id = KEY.parse().expect("a key id");
        let expires = Timestamp::from_micros(1_501_578_672_999_999);
        let answer = ImportParameters { key_id, token: vec![0], public_key: vec![1], expires };
        let Json(answer) = parameters(&anybody(), answer);
        let answer = serde_json::to_value(answer).expect("JSON");
        assert_eq!(answer["expiration_time"], json!(1_501_578_672));
        assert_eq!((&answer["import_token"], &answer["public_key"]), (&json!("AA=="), &json!("AQ==")));
    }
}
