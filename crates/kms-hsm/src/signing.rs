//! The private key at work: how a signature, a decryption and a key agreement are asked of the token.

use std::borrow::Cow;

use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki_sys::{CKA_VALUE, CKM_ECDSA, CKM_EDDSA, CKM_RSA_PKCS, CKM_RSA_X_509};
use kms_core::{
    SecretBytes,
    ports::{DigestAlgorithm, HsmError, SigningMechanism},
};
use zeroize::Zeroizing;

use crate::{
    direct::{Cipher, Handle, Signing},
    failure::Trouble,
    keys::Brief,
    pairs::{Curve, Pair},
    session::TokenSession,
    software,
};

/// The length of an Ed25519 signature. RFC 8032 §5.1.6.
const ED25519_BYTES: usize = 64;

/// A signature as the token is asked for it.
pub(crate) struct SignatureRequest<'a> {
    signing: Signing,
    input: Cow<'a, [u8]>,
    /// The length of the signature.
    length: usize,
}

impl<'a> SignatureRequest<'a> {
    /// An error if such a key does not sign in this way, or not this.
    pub(crate) fn new(pair: Pair, mechanism: SigningMechanism, input: &'a [u8]) -> Result<Self, HsmError> {
        let other = HsmError::NotOffered { feature: "such a signature with this key" };
        let is_digest = |digest: DigestAlgorithm| input.len() == digest.bytes();
        let (signing, input, length) = match (pair, mechanism) {
            (Pair::Rsa { modulus_bytes }, SigningMechanism::RsaPkcs1(digest)) if is_digest(digest) => {
                (Signing::Plain(CKM_RSA_PKCS), with_digest_info(digest, input).into(), modulus_bytes)
            }
            (Pair::Rsa { modulus_bytes }, SigningMechanism::RsaPss(digest)) if is_digest(digest) => {
                (Signing::Pss(digest), input.into(), modulus_bytes)
            }
            // FIPS 186-5 §6.4.1: of a longer digest the leftmost bits. Not every module cuts it.
            (Pair::Ec(curve), SigningMechanism::Ecdsa) if !input.is_empty() => {
                let cut = &input[..input.len().min(curve.bytes())];
                (Signing::Plain(CKM_ECDSA), cut.into(), 2 * curve.bytes())
            }
            (Pair::Ed25519, SigningMechanism::EdDsa) => {
                (Signing::Plain(CKM_EDDSA), input.into(), ED25519_BYTES)
            }
            _ => return Err(other),
        };
        Ok(Self { signing, input, length })
    }

    pub(crate) fn sign(&self, session: &TokenSession, key: Handle) -> Result<Vec<u8>, Trouble> {
        Ok(session.sign_with(self.signing, key, &self.input, self.length)?)
    }
}

/// A digest with the name of its hash before it, which CKM_RSA_PKCS signs.
// RFC 8017 §9.2, note 1
pub(crate) fn with_digest_info(algorithm: DigestAlgorithm, digest: &[u8]) -> Vec<u8> {
    let (total, last, length) = match algorithm {
        DigestAlgorithm::Sha256 => (0x31, 0x01, 0x20),
        DigestAlgorithm::Sha384 => (0x41, 0x02, 0x30),
        DigestAlgorithm::Sha512 => (0x51, 0x03, 0x40),
    };
    let name = [0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last, 0x05, 0x00];
    [&[0x30, total], &name[..], &[0x04, length], digest].concat()
}

/// The private operation of RSA on a whole block.
pub(crate) fn decrypt(
    session: &TokenSession,
    key: Handle,
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let cipher = Cipher { mechanism: CKM_RSA_X_509, gcm: None };
    Ok(session.decrypt(cipher, key, ciphertext, ciphertext.len())?)
}

/// Fails with [`HsmError::InvalidMaterial`] for what is no uncompressed point of the curve. A token that is asked
/// to agree with a point of another curve may tell the key bit by bit.
// NIST SP 800-56A §5.6.2.3.3
pub(crate) fn check_point(curve: Curve, peer: &[u8]) -> Result<(), HsmError> {
    software::ec_public_key(curve, peer)
        .map(drop)
        .ok_or(HsmError::InvalidMaterial { problem: "no point of the curve" })
}

/// The x coordinate that a private key agrees on with a checked point. It lies in the token for a moment.
pub(crate) fn agree(
    session: &TokenSession,
    curve: Curve,
    key: Handle,
    peer: &[u8],
) -> Result<SecretBytes, Trouble> {
    let length = curve.bytes();
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::ValueLen(u64::try_from(length).unwrap_or(u64::MAX).into()),
    ];
    let secret = Brief { session, handle: session.derive_ecdh(key, peer, &template)? };
    let mut shared = SecretBytes::zeroed(length);
    let read = session.read_secret(secret.handle, CKA_VALUE, shared.expose_secret_mut())?;
    if read == length {
        return Ok(shared);
    }
    let detail = "the secret that was agreed on is too short".to_owned();
    Err(HsmError::Unavailable { function: "C_DeriveKey", detail }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_info_names_its_hash_and_its_lengths() {
        for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512] {
            let info = with_digest_info(algorithm, &vec![7; algorithm.bytes()]);
            assert_eq!(usize::from(info[1]), info.len() - 2, "{algorithm:?}");
            assert_eq!(usize::from(info[18]), algorithm.bytes(), "{algorithm:?}");
        }
    }

    #[test]
    fn a_key_signs_in_its_own_ways_only() {
        let rsa = Pair::Rsa { modulus_bytes: 256 };
        let sha256 = SigningMechanism::RsaPkcs1(DigestAlgorithm::Sha256);
        let refused = [
            (rsa, sha256, 31),
            (rsa, SigningMechanism::RsaPss(DigestAlgorithm::Sha512), 32),
            (rsa, SigningMechanism::Ecdsa, 32),
            (Pair::Ec(Curve::P256), sha256, 32),
            (Pair::Ec(Curve::P256), SigningMechanism::Ecdsa, 0),
            (Pair::Ec(Curve::P256), SigningMechanism::EdDsa, 32),
            (Pair::Ed25519, SigningMechanism::Ecdsa, 32),
        ];
        for (pair, mechanism, length) in refused {
            let input = vec![0; length];
            assert!(SignatureRequest::new(pair, mechanism, &input).is_err(), "{pair:?} {mechanism:?}");
        }
    }
}
