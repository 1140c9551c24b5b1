//! What is done with key pairs outside of the token: their standard encodings, and the check that a signature of
//! the token belongs to a public key.

use cryptoki_sys::{
    CK_ATTRIBUTE_TYPE, CKA_COEFFICIENT, CKA_EXPONENT_1, CKA_EXPONENT_2, CKA_MODULUS, CKA_PRIME_1,
    CKA_PRIME_2, CKA_PRIVATE_EXPONENT, CKA_PUBLIC_EXPONENT, CKA_VALUE,
};
use ed25519_dalek::{SigningKey, VerifyingKey, pkcs8::KeypairBytes};
use k256::ecdsa::RecoveryId; // of every curve
use kms_core::SecretBytes;
use rsa::{
    PrivateKey, PublicKey,
    pkcs1::{self, DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _, UintRef, der::Decode as _},
    pkcs8::{
        DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
        SecretDocument,
    },
    signature::{Verifier as _, hazmat::PrehashVerifier as _},
    traits::PublicKeyParts as _,
};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::pairs::{Curve, Pair};

/// Does the same with whichever curve it is, whose crate is then called `$name`.
macro_rules! on_curve {
    ($curve:expr, $name:ident => $work:expr) => {
        match $curve {
            Curve::P256 => {
                use p256 as $name;
                $work
            }
            Curve::P384 => {
                use p384 as $name;
                $work
            }
            Curve::Secp256k1 => {
                use k256 as $name;
                $work
            }
        }
    };
}

/// A number that makes up a private key, by the attribute that holds it in a token.
pub(crate) type Component = (CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>);

/// What makes up a private key in a token.
pub(crate) const fn component_types(pair: Pair) -> &'static [CK_ATTRIBUTE_TYPE] {
    match pair {
        Pair::Rsa { .. } => &[
            CKA_MODULUS,
            CKA_PUBLIC_EXPONENT,
            CKA_PRIVATE_EXPONENT,
            CKA_PRIME_1,
            CKA_PRIME_2,
            CKA_EXPONENT_1,
            CKA_EXPONENT_2,
            CKA_COEFFICIENT,
        ],
        Pair::Ec(_) | Pair::Ed25519 => &[CKA_VALUE],
    }
}

/// A private key that came as PKCS#8.
pub(crate) struct Parsed {
    pub(crate) components: Vec<Component>,
    /// The SubjectPublicKeyInfo that belongs to it.
    pub(crate) public_key: Vec<u8>,
}

/// Reads a private key and computes what belongs to it; `None` if it is malformed or no such key.
pub(crate) fn parse(pair: Pair, private_key: &[u8]) -> Option<Parsed> {
    let (values, public_key): (Vec<Zeroizing<Vec<u8>>>, _) = match pair {
        Pair::Rsa { modulus_bytes } => {
            let key =
                PrivateKey::from_pkcs8_der(private_key).ok().filter(|key| key.size() == modulus_bytes)?;
            let public_key = key.to_public_key().to_public_key_der();
            // Encoded anew: what a key says of its own exponents and coefficient need not be true.
            let encoded = key.to_pkcs1_der().ok()?;
            (rsa_values(&encoded)?, public_key)
        }
        Pair::Ed25519 => {
            let key = SigningKey::from_pkcs8_der(private_key).ok()?;
            (vec![key.as_bytes().to_vec().into()], key.verifying_key().to_public_key_der())
        }
        Pair::Ec(curve) => on_curve!(curve, on => {
            let key = on::SecretKey::from_pkcs8_der(private_key).ok()?;
            let scalar = Zeroizing::new(key.to_bytes()); // what the stack has of it is wiped, too
            (vec![scalar.to_vec().into()], key.public_key().to_public_key_der())
        }),
    };
    let components = component_types(pair).iter().copied().zip(values).collect();
    Some(Parsed { components, public_key: public_key.ok()?.into_vec() })
}

// RFC 8017 §A.1.2 (RSAPrivateKey); as component_types() has them.
fn rsa_values(encoded: &SecretDocument) -> Option<Vec<Zeroizing<Vec<u8>>>> {
    let key = pkcs1::RsaPrivateKeyRef::from_der(encoded.as_bytes()).ok()?;
    let values = [
        key.modulus,
        key.public_exponent,
        key.private_exponent,
        key.prime1,
        key.prime2,
        key.exponent1,
        key.exponent2,
        key.coefficient,
    ];
    Some(values.map(|value| value.as_bytes().to_vec().into()).into())
}

/// The PKCS#8 of a private key that a token gave out; `None` if its parts make no such key.
pub(crate) fn encode(pair: Pair, values: &[Zeroizing<Vec<u8>>]) -> Option<SecretBytes> {
    let encoded = match (pair, values) {
        (Pair::Rsa { .. }, values) => encode_rsa(values)?,
        (Pair::Ed25519, [seed]) => {
            let mut key = KeypairBytes { secret_key: seed.as_slice().try_into().ok()?, public_key: None };
            let encoded = key.to_pkcs8_der();
            zeroize::Zeroize::zeroize(&mut key.secret_key);
            encoded.ok()?
        }
        (Pair::Ec(curve), [scalar]) => {
            // A token may leave out leading zeros.
            let mut whole = Zeroizing::new(vec![0; curve.bytes()]);
            let start = whole.len().checked_sub(scalar.len())?;
            whole[start..].copy_from_slice(scalar);
            on_curve!(curve, on => on::SecretKey::from_slice(&whole).ok()?.to_pkcs8_der()).ok()?
        }
        _ => return None,
    };
    parse(pair, encoded.as_bytes())?;
    Some(SecretBytes::new(encoded.as_bytes().to_vec()))
}

