//! Public keys: SubjectPublicKeyInfo in DER and PEM, read strictly.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::{
    pkcs8::{DecodePublicKey, EncodePublicKey},
    traits::PublicKeyParts as _,
};

use crate::key::KeySpec;

/// A public key of one of the kinds.
#[derive(Debug, Clone)]
pub(crate) enum PublicKey {
    Rsa(rsa::PublicKey),
    P256(p256::PublicKey),
    P384(p384::PublicKey),
    Secp256k1(k256::PublicKey),
    Sm2(sm2::PublicKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

impl PublicKey {
    /// Reads a key of this kind. `None` for another kind or size, for what is no point of the curve, for an RSA
    /// exponent below 65537, and for every encoding but the one that [`EncodePublicKey`] writes.
    // RFC 5280 §4.1.2.7, RFC 5480 §2, RFC 8410 §4; FIPS 186-5 §5.4 (e)
    pub(crate) fn parse(spec: KeySpec, der: &[u8]) -> Option<Self> {
        match spec {
            KeySpec::Rsa2048 => rsa(der, 256),
            KeySpec::Rsa3072 => rsa(der, 384),
            KeySpec::Rsa4096 => rsa(der, 512),
            KeySpec::EcP256 => strict(der).map(Self::P256),
            KeySpec::EcP384 => strict(der).map(Self::P384),
            KeySpec::Secp256k1 => strict(der).map(Self::Secp256k1),
            KeySpec::Sm2 => strict(der).map(Self::Sm2),
            KeySpec::Ed25519 => {
                strict(der).filter(|key: &ed25519_dalek::VerifyingKey| !key.is_weak()).map(Self::Ed25519)
            }
            _ => None,
        }
    }

    /// The uncompressed point of a key on a curve that agrees on secrets.
    pub(crate) fn point(&self) -> Option<Vec<u8>> {
        match self {
            Self::P256(key) => Some(key.to_sec1_point(false).as_bytes().to_vec()),
            Self::P384(key) => Some(key.to_sec1_point(false).as_bytes().to_vec()),
            Self::Secp256k1(key) => Some(key.to_sec1_point(false).as_bytes().to_vec()),
            Self::Sm2(key) => Some(key.to_sec1_point(false).as_bytes().to_vec()),
            Self::Rsa(_) | Self::Ed25519(_) => None,
        }
    }
}

fn rsa(der: &[u8], modulus_bytes: usize) -> Option<PublicKey> {
    let key: rsa::PublicKey = strict(der)?;
    (key.size() == modulus_bytes && key.e_bytes().len() >= 3).then_some(PublicKey::Rsa(key))
}

/// Reads a key whose only encoding is this one.
fn strict<K: DecodePublicKey + EncodePublicKey>(der: &[u8]) -> Option<K> {
    let key = K::from_public_key_der(der).ok()?;
    (key.to_public_key_der().ok()?.as_bytes() == der).then_some(key)
}

/// The PEM of a SubjectPublicKeyInfo.
// RFC 7468 §13
pub(crate) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END PUBLIC KEY-----\n");
    pem
}
