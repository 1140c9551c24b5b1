//! What a token offers of what this service needs or can use.

use cryptoki::{
    error::{Error, RvError},
    slot::Slot,
};
use cryptoki_sys::{
    CK_ULONG, CKF_DECRYPT, CKF_DERIVE, CKF_ENCRYPT, CKF_GENERATE, CKF_GENERATE_KEY_PAIR, CKF_SIGN,
    CKF_UNWRAP, CKF_WRAP, CKM_AES_GCM, CKM_AES_KEY_GEN, CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_KWP,
    CKM_AES_KEY_WRAP_PAD, CKM_EC_EDWARDS_KEY_PAIR_GEN, CKM_EC_KEY_PAIR_GEN, CKM_ECDH1_DERIVE, CKM_ECDSA,
    CKM_EDDSA, CKM_GENERIC_SECRET_KEY_GEN, CKM_RSA_PKCS, CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_RSA_PKCS_OAEP,
    CKM_RSA_PKCS_PSS, CKM_RSA_X_509, CKM_SHA256_HMAC, CKM_SHA384_HMAC, CKM_SHA512_HMAC,
};

use crate::{
    OpenError,
    calls::Call,
    direct::Direct,
    failure::Failure,
    parameters::{MechanismId, Wrapping},
};

/// How keys are wrapped under the root key. The number stands before the wrapped bytes, so that a
/// token that learns a better way still opens what it wrapped before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WrapMechanism {
    /// `CKM_AES_KEY_WRAP`, RFC 3394.
    Plain = 1,
    /// `CKM_AES_KEY_WRAP_KWP`, RFC 5649.
    Padded = 2,
    /// `CKM_AES_KEY_WRAP_PAD`: what RFC 5649 says, or what the vendor took it for.
    VendorPadded = 3,
}

impl WrapMechanism {
    /// All of them, the preferred one first.
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Padded, Self::VendorPadded];

    pub(crate) const fn id(self) -> MechanismId {
        match self {
            Self::Plain => CKM_AES_KEY_WRAP,
            Self::Padded => CKM_AES_KEY_WRAP_KWP,
            Self::VendorPadded => CKM_AES_KEY_WRAP_PAD,
        }
    }

    pub(crate) const fn wrapping(self) -> Wrapping {
        Wrapping::Plain(self.id())
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "CKM_AES_KEY_WRAP",
            Self::Padded => "CKM_AES_KEY_WRAP_KWP",
            Self::VendorPadded => "CKM_AES_KEY_WRAP_PAD",
        }
    }

    /// Whether it wraps what has no length of a multiple of eight, as private keys.
    pub(crate) const fn pads(self) -> bool {
        matches!(self, Self::Padded | Self::VendorPadded)
    }

    /// The mechanism with this number before a wrapped key.
    pub(crate) fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| *mechanism as u8 == number)
    }
}

/// What the token's own key pair does for the checkpoints of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointSignature {
    /// It signs them: Ed25519 by `CKM_EDDSA`.
    EdDsa,
    /// It vouches for the key that signs them: P-256 by `CKM_ECDSA`.
    Ecdsa,
}

impl CheckpointSignature {
    pub(crate) const fn mechanism(self) -> MechanismId {
        match self {
            Self::EdDsa => CKM_EDDSA,
            Self::Ecdsa => CKM_ECDSA,
        }
    }

    /// The mechanism's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "CKM_EDDSA",
            Self::Ecdsa => "CKM_ECDSA",
        }
    }
}

/// A vendor's SM4 by the numbers of its own header file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VendorSm4 {
    /// `CKK_…`: the key type.
    pub key_type: u64,
    /// `CKM_…`: makes a key; takes no length.
    pub generation: u64,
    /// `CKM_…`: the cipher.
    pub cipher: u64,
    /// What the cipher takes and gives.
    pub form: CipherForm,
}

/// What a vendor's cipher takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherForm {
    /// An AEAD: GCM with CK_GCM_PARAMS and the tag behind the ciphertext, as `CKM_AES_GCM`.
    Gcm,
    /// No AEAD but bare blocks (ECB): the service builds GCM from them, and the key stays inside.
    Ecb,
}

/// What the token offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// The ways in which it wraps and unwraps, the preferred one first; never empty.
    pub(crate) wraps: Vec<WrapMechanism>,
    /// AES-256-GCM inside the token.
    pub(crate) aes_gcm: bool,
    /// SM4 inside the token, by the configured numbers.
    pub(crate) sm4: bool,
    pub(crate) checkpoint: Option<CheckpointSignature>,
    /// HMAC with SHA-384 and SHA-512.
    pub(crate) longer_hmacs: [bool; 2],
    pub(crate) pairs: PairCapabilities,
    /// RSA-OAEP: takes keys over from another token.
    pub(crate) transfer: bool,
}

/// What the token says of key pairs; whether it wraps them it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairCapabilities {
    /// The longest modulus of RSA keys that sign and decrypt, in bits; 0 without any.
    pub(crate) rsa_bits: CK_ULONG,
    /// Keys on some curve that sign by ECDSA and agree on secrets; on which one it does not say.
    pub(crate) curves: bool,
    /// Keys that sign by EdDSA.
    pub(crate) edwards: bool,
}