fn encode_rsa(values: &[Zeroizing<Vec<u8>>]) -> Option<SecretDocument> {
    let numbers: Option<Vec<_>> = values.iter().map(|value| UintRef::new(value).ok()).collect();
    let numbers: [_; 8] = numbers?.try_into().ok()?;
    let [modulus, public_exponent, private_exponent, prime1, prime2, exponent1, exponent2, coefficient] =
        numbers;
    let key = pkcs1::RsaPrivateKeyRef {
        modulus,
        public_exponent,
        private_exponent,
        prime1,
        prime2,
        exponent1,
        exponent2,
        coefficient,
        other_prime_infos: None,
    };
    let read = PrivateKey::from_pkcs1_der(key.to_pkcs1_der().ok()?.as_bytes()).ok()?;
    read.to_pkcs8_der().ok()
}

/// The SubjectPublicKeyInfo of an RSA public key.
pub(crate) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let [modulus, public_exponent] = [modulus, exponent].map(|number| UintRef::new(number).ok());
    let key = pkcs1::RsaPublicKeyRef { modulus: modulus?, public_exponent: public_exponent? };
    let key = PublicKey::try_from(key).ok()?;
    Some(key.to_public_key_der().ok()?.into_vec())
}

/// The SubjectPublicKeyInfo of an Ed25519 public key.
pub(crate) fn ed25519_public_key(point: &[u8]) -> Option<Vec<u8>> {
    let key = VerifyingKey::from_bytes(point.try_into().ok()?).ok()?;
    Some(key.to_public_key_der().ok()?.into_vec())
}

/// The Ed25519 key of a SubjectPublicKeyInfo.
pub(crate) fn ed25519_key(public_key: &[u8]) -> Option<VerifyingKey> {
    VerifyingKey::from_public_key_der(public_key).ok()
}

/// A P-256 signature (r and s) over a message as an ECDSA-Sig-Value in DER, if it verifies. RFC 3279 §2.2.3.
pub(crate) fn p256_signature_der(public_key: &[u8], message: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
    let key = p256::ecdsa::VerifyingKey::from_public_key_der(public_key).ok()?;
    let signature = p256::ecdsa::Signature::from_slice(signature).ok()?;
    key.verify(message, &signature).ok()?;
    Some(signature.to_der().as_bytes().to_vec())
}

/// The SubjectPublicKeyInfo of an uncompressed point; `None` if it is not on the curve.
pub(crate) fn ec_public_key(curve: Curve, point: &[u8]) -> Option<Vec<u8>> {
    if point.first() != Some(&4) {
        return None;
    }
    let encoded = on_curve!(curve, on => on::PublicKey::from_sec1_bytes(point).ok()?.to_public_key_der());
    Some(encoded.ok()?.into_vec())
}

/// Whether `signature` over a message is of the private key that belongs to a public key: PKCS#1 with SHA-256
/// over its `digest` for RSA.
pub(crate) fn verifies(
    pair: Pair,
    public_key: &[u8],
    message: &[u8],
    digest: &[u8],
    signature: &[u8],
) -> bool {
    let verified = match pair {
        Pair::Rsa { .. } => PublicKey::from_public_key_der(public_key).ok().and_then(|key| {
            let signature = rsa::pkcs1v15::Signature::try_from(signature).ok()?;
            rsa::pkcs1v15::VerifyingKey::<Sha256>::new(key).verify_prehash(digest, &signature).ok()
        }),
        Pair::Ed25519 => ed25519_key(public_key).and_then(|key| {
            let signature = ed25519_dalek::Signature::try_from(signature).ok()?;
            key.verify_strict(message, &signature).ok()
        }),
        Pair::Ec(_) => None,
    };
    verified.is_some()
}

/// The one SubjectPublicKeyInfo under which two different signatures over the same digest verify.
///
/// An ECDSA signature fits a few public keys, one of which is the signer's; those of two signatures have only
/// that one in common. So it tells which key signed where only the private key is at hand.
// SEC 1 §4.1.6
pub(crate) fn signer(curve: Curve, digest: &[u8], signatures: [&[u8]; 2]) -> Option<Vec<u8>> {
    on_curve!(curve, on => {
        use on::ecdsa::{Signature, VerifyingKey};
        let candidates = |signature: &[u8]| -> Vec<VerifyingKey> {
            let Ok(signature) = Signature::from_slice(signature) else { return Vec::new() };
            let signature = signature.normalize_s(); // the same for either half, and some code takes one only
            let recover = |number| {
                let which = RecoveryId::from_byte(number)?;
                VerifyingKey::recover_from_prehash(digest, &signature, which).ok()
            };
            (0..4).filter_map(recover).collect()
        };
        let [first, second] = signatures.map(candidates);
        let mut common = first.into_iter().filter(|key| second.contains(key));
        match (common.next(), common.next()) {
            (Some(signer), None) => Some(signer.to_public_key_der().ok()?.into_vec()),
            _ => None,
        }
    })
}
