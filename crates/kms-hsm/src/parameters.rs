//! What the module is asked to do it with: mechanisms and their parameters.

use cryptoki_sys::CK_MECHANISM_TYPE;
use kms_core::ports::DigestAlgorithm;

/// The number of a mechanism, as `CKM_SHA256_HMAC`.
pub(crate) type MechanismId = CK_MECHANISM_TYPE;

/// The parameters of GCM. PKCS#11 §6.13.3 (CK_GCM_PARAMS).
#[derive(Clone, Copy)]
pub(crate) struct Gcm<'a> {
    pub(crate) iv: &'a [u8; 12],
    pub(crate) associated_data: &'a [u8],
}

/// How a signature or an HMAC is made.
#[derive(Clone, Copy)]
pub(crate) enum Signing {
    /// By a mechanism without parameters.
    Plain(MechanismId),
    /// By RSA-PSS over a digest; MGF1 with the same hash, and a salt as long as the digest.
    Pss(DigestAlgorithm),
}

/// What a cipher does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
}

/// A cipher's mechanism with its parameters, if it has any.
#[derive(Clone, Copy)]
pub(crate) struct Cipher<'a> {
    pub(crate) mechanism: MechanismId,
    pub(crate) gcm: Option<Gcm<'a>>,
}

/// How a key is wrapped and unwrapped.
#[derive(Clone, Copy)]
pub(crate) enum Wrapping {
    /// By a mechanism without parameters.
    Plain(MechanismId),
    /// By RSA-OAEP with SHA-1 and no label: the only form that every module has.
    Oaep,
}
