//! Keys that the token cannot hold: made from its random numbers, sealed, and opened for one use.

use std::hint::black_box;

use p256::elliptic_curve::point::AffineCoordinates as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use rsa::signature::{Signer as _, hazmat::PrehashSigner as _};
use sm2::{
    dsa::{Signature as Sm2Signature, SigningKey},
    pke::DecryptingKey,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{MacAlgorithm, PublicKey, SigningAlgorithm, digest, sm2_dsa::DEFAULT_ID};
use crate::{error::Error, key::KeySpec, ports::HsmSession, secret::SecretBytes};

/// The version of the sealed form: this byte, then the key's bytes (a scalar, a seed, or an HMAC key).
const FORM: u8 = 1;
/// How often a scalar is drawn: one in 2^32 at most is none.
const TRIES: usize = 8;
const DEFECT: Error = Error::Internal { detail: "a key that the service opens is not of its kind" };

/// A private or HMAC key in plain; wiped on drop.
#[derive(Debug)]
pub(crate) struct SecretKey {
    spec: KeySpec,
    /// [`FORM`] and the key.
    sealed_form: SecretBytes,
}

/// Reads the scalar with the crate of its curve, which is then called `$curve`.
macro_rules! on_curve {
    ($spec:expr, $curve:ident => $work:expr) => {
        match $spec {
            KeySpec::EcP256 => {
                use p256 as $curve;
                $work
            }
            KeySpec::EcP384 => {
                use p384 as $curve;
                $work
            }
            KeySpec::Secp256k1 => {
                use k256 as $curve;
                $work
            }
            KeySpec::Sm2 => {
                use sm2 as $curve;
                $work
            }
            _ => None,
        }
    };
}

impl SecretKey {
    /// A new key from the HSM's random numbers.
    pub(crate) fn generate(spec: KeySpec, session: &mut dyn HsmSession) -> Result<Self, Error> {
        let bytes =
            key_bytes(spec).ok_or(Error::NotOffered { feature: "keys of this kind on this token" })?;
        for _ in 0..TRIES {
            let mut sealed_form = SecretBytes::zeroed(1 + bytes);
            let (form, key) = sealed_form.expose_secret_mut().split_at_mut(1);
            form[0] = FORM;
            session.fill_random(key)?;
            let key = Self { spec, sealed_form };
            if key.is_mac() || key.public_key().is_some() {
                return Ok(key);
            }
        }
        Err(Error::Internal { detail: "no random number is a private key" })
    }

    /// Takes a key that was made elsewhere: the bytes of an HMAC key, or a private key as PKCS#8 in DER. `None` if it
    /// is none of this kind, or says of its public half what is not so.
    // RFC 5958 §2, RFC 5915 §3, RFC 8410 §7
    pub(crate) fn bring(spec: KeySpec, material: &SecretBytes) -> Option<Self> {
        let mut sealed_form = SecretBytes::zeroed(1 + key_bytes(spec)?);
        let (form, key) = sealed_form.expose_secret_mut().split_at_mut(1);
        form[0] = FORM;
        let brought = material.expose_secret();
        match spec {
            KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512 | KeySpec::HmacSm3 => {
                (brought.len() == key.len()).then(|| key.copy_from_slice(brought))
            }
            KeySpec::Ed25519 => {
                let edwards = ed25519_dalek::SigningKey::from_pkcs8_der(brought).ok()?;
                key.copy_from_slice(edwards.as_bytes());
                Some(())
            }
            _ => on_curve!(spec, curve => {
                let scalar = curve::SecretKey::from_pkcs8_der(brought).ok()?.to_bytes();
                key.copy_from_slice(&Zeroizing::new(scalar));
                Some(())
            }),
        }?;
        Some(Self { spec, sealed_form })
    }

    /// Takes what was sealed.
    pub(crate) fn open(spec: KeySpec, sealed_form: SecretBytes) -> Result<Self, Error> {
        let bytes = key_bytes(spec).ok_or(DEFECT)?;
        let fits = sealed_form.len() == 1 + bytes && sealed_form.expose_secret()[0] == FORM;
        if fits { Ok(Self { spec, sealed_form }) } else { Err(DEFECT) }
    }

    /// What is sealed.
    pub(crate) fn sealed_form(&self) -> &SecretBytes {
        &self.sealed_form
    }

    /// The SubjectPublicKeyInfo of a private key; empty for an HMAC key.
    pub(crate) fn public_key_der(&self) -> Vec<u8> {
        self.public_key().unwrap_or_default()
    }

    fn key(&self) -> &[u8] {
        &self.sealed_form.expose_secret()[1..]
    }

    fn is_mac(&self) -> bool {
        matches!(self.spec, KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512 | KeySpec::HmacSm3)
    }

    fn public_key(&self) -> Option<Vec<u8>> {
        if self.spec == KeySpec::Ed25519 {
            return Some(self.edwards()?.verifying_key().to_public_key_der().ok()?.into_vec());
        }
        on_curve!(self.spec, curve => {
            let key = curve::SecretKey::from_slice(self.key()).ok()?;
            Some(key.public_key().to_public_key_der().ok()?.into_vec())
        })
    }

    fn edwards(&self) -> Option<ed25519_dalek::SigningKey> {
        self.key().try_into().ok().map(ed25519_dalek::SigningKey::from_bytes)
    }

    /// Signs what [`Statement::input`](super::Statement::input) gave; the form of the signature is that of the contract.
    // RFC 6979 §3: what is secret about a signature comes from the key and the digest.
    pub(crate) fn sign(&self, algorithm: SigningAlgorithm, input: &[u8]) -> Result<Vec<u8>, Error> {
        match (algorithm, self.spec) {
            (SigningAlgorithm::Ed25519, KeySpec::Ed25519) => {
                self.edwards().map(|key| key.sign(input).to_bytes().to_vec())
            }
            (SigningAlgorithm::Ed25519Ph, KeySpec::Ed25519) => {
                let digest = digest::Known::new(input);
                let signed = self.edwards().zip(digest).map(|(key, digest)| key.sign_prehashed(digest, None));
                signed.and_then(Result::ok).map(|signature| signature.to_bytes().to_vec())
            }
            (SigningAlgorithm::Sm2Sm3, KeySpec::Sm2) => self.sign_sm2(input),
            (SigningAlgorithm::Ecdsa(_), KeySpec::EcP256) => {
                let key = p256::ecdsa::SigningKey::from_slice(self.key()).ok();
                let signature: Option<p256::ecdsa::Signature> =
                    key.and_then(|key| key.sign_prehash(input).ok());
                signature.map(|signature| signature.to_der().as_bytes().to_vec())
            }
            (SigningAlgorithm::Ecdsa(_), KeySpec::EcP384) => {
                let key = p384::ecdsa::SigningKey::from_slice(self.key()).ok();
                let signature: Option<p384::ecdsa::Signature> =
                    key.and_then(|key| key.sign_prehash(input).ok());
                signature.map(|signature| signature.to_der().as_bytes().to_vec())
            }
            (SigningAlgorithm::Ecdsa(_), KeySpec::Secp256k1) => {
                let key = k256::ecdsa::SigningKey::from_slice(self.key()).ok();
                let signature: Option<k256::ecdsa::Signature> =
                    key.and_then(|key| key.sign_prehash(input).ok());
                signature.map(|signature| signature.to_der().as_bytes().to_vec())
            }
            _ => None,
        }
        .ok_or(DEFECT)
    }

    fn sign_sm2(&self, digest: &[u8]) -> Option<Vec<u8>> {
        let make = |scalar| SigningKey::from_nonzero_scalar(DEFAULT_ID, scalar).ok();
        let signature: Sm2Signature = self.with_sm2(make, |key| key.sign_prehash(digest).ok())??;
        Some(signature.to_der().as_bytes().to_vec())
    }

    /// Does `work` with what `make` makes of this scalar. The key types of the crate `sm2` do not wipe themselves, so
    /// at the end what it makes of the scalar 1 is put in the same place.
    fn with_sm2<K, T>(
        &self,
        make: impl Fn(sm2::NonZeroScalar) -> Option<K>,
        work: impl FnOnce(&K) -> T,
    ) -> Option<T> {
        let mut scalar = Zeroizing::new(sm2::SecretKey::from_slice(self.key()).ok()?.to_nonzero_scalar());
        let mut key = make(*scalar)?;
        let done = work(&key);
        scalar.zeroize(); // 1 is left: it can be no 0
        key = make(*scalar)?;
        black_box(&mut key); // nobody reads it, and still it has to be written
        Some(done)
    }

    /// The x coordinate of this scalar times the peer's point. The point was read by [`PublicKey::parse`], and the
    /// order of these curves is prime, so the product is no point at infinity.
    pub(crate) fn agree(&self, peer: &PublicKey) -> Result<SecretBytes, Error> {
        macro_rules! agreed {
            ($curve:ident, $peer:expr) => {
                $curve::SecretKey::from_slice(self.key()).ok().map(|key| {
                    let scalar = Zeroizing::new(key.to_nonzero_scalar());
                    let product = ($peer.to_projective() * **scalar).to_affine();
                    SecretBytes::new(product.x().to_vec())
                })
            };
        }
        match (self.spec, peer) {
            (KeySpec::EcP256, PublicKey::P256(peer)) => agreed!(p256, peer),
            (KeySpec::EcP384, PublicKey::P384(peer)) => agreed!(p384, peer),
            (KeySpec::Secp256k1, PublicKey::Secp256k1(peer)) => agreed!(k256, peer),
            (KeySpec::Sm2, PublicKey::Sm2(peer)) => agreed!(sm2, peer),
            _ => None,
        }
        .ok_or(DEFECT)
    }

    /// Opens an SM2 ciphertext in DER. Every way in which it does not open is one error.
    // GB/T 32918.4 §7.1, GM/T 0009 §7.2
    pub(crate) fn decrypt_sm2(&self, ciphertext: &[u8]) -> Result<SecretBytes, Error> {
        if self.spec != KeySpec::Sm2 {
            return Err(DEFECT);
        }
        let make = |scalar| DecryptingKey::from_nonzero_scalar(scalar).ok();
        let opened = self.with_sm2(make, |key| key.decrypt_der(ciphertext)).ok_or(DEFECT)?;
        opened.map(SecretBytes::new).map_err(|_| Error::CannotDecrypt)
    }

    /// The HMAC of a message.
    pub(crate) fn mac(&self, algorithm: MacAlgorithm, message: &[u8]) -> Result<Vec<u8>, Error> {
        digest::hmac(algorithm, self.key(), message)
    }
}

/// How long a key of this kind is; `None` for kinds that are never in software.
const fn key_bytes(spec: KeySpec) -> Option<usize> {
    match spec {
        KeySpec::EcP256
        | KeySpec::Secp256k1
        | KeySpec::Sm2
        | KeySpec::Ed25519
        | KeySpec::Hmac256
        | KeySpec::HmacSm3 => Some(32),
        KeySpec::EcP384 | KeySpec::Hmac384 => Some(48),
        KeySpec::Hmac512 => Some(64),
        _ => None,
    }
}