impl Capabilities {
    /// Asks the token in `slot`; an error if it lacks what nothing works without.
    pub(crate) fn of(direct: &Direct, slot: Slot, sm4: Option<&VendorSm4>) -> Result<Self, OpenError> {
        let mut failed = None;
        let mut longest = |mechanism: u64, flags: CK_ULONG| {
            match direct.mechanism_information(slot, mechanism) {
                Ok((offered, longest)) => (offered & flags == flags).then_some(longest),
                Err(Error::Pkcs11(RvError::MechanismInvalid, _)) => None,
                // A token that cannot answer now is not taken for one that cannot do it.
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            }
        };
        let rsa = longest(CKM_RSA_PKCS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR);
        let mut offers = |mechanism: u64, flags: CK_ULONG| longest(mechanism, flags).is_some();
        let missing =
            REQUIRED.into_iter().find(|(mechanism, flag, _)| !offers(*mechanism, *flag)).map(|found| found.2);
        let wraps: Vec<_> = WrapMechanism::ALL
            .into_iter()
            .filter(|mechanism| offers(mechanism.id(), CKF_WRAP | CKF_UNWRAP))
            .collect();
        let seals = CKF_ENCRYPT | CKF_DECRYPT;
        let mut signs =
            |mechanism, generation| offers(mechanism, CKF_SIGN) && offers(generation, CKF_GENERATE_KEY_PAIR);
        let checkpoint = if signs(CKM_EDDSA, CKM_EC_EDWARDS_KEY_PAIR_GEN) {
            Some(CheckpointSignature::EdDsa)
        } else {
            signs(CKM_ECDSA, CKM_EC_KEY_PAIR_GEN).then_some(CheckpointSignature::Ecdsa)
        };
        let curves = signs(CKM_ECDSA, CKM_EC_KEY_PAIR_GEN);
        let rsa_works = offers(CKM_RSA_PKCS, CKF_SIGN)
            && offers(CKM_RSA_PKCS_PSS, CKF_SIGN)
            && offers(CKM_RSA_X_509, CKF_DECRYPT);
        let found = Self {
            longer_hmacs: [CKM_SHA384_HMAC, CKM_SHA512_HMAC].map(|mechanism| offers(mechanism, CKF_SIGN)),
            pairs: PairCapabilities {
                rsa_bits: rsa.filter(|_| rsa_works).unwrap_or_default(),
                curves: curves && offers(CKM_ECDH1_DERIVE, CKF_DERIVE),
                edwards: checkpoint == Some(CheckpointSignature::EdDsa),
            },
            aes_gcm: offers(CKM_AES_GCM, seals),
            sm4: sm4.is_some_and(|sm4| offers(sm4.generation, CKF_GENERATE) && offers(sm4.cipher, seals)),
            checkpoint,
            transfer: offers(CKM_RSA_PKCS_OAEP, CKF_WRAP | CKF_UNWRAP) && rsa.is_some(),
            wraps,
        };
        match (failed, missing) {
            (Some(error), _) => Err(Failure::new(Call::GetMechanismInfo, error).into()),
            (None, Some(mechanism)) => Err(OpenError::MechanismMissing { mechanism }),
            (None, None) if found.wraps.is_empty() => Err(OpenError::NoWrapMechanism),
            (None, None) => Ok(found),
        }
    }

    /// The mechanism that wraps new keys.
    pub(crate) fn wrap(&self) -> WrapMechanism {
        self.wraps.first().copied().unwrap_or(WrapMechanism::Plain) // never empty
    }

    /// The mechanism that wraps new private keys.
    pub(crate) fn padded_wrap(&self) -> Option<WrapMechanism> {
        self.wraps.iter().copied().find(|mechanism| mechanism.pads())
    }

    /// What is missing, each with what it costs; for one line at start.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let missing = [
            (!self.aes_gcm, "CKM_AES_GCM (no AES keys that seal in the HSM)"),
            (
                self.checkpoint.is_none(),
                "CKM_EDDSA and CKM_ECDSA (no key inside the HSM vouches for the log's checkpoints)",
            ),
            (!self.transfer, "CKM_RSA_PKCS_OAEP (keys cannot be taken over from another token)"),
        ];
        missing.into_iter().filter_map(|(is_missing, what)| is_missing.then_some(what)).collect()
    }
}

/// What nothing works without.
const REQUIRED: [(MechanismId, CK_ULONG, &str); 3] = [
    (CKM_AES_KEY_GEN, CKF_GENERATE, "CKM_AES_KEY_GEN"),
    (CKM_GENERIC_SECRET_KEY_GEN, CKF_GENERATE, "CKM_GENERIC_SECRET_KEY_GEN"),
    (CKM_SHA256_HMAC, CKF_SIGN, "CKM_SHA256_HMAC"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrap_mechanism_has_its_own_number() {
        for mechanism in WrapMechanism::ALL {
            assert_eq!(WrapMechanism::numbered(mechanism as u8), Some(mechanism));
        }
        assert_eq!([0, 4, 255].map(WrapMechanism::numbered), [None; 3]);
    }
}
