//! Conversions of what is made and moved beside single data keys: batches, pairs, small data, re-encryptions.

use kms_core::{
    Error,
    error::Field,
    ops::{
        BatchSize, BatchedDataKey, DataKeyPairSpec, DecryptData, EncryptData, EncryptionAlgorithm,
        GenerateDataKeyPair, GenerateDataKeys, ReEncrypt,
    },
};
use kms_proto::v1;

use super::{either, generate, optional_key, required_key, secret, secret_field, spec};

pub(crate) fn generate_data_keys(request: v1::GenerateDataKeysRequest) -> Result<GenerateDataKeys, Error> {
    let context = either(request.encryption_context, &request.additional_authenticated_data);
    let each = generate(request.key, request.length, context)?;
    let count = BatchSize::parse(request.count)?;
    Ok(GenerateDataKeys { each, count, with_plaintext: request.with_plaintext })
}

pub(crate) fn data_keys(made: Vec<BatchedDataKey>) -> v1::GenerateDataKeysResponse {
    let key_id = made.first().map_or_else(String::new, |first| first.sealed.key_id.to_string());
    let data_keys = made.into_iter().map(|one| v1::GeneratedDataKey {
        key_version: one.sealed.key_version,
        plaintext: one.plaintext.map(secret_field).unwrap_or_default(),
        ciphertext_blob: one.sealed.ciphertext.into(),
    });
    v1::GenerateDataKeysResponse { key_id, data_keys: data_keys.collect() }
}

pub(crate) fn generate_data_key_pair(
    request: v1::GenerateDataKeyPairRequest,
) -> Result<GenerateDataKeyPair, Error> {
    let kind = Error::invalid(Field::KeyPairSpec, "must be the kind of an RSA, EC or SM2 key pair");
    Ok(GenerateDataKeyPair {
        key: required_key(request.key)?,
        spec: spec(request.key_pair_spec).ok().flatten().and_then(DataKeyPairSpec::of).ok_or(kind)?,
        with_plaintext: request.with_plaintext,
        encryption_context: either(request.encryption_context, &request.additional_authenticated_data)?,
    })
}

pub(crate) fn re_encrypt(request: v1::ReEncryptRequest) -> Result<ReEncrypt, Error> {
    ReEncrypt::new(
        &request.ciphertext_blob,
        optional_key(request.source_key)?,
        either(request.source_encryption_context, &request.source_additional_authenticated_data)?,
        required_key(request.destination_key)?,
        either(request.destination_encryption_context, &request.destination_additional_authenticated_data)?,
    )
}

pub(crate) fn encrypt_data(request: v1::EncryptDataRequest) -> Result<EncryptData, Error> {
    let plaintext = secret(request.plaintext);
    let context = either(request.encryption_context, &request.additional_authenticated_data)?;
    EncryptData::new(required_key(request.key)?, plaintext, encryption(request.algorithm)?, context)
}

pub(crate) fn decrypt_data(request: v1::DecryptDataRequest) -> Result<DecryptData, Error> {
    let context = either(request.encryption_context, &request.additional_authenticated_data)?;
    let (key, algorithm) = (optional_key(request.key)?, encryption(request.algorithm)?);
    DecryptData::new(&request.ciphertext_blob, key, algorithm, context)
}

fn encryption(number: i32) -> Result<EncryptionAlgorithm, Error> {
    use v1::EncryptionAlgorithm as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Unspecified | Wire::SymmetricDefault) => Ok(EncryptionAlgorithm::SymmetricDefault),
        Ok(Wire::RsaesOaepSha256) => Ok(EncryptionAlgorithm::RsaesOaepSha256),
        Ok(Wire::RsaesOaepSha1) => Ok(EncryptionAlgorithm::RsaesOaepSha1),
        Ok(Wire::Sm2Encrypt) => Ok(EncryptionAlgorithm::Sm2Encrypt),
        Err(_) => Err(Error::invalid(Field::Algorithm, "must be an algorithm of the contract")),
    }
}
