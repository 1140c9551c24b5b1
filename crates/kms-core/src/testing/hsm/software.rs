//! Key pairs in software, for the fake: a private key is its PKCS#8, and every call reads it anew.

use std::{convert::Infallible, sync::OnceLock};

use ed25519_dalek::pkcs8::KeypairBytes;
use p256::elliptic_curve::point::AffineCoordinates as _;
use rsa::{
    BoxedUint, PrivateKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _},
    rand_core::{TryCryptoRng, TryRng},
    sha2::{Sha256, Sha384, Sha512},
    signature::{
        SignatureEncoding as _, Signer as _,
        hazmat::{PrehashSigner as _, RandomizedPrehashSigner as _},
    },
    traits::PublicKeyParts as _,
};
use zeroize::Zeroizing;

use super::fake::random_key;
use crate::{
    key::BackingKind,
    ports::{DigestAlgorithm, SigningMechanism},
    secret::SecretBytes,
};

/// Does the same with whichever curve `kind` is on, whose crate is then called `$curve`; `None` if it is on none.
macro_rules! on_curve {
    ($kind:expr, $curve:ident => $work:expr) => {
        match $kind {
            BackingKind::EcP256 => {
                use p256 as $curve;
                $work
            }
            BackingKind::EcP384 => {
                use p384 as $curve;
                $work
            }
            BackingKind::EcSecp256k1 => {
                use k256 as $curve;
                $work
            }
            _ => None,
        }
    };
}

pub(super) use on_curve;

/// The length of an RSA modulus, in bits.
pub(super) const fn modulus_bits(kind: BackingKind) -> Option<usize> {
    match kind {
        BackingKind::Rsa2048 => Some(2048),
        BackingKind::Rsa3072 => Some(3072),
        BackingKind::Rsa4096 => Some(4096),
        _ => None,
    }
}

/// A new private key; `None` if it is no key pair's kind.
///
/// All RSA keys of one size are the same in one process: making one in software takes seconds.
pub(super) fn generate(kind: BackingKind) -> Option<SecretBytes> {
    if let Some(bits) = modulus_bits(kind) {
        static MADE: [OnceLock<Vec<u8>>; 3] = [const { OnceLock::new() }; 3];
        let made = MADE[bits / 1024 - 2].get_or_init(|| new_rsa(bits));
        return Some(SecretBytes::new(made.clone()));
    }
    if kind == BackingKind::Ed25519 {
        let key = KeypairBytes { secret_key: *random_key(), public_key: None };
        return Some(SecretBytes::new(key.to_pkcs8_der().ok()?.as_bytes().to_vec()));
    }
    on_curve!(kind, curve => {
        let random = || [*random_key(), *random_key()].concat();
        let width = if kind == BackingKind::EcP384 { 48 } else { 32 };
        // One try in 2^32 is no scalar.
        let key = (0..4).find_map(|_| curve::SecretKey::from_slice(&random()[..width]).ok())?;
        Some(SecretBytes::new(key.to_pkcs8_der().ok()?.as_bytes().to_vec()))
    })
}

fn new_rsa(bits: usize) -> Vec<u8> {
    let key = PrivateKey::new(&mut Random, bits).expect("random numbers contain primes");
    key.to_pkcs8_der().expect("a key has an encoding").as_bytes().to_vec()
}

/// The SubjectPublicKeyInfo of a private key; `None` if it is malformed or of another kind.
pub(super) fn public_key(kind: BackingKind, private_key: &[u8]) -> Option<Vec<u8>> {
    let document = if modulus_bits(kind).is_some() {
        rsa(kind, private_key)?.to_public_key().to_public_key_der().ok()?
    } else if kind == BackingKind::Ed25519 {
        ed25519(private_key)?.verifying_key().to_public_key_der().ok()?
    } else {
        on_curve!(kind, curve => {
            curve::SecretKey::from_pkcs8_der(private_key).ok()?.public_key().to_public_key_der().ok()
        })?
    };
    Some(document.into_vec())
}

fn rsa(kind: BackingKind, private_key: &[u8]) -> Option<PrivateKey> {
    let key = PrivateKey::from_pkcs8_der(private_key).ok()?;
    (Some(8 * key.size()) == modulus_bits(kind)).then_some(key)
}

