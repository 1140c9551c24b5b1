//! Digests and HMACs.

use ed25519_dalek::ed25519::signature::digest::{
    FixedOutput, HashMarker, Output, OutputSizeUser, Update, array::typenum::U64,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use sm3::Sm3;

use super::MacAlgorithm;
use crate::{error::Error, ports::DigestAlgorithm};

pub(super) fn sha2(algorithm: DigestAlgorithm, message: &[u8]) -> Vec<u8> {
    match algorithm {
        DigestAlgorithm::Sha256 => Sha256::digest(message).to_vec(),
        DigestAlgorithm::Sha384 => Sha384::digest(message).to_vec(),
        DigestAlgorithm::Sha512 => Sha512::digest(message).to_vec(),
    }
}

pub(super) fn sm3(message: &[u8]) -> [u8; 32] {
    Sm3::digest(message).into()
}

pub(super) fn hmac(algorithm: MacAlgorithm, key: &[u8], message: &[u8]) -> Result<Vec<u8>, Error> {
    macro_rules! compute {
        ($hash:ty) => {
            Hmac::<$hash>::new_from_slice(key)
                .map(|keyed| keyed.chain_update(message).finalize().into_bytes().to_vec())
        };
    }
    let mac = match algorithm {
        MacAlgorithm::HmacSha256 => compute!(Sha256),
        MacAlgorithm::HmacSha384 => compute!(Sha384),
        MacAlgorithm::HmacSha512 => compute!(Sha512),
        MacAlgorithm::HmacSm3 => compute!(Sm3),
    };
    mac.map_err(|_| Error::Internal { detail: "HMAC takes keys of any length" })
}

/// A digest that is known already, for code that wants to compute one.
#[derive(Clone)]
pub(super) struct Known([u8; 64]);

impl Known {
    /// `None` if it is no SHA-512 digest.
    pub(super) fn new(digest: &[u8]) -> Option<Self> {
        digest.try_into().ok().map(Self)
    }
}

impl Default for Known {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Update for Known {
    fn update(&mut self, _: &[u8]) {}
}

impl OutputSizeUser for Known {
    type OutputSize = U64;
}

impl FixedOutput for Known {
    fn finalize_into(self, out: &mut Output<Self>) {
        out.copy_from_slice(&self.0);
    }
}

impl HashMarker for Known {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sm3_is_that_of_its_standard() {
        // GB/T 32905 §A.1 and §A.2
        for (message, expected) in [
            (&b"abc"[..], "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
            (&b"abcd".repeat(16), "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),
        ] {
            assert_eq!(hex::encode(sm3(message)), expected);
        }
    }
}
