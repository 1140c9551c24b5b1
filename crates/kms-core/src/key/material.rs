//! The material of a key: its versions, and what each is in the HSM.

use serde::{Deserialize, Serialize};

use super::{KeySpec, MaterialId};
use crate::Timestamp;

/// Where a key version works, and how. The numbers stand in ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Scheme {
    /// The HSM derives a wrapping key for each request; the service seals with that.
    DerivedKey = 1,
    /// The HSM works with the version's own key, which never leaves it. How often a symmetric one may seal
    /// is limited.
    InHsm = 2,
    /// What the token cannot do: the version's own key rests sealed under a key that the HSM derives, and
    /// the service opens it for each call, uses it and wipes it.
    Opened = 3,
}

/// What a backing key is in the HSM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the standards say it all")]
pub enum BackingKind {
    /// 32 bytes that compute HMAC-SHA256, for the service only: they derive and authenticate.
    Mac,
    /// An AES-256 key that seals with GCM.
    Aes256,
    /// An SM4 key that seals with GCM.
    Sm4,
    /// 32 bytes whose HMAC-SHA-256 is answered.
    HmacSha256,
    /// 48 bytes whose HMAC-SHA-384 is answered.
    HmacSha384,
    /// 64 bytes whose HMAC-SHA-512 is answered.
    HmacSha512,
    Rsa2048,
    Rsa3072,
    Rsa4096,
    EcP256,
    EcP384,
    EcSecp256k1,
    Ed25519,
}

impl BackingKind {
    /// What a key of this kind needs for this scheme. [`KeySpec::Sm2`] and [`KeySpec::HmacSm3`] are always
    /// [`Scheme::Opened`]: no module is known that offers them.
    pub const fn of(spec: KeySpec, scheme: Scheme) -> Self {
        match (scheme, spec) {
            (Scheme::DerivedKey | Scheme::Opened, _) | (Scheme::InHsm, KeySpec::Sm2 | KeySpec::HmacSm3) => {
                Self::Mac
            }
            (Scheme::InHsm, KeySpec::Aes256) => Self::Aes256,
            (Scheme::InHsm, KeySpec::Sm4) => Self::Sm4,
            (Scheme::InHsm, KeySpec::Rsa2048) => Self::Rsa2048,
            (Scheme::InHsm, KeySpec::Rsa3072) => Self::Rsa3072,
            (Scheme::InHsm, KeySpec::Rsa4096) => Self::Rsa4096,
            (Scheme::InHsm, KeySpec::EcP256) => Self::EcP256,
            (Scheme::InHsm, KeySpec::EcP384) => Self::EcP384,
            (Scheme::InHsm, KeySpec::Secp256k1) => Self::EcSecp256k1,
            (Scheme::InHsm, KeySpec::Ed25519) => Self::Ed25519,
            (Scheme::InHsm, KeySpec::Hmac256) => Self::HmacSha256,
            (Scheme::InHsm, KeySpec::Hmac384) => Self::HmacSha384,
            (Scheme::InHsm, KeySpec::Hmac512) => Self::HmacSha512,
        }
    }
}

/// A key that is wrapped under the token's root key: safe to store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// Which generation of the root key wrapped it.
    pub root_generation: u32,
    /// The wrapped bytes, as `C_WrapKey` gave them.
    pub blob: Vec<u8>,
}

/// One version's key material, named so that a session can load and cache it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingKey {
    /// What ciphertexts are bound to.
    pub material: MaterialId,
    /// The key version, from 1.
    pub version: u32,
    /// What it is in the HSM.
    pub kind: BackingKind,
    /// The material itself, wrapped.
    pub wrapped: WrappedKey,
}

/// A version of a CMK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVersion {
    /// Counted from 1.
    pub number: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Where it works.
    pub scheme: Scheme,
    /// How many uses of a symmetric [`Scheme::InHsm`] were taken from its budget so far; counted before they
    /// are made.
    pub reserved_uses: u64,
    /// Its backing key, wrapped.
    pub wrapped: WrappedKey,
    /// The public half of a key pair: a SubjectPublicKeyInfo in DER; else empty.
    pub public_key: Vec<u8>,
    /// Only for [`Scheme::Opened`]: the version's own key, sealed under a key that the backing key derives.
    pub sealed_key: Vec<u8>,
}

impl KeyVersion {
    /// A version of a symmetric or HMAC key whose backing key is all there is to it.
    pub fn new(number: u32, created: Timestamp, scheme: Scheme, wrapped: WrappedKey) -> Self {
        let (public_key, sealed_key) = (Vec::new(), Vec::new());
        Self { number, created, scheme, reserved_uses: 0, wrapped, public_key, sealed_key }
    }
}
