//! The service of signatures, message authentication codes and shared secrets.
#![allow(clippy::needless_pass_by_value, reason = "every request is converted by a function of one form")]

use bytes::Bytes;
use kms_core::{
    Error,
    crypto::{AgreementAlgorithm, MacAlgorithm, MessageType, SigningAlgorithm},
    error::Field,
    ops::{DeriveSharedSecret, GenerateMac, GetPublicKey, PublicHalf, Sign, Verify, VerifyMac},
    ports::DigestAlgorithm::{Sha256, Sha384, Sha512},
};
use kms_proto::v1::{self, signing_service_server::SigningService};
use tonic::{Request, Response, Status};

use super::{
    Grpc,
    convert::{required_key, secret_field, spec_of, usage_of},
};

#[tonic::async_trait]
impl SigningService for Grpc {
    async fn sign(&self, request: Request<v1::SignRequest>) -> Result<Response<v1::SignResponse>, Status> {
        self.answer(request, sign, |signature| v1::SignResponse {
            key_id: signature.key_id.to_string(),
            algorithm: wire(signature.algorithm, &SIGNING).into(),
            signature: signature.bytes.into(),
        })
        .await
    }

    async fn verify(
        &self,
        request: Request<v1::VerifyRequest>,
    ) -> Result<Response<v1::VerifyResponse>, Status> {
        self.answer(request, verify, |found| v1::VerifyResponse {
            key_id: found.key_id.to_string(),
            valid: found.valid,
        })
        .await
    }

    async fn get_public_key(
        &self,
        request: Request<v1::GetPublicKeyRequest>,
    ) -> Result<Response<v1::GetPublicKeyResponse>, Status> {
        self.answer(request, get_public_key, public_key).await
    }

    async fn generate_mac(
        &self,
        request: Request<v1::GenerateMacRequest>,
    ) -> Result<Response<v1::GenerateMacResponse>, Status> {
        self.answer(request, generate_mac, |mac| v1::GenerateMacResponse {
            key_id: mac.key_id.to_string(),
            algorithm: wire(mac.algorithm, &MACS).into(),
            mac: mac.bytes.into(),
        })
        .await
    }

    async fn verify_mac(
        &self,
        request: Request<v1::VerifyMacRequest>,
    ) -> Result<Response<v1::VerifyMacResponse>, Status> {
        self.answer(request, verify_mac, |found| v1::VerifyMacResponse {
            key_id: found.key_id.to_string(),
            valid: found.valid,
        })
        .await
    }

    async fn derive_shared_secret(
        &self,
        request: Request<v1::DeriveSharedSecretRequest>,
    ) -> Result<Response<v1::DeriveSharedSecretResponse>, Status> {
        self.answer(request, derive_shared_secret, |shared| v1::DeriveSharedSecretResponse {
            key_id: shared.key_id.to_string(),
            shared_secret: secret_field(shared.secret),
        })
        .await
    }
}

pub(crate) fn get_public_key(request: v1::GetPublicKeyRequest) -> Result<GetPublicKey, Error> {
    Ok(GetPublicKey { key: required_key(request.key)? })
}

pub(crate) fn sign(request: v1::SignRequest) -> Result<Sign, Error> {
    let (algorithm, message_type) = how(request.algorithm, request.message_type)?;
    Sign::new(required_key(request.key)?, algorithm, message_type, request.message.into())
}

pub(crate) fn verify(request: v1::VerifyRequest) -> Result<Verify, Error> {
    let (algorithm, message_type) = how(request.algorithm, request.message_type)?;
    let (key, message) = (required_key(request.key)?, request.message.into());
    Verify::new(key, algorithm, message_type, message, request.signature.into())
}

fn how(algorithm: i32, message_type: i32) -> Result<(SigningAlgorithm, MessageType), Error> {
    let message_type = match v1::MessageType::try_from(message_type) {
        Ok(v1::MessageType::Unspecified | v1::MessageType::Digest) => MessageType::Digest,
        Ok(v1::MessageType::Raw) => MessageType::Raw,
        Err(_) => return Err(Error::invalid(Field::MessageType, "must be a type of the contract")),
    };
    Ok((domain(algorithm, &SIGNING)?, message_type))
}

