//! Which algorithms keys have, and what a signature is made over.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{PublicKey, digest, sm2_dsa};
use crate::{
    error::{Error, Field},
    key::{KeyClass, KeySpec},
    ports::DigestAlgorithm,
    secret::SecretBytes,
};

/// The longest message that is signed or authenticated, in bytes. DEW: message of sign and generate-mac.
const MAX_MESSAGE_BYTES: usize = 4096;

/// How a key signs.
// DEW: §3, signing_algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// RSASSA-PSS, the salt as long as the digest. RFC 8017 §8.1.
    RsaPss(DigestAlgorithm),
    /// RSASSA-PKCS1-v1_5. RFC 8017 §8.2.
    RsaPkcs1(DigestAlgorithm),
    /// ECDSA, in DER. FIPS 186-5 §6.
    Ecdsa(DigestAlgorithm),
    /// SM2 with SM3, in DER. GB/T 32918.2.
    Sm2Sm3,
    /// Ed25519 over the message itself. RFC 8032 §5.1.
    Ed25519,
    /// Ed25519ph: over a SHA-512 digest. RFC 8032 §5.1.
    Ed25519Ph,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::RsaPss(DigestAlgorithm::Sha256),
        Self::RsaPss(DigestAlgorithm::Sha384),
        Self::RsaPss(DigestAlgorithm::Sha512),
        Self::RsaPkcs1(DigestAlgorithm::Sha256),
        Self::RsaPkcs1(DigestAlgorithm::Sha384),
        Self::RsaPkcs1(DigestAlgorithm::Sha512),
        Self::Ecdsa(DigestAlgorithm::Sha256),
        Self::Ecdsa(DigestAlgorithm::Sha384),
        Self::Ecdsa(DigestAlgorithm::Sha512),
        Self::Sm2Sm3,
        Self::Ed25519,
        Self::Ed25519Ph,
    ];

    /// The name in DEW's API.
    pub const fn name(self) -> &'static str {
        use DigestAlgorithm::{Sha256, Sha384, Sha512};
        match self {
            Self::RsaPss(Sha256) => "RSASSA_PSS_SHA_256",
            Self::RsaPss(Sha384) => "RSASSA_PSS_SHA_384",
            Self::RsaPss(Sha512) => "RSASSA_PSS_SHA_512",
            Self::RsaPkcs1(Sha256) => "RSASSA_PKCS1_V1_5_SHA_256",
            Self::RsaPkcs1(Sha384) => "RSASSA_PKCS1_V1_5_SHA_384",
            Self::RsaPkcs1(Sha512) => "RSASSA_PKCS1_V1_5_SHA_512",
            Self::Ecdsa(Sha256) => "ECDSA_SHA_256",
            Self::Ecdsa(Sha384) => "ECDSA_SHA_384",
            Self::Ecdsa(Sha512) => "ECDSA_SHA_512",
            Self::Sm2Sm3 => "SM2DSA_SM3",
            Self::Ed25519 => "ED25519_SHA_512",
            Self::Ed25519Ph => "ED25519_PH_SHA_512",
        }
    }

    /// Whether keys of this kind sign with it.
    pub const fn is_for(self, spec: KeySpec) -> bool {
        matches!(
            (self, spec.class()),
            (Self::RsaPss(_) | Self::RsaPkcs1(_), KeyClass::Rsa)
                | (Self::Ecdsa(_), KeyClass::EllipticCurve)
                | (Self::Sm2Sm3, KeyClass::Sm2)
                | (Self::Ed25519 | Self::Ed25519Ph, KeyClass::Edwards)
        )
    }

    /// The length of the digests that it signs; `None` if it signs messages only.
    const fn digest_bytes(self) -> Option<usize> {
        match self {
            Self::RsaPss(hash) | Self::RsaPkcs1(hash) | Self::Ecdsa(hash) => Some(hash.bytes()),
            Self::Sm2Sm3 => Some(32),
            Self::Ed25519Ph => Some(64),
            Self::Ed25519 => None,
        }
    }
}

