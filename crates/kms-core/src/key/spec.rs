//! What kinds of keys there are, and what each is for.

use serde::{Deserialize, Serialize};

/// The kind of a CMK: its algorithm and size. The names are DEW's.
// DEW: §3, key_spec of create-key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of the standards say it all")]
pub enum KeySpec {
    /// AES-256; seals with GCM.
    Aes256,
    /// SM4; seals with GCM.
    Sm4,
    Rsa2048,
    Rsa3072,
    Rsa4096,
    EcP256,
    EcP384,
    Secp256k1,
    /// The curve SM2 with SM3.
    Sm2,
    Ed25519,
    /// HMAC-SHA-256 with a key of 32 bytes.
    Hmac256,
    /// HMAC-SHA-384 with a key of 48 bytes.
    Hmac384,
    /// HMAC-SHA-512 with a key of 64 bytes.
    Hmac512,
    /// HMAC-SM3 with a key of 32 bytes.
    HmacSm3,
}

/// What keys of different sizes have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyClass {
    /// Seals and opens: AES and SM4.
    Symmetric,
    /// RSA.
    Rsa,
    /// The curves P-256, P-384 and secp256k1.
    EllipticCurve,
    /// SM2.
    Sm2,
    /// Ed25519.
    Edwards,
    /// HMAC.
    Mac,
}

/// What seals under a symmetric key. The numbers stand in ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Cipher {
    /// AES-256-GCM.
    Aes256Gcm = 1,
    /// SM4-GCM.
    Sm4Gcm = 2,
}

/// What a key is for; fixed at its creation.
// DEW: §3, key_usage of create-key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyUsage {
    /// Data keys and small data.
    EncryptDecrypt,
    /// Signatures.
    SignVerify,
    /// Message authentication codes.
    GenerateVerifyMac,
    /// Shared secrets.
    KeyAgreement,
}

impl KeySpec {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Aes256,
        Self::Sm4,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::EcP256,
        Self::EcP384,
        Self::Secp256k1,
        Self::Sm2,
        Self::Ed25519,
        Self::Hmac256,
        Self::Hmac384,
        Self::Hmac512,
        Self::HmacSm3,
    ];

    /// The name in DEW's API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256 => "AES_256",
            Self::Sm4 => "SM4",
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
            Self::EcP256 => "EC_P256",
            Self::EcP384 => "EC_P384",
            Self::Secp256k1 => "SECP256K1",
            Self::Sm2 => "SM2",
            Self::Ed25519 => "ED25519",
            Self::Hmac256 => "HMAC_256",
            Self::Hmac384 => "HMAC_384",
            Self::Hmac512 => "HMAC_512",
            Self::HmacSm3 => "HMAC_SM3",
        }
    }

    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|spec| spec.name() == name)
    }

    /// What it has in common with others.
    pub const fn class(self) -> KeyClass {
        match self {
            Self::Aes256 | Self::Sm4 => KeyClass::Symmetric,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => KeyClass::Rsa,
            Self::EcP256 | Self::EcP384 | Self::Secp256k1 => KeyClass::EllipticCurve,
            Self::Sm2 => KeyClass::Sm2,
            Self::Ed25519 => KeyClass::Edwards,
            Self::Hmac256 | Self::Hmac384 | Self::Hmac512 | Self::HmacSm3 => KeyClass::Mac,
        }
    }

    /// Whether it is a key pair: all but symmetric and HMAC keys.
    pub const fn is_pair(self) -> bool {
        !matches!(self.class(), KeyClass::Symmetric | KeyClass::Mac)
    }

    /// What seals under a key of this kind; `None` if it is not symmetric.
    pub const fn cipher(self) -> Option<Cipher> {
        match self {
            Self::Aes256 => Some(Cipher::Aes256Gcm),
            Self::Sm4 => Some(Cipher::Sm4Gcm),
            _ => None,
        }
    }

    /// What a key of this kind may be for; the first is the default.
    // DEW: §3. Which usage a key for shared secrets has is not stated there; KEY_AGREEMENT is our choice.
    pub const fn usages(self) -> &'static [KeyUsage] {
        match self.class() {
            KeyClass::Symmetric => &[KeyUsage::EncryptDecrypt],
            KeyClass::Rsa => &[KeyUsage::EncryptDecrypt, KeyUsage::SignVerify],
            KeyClass::EllipticCurve => &[KeyUsage::SignVerify, KeyUsage::KeyAgreement],
            KeyClass::Sm2 => &[KeyUsage::SignVerify, KeyUsage::EncryptDecrypt, KeyUsage::KeyAgreement],
            KeyClass::Edwards => &[KeyUsage::SignVerify],
            KeyClass::Mac => &[KeyUsage::GenerateVerifyMac],
        }
    }

    /// What a key of this kind is for if nobody says.
    pub const fn default_usage(self) -> KeyUsage {
        self.usages()[0]
    }
}

impl KeyUsage {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::EncryptDecrypt, Self::SignVerify, Self::GenerateVerifyMac, Self::KeyAgreement];

    /// The name in DEW's API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EncryptDecrypt => "ENCRYPT_DECRYPT",
            Self::SignVerify => "SIGN_VERIFY",
            Self::GenerateVerifyMac => "GENERATE_VERIFY_MAC",
            Self::KeyAgreement => "KEY_AGREEMENT",
        }
    }

    /// The usage with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|usage| usage.name() == name)
    }
}

impl Cipher {
    /// The length of its keys, in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Aes256Gcm => 32,
            Self::Sm4Gcm => 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for spec in KeySpec::ALL {
            assert_eq!(KeySpec::parse(spec.name()), Some(spec));
            assert!(spec.usages().contains(&spec.default_usage()));
            assert_eq!(spec.cipher().is_some(), spec.class() == KeyClass::Symmetric);
        }
        for usage in KeyUsage::ALL {
            assert_eq!(KeyUsage::parse(usage.name()), Some(usage));
        }
        assert_eq!((KeySpec::parse("aes_256"), KeyUsage::parse("")), (None, None));
    }
}
