//! Secrets that wipe themselves.

use std::fmt;

use zeroize::Zeroizing;

/// Secret bytes: wiped on drop, masked in `Debug`, read through one verb only.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over; the vector must not have been reallocated since the secret came in.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// `length` zero bytes, to be filled in place.
    pub fn zeroed(length: usize) -> Self {
        Self::new(vec![0; length])
    }

    /// The secret itself.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// The secret itself, to be filled.
    pub fn expose_secret_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// How many bytes it has; not secret.
    #[allow(clippy::len_without_is_empty, reason = "no secret here is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}
