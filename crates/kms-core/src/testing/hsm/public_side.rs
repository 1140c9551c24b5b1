//! What someone can do who has the public key only: the contract checks every answer of an HSM with it.

use p256::elliptic_curve::{point::AffineCoordinates as _, sec1::ToSec1Point as _};
use rsa::{
    PublicKey,
    pkcs8::DecodePublicKey as _,
    signature::{Verifier as _, hazmat::PrehashVerifier as _},
    traits::PublicKeyParts as _,
};
use sha2::{Sha256, Sha384, Sha512};

use super::software::{self, on_curve};
use crate::{
    key::BackingKind,
    ports::{DigestAlgorithm, SigningMechanism},
};

/// Whether a signature is good, as someone sees it who has the public key only.
pub(super) fn verifies(
    kind: BackingKind,
    public_key: &[u8],
    mechanism: SigningMechanism,
    input: &[u8],
    signature: &[u8],
) -> bool {
    let verified = match mechanism {
        SigningMechanism::RsaPkcs1(digest) => verify_pkcs1(kind, public_key, digest, input, signature),
        SigningMechanism::RsaPss(digest) => verify_pss(kind, public_key, digest, input, signature),
        SigningMechanism::EdDsa => {
            let key = ed25519_dalek::VerifyingKey::from_public_key_der(public_key).expect("a public key");
            let signature = ed25519_dalek::Signature::try_from(signature).expect("64 bytes");
            key.verify(input, &signature).ok()
        }
        SigningMechanism::Ecdsa => on_curve!(kind, curve => {
            let key = curve::ecdsa::VerifyingKey::from_public_key_der(public_key).expect("a public key");
            let signature = curve::ecdsa::Signature::from_slice(signature).expect("r and s");
            key.verify_prehash(input, &signature.normalize_s()).ok()
        }),
    };
    verified.is_some()
}

/// An RSA public key of the right size.
pub(super) fn rsa_key(kind: BackingKind, public_key: &[u8]) -> PublicKey {
    let key = PublicKey::from_public_key_der(public_key).expect("a public key");
    assert_eq!(Some(8 * key.size()), software::modulus_bits(kind));
    key
}

fn verify_pkcs1(
    kind: BackingKind,
    public_key: &[u8],
    digest: DigestAlgorithm,
    input: &[u8],
    signature: &[u8],
) -> Option<()> {
    use rsa::pkcs1v15::{Signature, VerifyingKey};
    let key = rsa_key(kind, public_key);
    assert_eq!(signature.len(), key.size(), "a signature is as long as the modulus");
    let signature = Signature::try_from(signature).expect("a signature");
    let verified = match digest {
        DigestAlgorithm::Sha256 => VerifyingKey::<Sha256>::new(key).verify_prehash(input, &signature),
        DigestAlgorithm::Sha384 => VerifyingKey::<Sha384>::new(key).verify_prehash(input, &signature),
        DigestAlgorithm::Sha512 => VerifyingKey::<Sha512>::new(key).verify_prehash(input, &signature),
    };
    verified.ok()
}

fn verify_pss(
    kind: BackingKind,
    public_key: &[u8],
    digest: DigestAlgorithm,
    input: &[u8],
    signature: &[u8],
) -> Option<()> {
    use rsa::pss::{Signature, VerifyingKey};
    let key = rsa_key(kind, public_key);
    assert_eq!(signature.len(), key.size(), "a signature is as long as the modulus");
    let signature = Signature::try_from(signature).expect("a signature");
    let verified = match digest {
        DigestAlgorithm::Sha256 => VerifyingKey::<Sha256>::new(key).verify_prehash(input, &signature),
        DigestAlgorithm::Sha384 => VerifyingKey::<Sha384>::new(key).verify_prehash(input, &signature),
        DigestAlgorithm::Sha512 => VerifyingKey::<Sha512>::new(key).verify_prehash(input, &signature),
    };
    verified.ok()
}

/// A peer's point and what it agrees on with the owner of a public key, as the peer finds it.
pub(super) type Agreement = (Vec<u8>, Vec<u8>);

/// Peers of a key on a curve; and points that are none.
pub(super) fn agreements(kind: BackingKind, public_key: &[u8]) -> Option<(Vec<Agreement>, Vec<Vec<u8>>)> {
    on_curve!(kind, curve => {
        let owner = curve::PublicKey::from_public_key_der(public_key).expect("a public key");
        let peers = [1_u8, 2, 3, 0xa5].map(|byte| {
            let width = if kind == BackingKind::EcP384 { 48 } else { 32 };
            let peer = curve::SecretKey::from_slice(&vec![byte; width]).expect("a scalar");
            let shared = (owner.to_projective() * *peer.to_nonzero_scalar()).to_affine();
            let point = peer.public_key().to_sec1_point(false);
            (point.as_bytes().to_vec(), shared.x().to_vec())
        });
        let point = &peers[0].0;
        let mut elsewhere = point.clone();
        elsewhere[1] ^= 1;
        let compressed = owner.to_sec1_point(true).as_bytes().to_vec();
        let bad = vec![elsewhere, compressed, point[..point.len() - 1].to_vec(), vec![0], Vec::new(), vec![4]];
        Some((peers.into(), bad))
    })
}