fn public_key(key: PublicHalf) -> v1::GetPublicKeyResponse {
    let algorithms = key.signing_algorithms.into_iter().map(|algorithm| wire(algorithm, &SIGNING).into());
    v1::GetPublicKeyResponse {
        key_id: key.key_id.to_string(),
        key_spec: spec_of(key.spec).into(),
        key_usage: usage_of(key.usage).into(),
        signing_algorithms: algorithms.collect(),
        public_key_der: Bytes::from(key.der),
        public_key_pem: key.pem,
    }
}

pub(crate) fn generate_mac(request: v1::GenerateMacRequest) -> Result<GenerateMac, Error> {
    let algorithm = domain(request.algorithm, &MACS)?;
    GenerateMac::new(required_key(request.key)?, algorithm, request.message.into())
}

pub(crate) fn verify_mac(request: v1::VerifyMacRequest) -> Result<VerifyMac, Error> {
    let algorithm = domain(request.algorithm, &MACS)?;
    VerifyMac::new(required_key(request.key)?, algorithm, request.message.into(), request.mac.into())
}

pub(crate) fn derive_shared_secret(
    request: v1::DeriveSharedSecretRequest,
) -> Result<DeriveSharedSecret, Error> {
    let algorithm = match v1::KeyAgreementAlgorithm::try_from(request.algorithm) {
        Ok(v1::KeyAgreementAlgorithm::Unspecified | v1::KeyAgreementAlgorithm::Ecdh) => {
            AgreementAlgorithm::Ecdh
        }
        Err(_) => return Err(UNKNOWN_ALGORITHM),
    };
    let key = required_key(request.key)?;
    Ok(DeriveSharedSecret { key, algorithm, public_key: request.public_key.into() })
}

const UNKNOWN_ALGORITHM: Error = Error::invalid(Field::Algorithm, "must be an algorithm of the contract");

/// The algorithms of signatures, as the contract numbers them.
const SIGNING: [(SigningAlgorithm, v1::SigningAlgorithm); 12] = [
    (SigningAlgorithm::RsaPss(Sha256), v1::SigningAlgorithm::RsassaPssSha256),
    (SigningAlgorithm::RsaPss(Sha384), v1::SigningAlgorithm::RsassaPssSha384),
    (SigningAlgorithm::RsaPss(Sha512), v1::SigningAlgorithm::RsassaPssSha512),
    (SigningAlgorithm::RsaPkcs1(Sha256), v1::SigningAlgorithm::RsassaPkcs1V15Sha256),
    (SigningAlgorithm::RsaPkcs1(Sha384), v1::SigningAlgorithm::RsassaPkcs1V15Sha384),
    (SigningAlgorithm::RsaPkcs1(Sha512), v1::SigningAlgorithm::RsassaPkcs1V15Sha512),
    (SigningAlgorithm::Ecdsa(Sha256), v1::SigningAlgorithm::EcdsaSha256),
    (SigningAlgorithm::Ecdsa(Sha384), v1::SigningAlgorithm::EcdsaSha384),
    (SigningAlgorithm::Ecdsa(Sha512), v1::SigningAlgorithm::EcdsaSha512),
    (SigningAlgorithm::Sm2Sm3, v1::SigningAlgorithm::Sm2dsaSm3),
    (SigningAlgorithm::Ed25519, v1::SigningAlgorithm::Ed25519Sha512),
    (SigningAlgorithm::Ed25519Ph, v1::SigningAlgorithm::Ed25519PhSha512),
];
/// The algorithms of HMACs, as the contract numbers them.
const MACS: [(MacAlgorithm, v1::MacAlgorithm); 4] = [
    (MacAlgorithm::HmacSha256, v1::MacAlgorithm::HmacSha256),
    (MacAlgorithm::HmacSha384, v1::MacAlgorithm::HmacSha384),
    (MacAlgorithm::HmacSha512, v1::MacAlgorithm::HmacSha512),
    (MacAlgorithm::HmacSm3, v1::MacAlgorithm::HmacSm3),
];

fn domain<D: Copy, W: Copy + Into<i32>>(number: i32, table: &[(D, W)]) -> Result<D, Error> {
    let found = table.iter().find(|(_, wire)| (*wire).into() == number);
    found.map(|(domain, _)| *domain).ok_or(UNKNOWN_ALGORITHM)
}

fn wire<D: Copy + PartialEq, W: Copy + Default>(algorithm: D, table: &[(D, W)]) -> W {
    table.iter().find(|(domain, _)| *domain == algorithm).map(|(_, wire)| *wire).unwrap_or_default()
}
