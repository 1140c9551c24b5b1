//! The algorithms, and the data key of an object.

use kms_client::SecretBytes;
use serde::{Deserialize, Serialize};

use super::Error;

/// Bytes of the authentication tag that follows every segment.
pub const TAG_LENGTH: usize = 16;

/// What seals the segments.
// DEW: x-obs-server-side-data-encryption is AES256 or SM4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suite {
    /// AES-256-GCM, with a data key of 32 bytes.
    #[default]
    #[serde(rename = "AES256")]
    Aes256Gcm = 1,
    /// SM4-GCM, with a data key of 16 bytes.
    // RFC 8998: GCM over SM4.
    #[serde(rename = "SM4")]
    Sm4Gcm = 2,
}

impl Suite {
    /// Bytes of the data key.
    pub const fn key_length(self) -> usize {
        match self {
            Self::Aes256Gcm => 32,
            Self::Sm4Gcm => 16,
        }
    }

    /// The suite's name in OBS' header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "AES256",
            Self::Sm4Gcm => "SM4",
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::Sm4Gcm),
            _ => None,
        }
    }
}

/// The data key of one object, in plain: wiped when it is dropped.
#[derive(Debug)]
pub struct ObjectKey {
    suite: Suite,
    secret: SecretBytes,
}

impl ObjectKey {
    /// A data key for this suite. [`Error::KeyLength`] if it has another length.
    pub fn new(suite: Suite, secret: SecretBytes) -> Result<Self, Error> {
        if secret.expose().len() == suite.key_length() {
            Ok(Self { suite, secret })
        } else {
            Err(Error::KeyLength)
        }
    }

    /// The suite that it is for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.secret.expose()
    }
}