fn ed25519(private_key: &[u8]) -> Option<ed25519_dalek::SigningKey> {
    ed25519_dalek::SigningKey::from_pkcs8_der(private_key).ok()
}

/// Signs as the port says; `None` if key, mechanism and input do not belong together.
pub(super) fn sign(
    kind: BackingKind,
    private_key: &[u8],
    mechanism: SigningMechanism,
    input: &[u8],
) -> Option<Vec<u8>> {
    use DigestAlgorithm as Digest;
    match mechanism {
        SigningMechanism::RsaPkcs1(digest) => {
            let key = rsa(kind, private_key)?;
            let signature = match digest {
                Digest::Sha256 => rsa::pkcs1v15::SigningKey::<Sha256>::new(key).sign_prehash(input),
                Digest::Sha384 => rsa::pkcs1v15::SigningKey::<Sha384>::new(key).sign_prehash(input),
                Digest::Sha512 => rsa::pkcs1v15::SigningKey::<Sha512>::new(key).sign_prehash(input),
            };
            Some(signature.ok()?.to_vec())
        }
        SigningMechanism::RsaPss(digest) => {
            let (key, random) = (rsa(kind, private_key)?, &mut Random);
            let signature = match digest {
                Digest::Sha256 => {
                    rsa::pss::SigningKey::<Sha256>::new(key).sign_prehash_with_rng(random, input)
                }
                Digest::Sha384 => {
                    rsa::pss::SigningKey::<Sha384>::new(key).sign_prehash_with_rng(random, input)
                }
                Digest::Sha512 => {
                    rsa::pss::SigningKey::<Sha512>::new(key).sign_prehash_with_rng(random, input)
                }
            };
            Some(signature.ok()?.to_vec())
        }
        SigningMechanism::EdDsa => {
            (kind == BackingKind::Ed25519).then(|| ed25519(private_key))?.map(|key| key.sign(input).to_vec())
        }
        SigningMechanism::Ecdsa => on_curve!(kind, curve => {
            let key = curve::ecdsa::SigningKey::from_pkcs8_der(private_key).ok()?;
            let signature: curve::ecdsa::Signature = key.sign_prehash(input).ok()?;
            Some(signature.to_vec())
        }),
    }
}

/// The private operation of RSA on a whole block; `None` for a block that the key cannot take.
pub(super) fn decrypt(kind: BackingKind, private_key: &[u8], ciphertext: &[u8]) -> Option<SecretBytes> {
    let key = rsa(kind, private_key)?;
    if ciphertext.len() != key.size() {
        return None;
    }
    let block = BoxedUint::from_be_slice(ciphertext, key.n_bits_precision()).ok()?;
    let opened = rsa::hazmat::rsa_decrypt_and_check(&key, Some(&mut Random), &block).ok()?;
    let opened = Zeroizing::new(opened.to_be_bytes());
    let mut whole = SecretBytes::zeroed(key.size());
    let start = opened.len().checked_sub(whole.len())?;
    whole.expose_secret_mut().copy_from_slice(&opened[start..]);
    Some(whole)
}

/// The x coordinate that the key agrees on with a peer's point; `None` if that is no point of the curve.
pub(super) fn agree(kind: BackingKind, private_key: &[u8], peer: &[u8]) -> Option<SecretBytes> {
    on_curve!(kind, curve => {
        let key = curve::SecretKey::from_pkcs8_der(private_key).ok()?;
        let peer = uncompressed(peer).and_then(|peer| curve::PublicKey::from_sec1_bytes(peer).ok())?;
        let shared = (peer.to_projective() * *key.to_nonzero_scalar()).to_affine();
        Some(SecretBytes::new(shared.x().to_vec()))
    })
}

fn uncompressed(point: &[u8]) -> Option<&[u8]> {
    (point.first() == Some(&4)).then_some(point)
}

/// The only source of randomness that this crate has, as the RSA library wants it.
pub(super) struct Random;

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let [first, second, third, fourth, ..] = *random_key();
        Ok(u32::from_le_bytes([first, second, third, fourth]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(random_key().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            chunk.copy_from_slice(&random_key()[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Random {}
