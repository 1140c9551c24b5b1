//! Verification of signatures, and the two forms of those of ECDSA.

use rsa::signature::hazmat::PrehashVerifier;
use sha2::{Sha256, Sha384, Sha512};
use sm2::dsa::Signature as Sm2Signature;

use super::{PublicKey, SigningAlgorithm, digest::Known, sm2_dsa::DEFAULT_ID};
use crate::{key::KeySpec, ports::DigestAlgorithm};

/// Whether `signature` is one of `input` by the owner of `key`. Also `false` for a malformed signature, and for an
/// algorithm of other keys.
pub(crate) fn verify(key: &PublicKey, algorithm: SigningAlgorithm, input: &[u8], signature: &[u8]) -> bool {
    match (key, algorithm) {
        (PublicKey::Rsa(key), SigningAlgorithm::RsaPkcs1(hash)) => pkcs1(key, hash, input, signature),
        (PublicKey::Rsa(key), SigningAlgorithm::RsaPss(hash)) => pss(key, hash, input, signature),
        (PublicKey::P256(key), SigningAlgorithm::Ecdsa(_)) => {
            let key = p256::ecdsa::VerifyingKey::from(key);
            p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(input, &signature).is_ok())
        }
        (PublicKey::P384(key), SigningAlgorithm::Ecdsa(_)) => {
            let key = p384::ecdsa::VerifyingKey::from(key);
            p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(input, &signature).is_ok())
        }
        (PublicKey::Secp256k1(key), SigningAlgorithm::Ecdsa(_)) => {
            let key = k256::ecdsa::VerifyingKey::from(key);
            // FIPS 186-5 §6.4.2 takes s and -s; the crate only the lower one.
            k256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(input, &signature.normalize_s()).is_ok())
        }
        (PublicKey::Sm2(key), SigningAlgorithm::Sm2Sm3) => sm2(key, input, signature),
        (PublicKey::Ed25519(key), SigningAlgorithm::Ed25519) => {
            edwards(signature).is_some_and(|signature| key.verify_strict(input, &signature).is_ok())
        }
        (PublicKey::Ed25519(key), SigningAlgorithm::Ed25519Ph) => edwards(signature)
            .zip(Known::new(input))
            .is_some_and(|(signature, digest)| key.verify_prehashed_strict(digest, None, &signature).is_ok()),
        _ => false,
    }
}

fn pkcs1(key: &rsa::PublicKey, hash: DigestAlgorithm, digest: &[u8], signature: &[u8]) -> bool {
    use rsa::pkcs1v15::{Signature, VerifyingKey};
    let Ok(signature) = Signature::try_from(signature) else { return false };
    let key = key.clone();
    match hash {
        DigestAlgorithm::Sha256 => VerifyingKey::<Sha256>::new(key).verify_prehash(digest, &signature),
        DigestAlgorithm::Sha384 => VerifyingKey::<Sha384>::new(key).verify_prehash(digest, &signature),
        DigestAlgorithm::Sha512 => VerifyingKey::<Sha512>::new(key).verify_prehash(digest, &signature),
    }
    .is_ok()
}

/// The salt has to be as long as the digest.
fn pss(key: &rsa::PublicKey, hash: DigestAlgorithm, digest: &[u8], signature: &[u8]) -> bool {
    use rsa::pss::{Signature, VerifyingKey};
    let Ok(signature) = Signature::try_from(signature) else { return false };
    let key = key.clone();
    match hash {
        DigestAlgorithm::Sha256 => VerifyingKey::<Sha256>::new(key).verify_prehash(digest, &signature),
        DigestAlgorithm::Sha384 => VerifyingKey::<Sha384>::new(key).verify_prehash(digest, &signature),
        DigestAlgorithm::Sha512 => VerifyingKey::<Sha512>::new(key).verify_prehash(digest, &signature),
    }
    .is_ok()
}

fn sm2(key: &sm2::PublicKey, digest: &[u8], signature: &[u8]) -> bool {
    let key = sm2::dsa::VerifyingKey::new(DEFAULT_ID, *key);
    let signature = Sm2Signature::from_der(signature);
    key.ok()
        .zip(signature.ok())
        .is_some_and(|(key, signature)| key.verify_prehash(digest, &signature).is_ok())
}

fn edwards(signature: &[u8]) -> Option<ed25519_dalek::Signature> {
    ed25519_dalek::Signature::from_slice(signature).ok()
}

/// The DER form of an ECDSA signature that is r and s; `None` if it is none of such a key.
// RFC 3279 §2.2.3
pub(crate) fn ecdsa_der(spec: KeySpec, raw: &[u8]) -> Option<Vec<u8>> {
    match spec {
        KeySpec::EcP256 => {
            p256::ecdsa::Signature::from_slice(raw).ok().map(|raw| raw.to_der().as_bytes().to_vec())
        }
        KeySpec::EcP384 => {
            p384::ecdsa::Signature::from_slice(raw).ok().map(|raw| raw.to_der().as_bytes().to_vec())
        }
        KeySpec::Secp256k1 => {
            k256::ecdsa::Signature::from_slice(raw).ok().map(|raw| raw.to_der().as_bytes().to_vec())
        }
        _ => None,
    }
}