/// Whether a call gives a message, or its digest already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// The message.
    Raw,
    /// Its digest; for SM2 that of `Z || M`.
    Digest,
}

/// What is signed, and how.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) algorithm: SigningAlgorithm,
    message_type: MessageType,
    message: Arc<SecretBytes>,
}

impl Statement {
    /// Takes a message of 1 to 4096 bytes, or a digest as long as the algorithm's.
    // DEW: KMS.0329 for a digest of another length.
    pub(crate) fn new(
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: Vec<u8>,
    ) -> Result<Self, Error> {
        let message = SecretBytes::new(message);
        check_message(message.expose_secret())?;
        if message_type == MessageType::Digest {
            let bytes = algorithm.digest_bytes().ok_or(Error::invalid(
                Field::MessageType,
                "must be RAW: ED25519_SHA_512 signs the message itself",
            ))?;
            if message.len() != bytes {
                return Err(Error::invalid(Field::Message, "must be as long as the algorithm's digests"));
            }
        }
        Ok(Self { algorithm, message_type, message: Arc::new(message) })
    }

    /// What goes into the signature: a digest, or the message for Ed25519. `public_key` is the signer's.
    pub(crate) fn input(&self, public_key: &PublicKey) -> Zeroizing<Vec<u8>> {
        let message = self.message.expose_secret();
        Zeroizing::new(match (self.message_type, self.algorithm, public_key) {
            (MessageType::Digest, _, _) | (MessageType::Raw, SigningAlgorithm::Ed25519, _) => {
                message.to_vec()
            }
            (MessageType::Raw, SigningAlgorithm::Sm2Sm3, PublicKey::Sm2(key)) => {
                sm2_dsa::digest(key, message).to_vec()
            }
            (MessageType::Raw, SigningAlgorithm::Sm2Sm3, _) => digest::sm3(message).to_vec(),
            (MessageType::Raw, SigningAlgorithm::Ed25519Ph, _) => {
                digest::sha2(DigestAlgorithm::Sha512, message)
            }
            (
                MessageType::Raw,
                SigningAlgorithm::RsaPss(hash)
                | SigningAlgorithm::RsaPkcs1(hash)
                | SigningAlgorithm::Ecdsa(hash),
                _,
            ) => digest::sha2(hash, message),
        })
    }
}

pub(crate) fn check_message(message: &[u8]) -> Result<(), Error> {
    if (1..=MAX_MESSAGE_BYTES).contains(&message.len()) {
        Ok(())
    } else {
        Err(Error::invalid(Field::Message, "must be 1 to 4096 bytes"))
    }
}

/// How a key authenticates messages; each kind of HMAC key has one.
// DEW: §3, mac_algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the standards say it all")]
pub enum MacAlgorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
    HmacSm3,
}

impl MacAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512, Self::HmacSm3];

    /// The name in DEW's API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "HMAC_SHA_256",
            Self::HmacSha384 => "HMAC_SHA_384",
            Self::HmacSha512 => "HMAC_SHA_512",
            Self::HmacSm3 => "HMAC_SM3",
        }
    }

    /// Whether keys of this kind authenticate with it.
    pub const fn is_for(self, spec: KeySpec) -> bool {
        matches!(
            (self, spec),
            (Self::HmacSha256, KeySpec::Hmac256)
                | (Self::HmacSha384, KeySpec::Hmac384)
                | (Self::HmacSha512, KeySpec::Hmac512)
                | (Self::HmacSm3, KeySpec::HmacSm3)
        )
    }
}

/// How two keys agree on a secret.
// DEW: key_agreement_algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgreementAlgorithm {
    /// Elliptic-curve Diffie-Hellman: the x coordinate. NIST SP 800-56A §5.7.1.2.
    Ecdh,
}
