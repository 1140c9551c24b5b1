//! Secret bytes that are wiped when they are dropped and never shown.

use std::fmt;

use bytes::Bytes;
use zeroize::{Zeroize as _, Zeroizing};

/// Secret bytes: wiped on drop, masked in `Debug`, opened only by [`SecretBytes::expose`].
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The secret itself. Do not keep copies of it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Moves a plaintext out of a transport's buffer, and wipes it there if nobody else holds that buffer.
    pub fn take(received: Bytes) -> Self {
        let secret = Self::from(received.to_vec());
        if let Ok(mut unshared) = received.try_into_mut() {
            unshared.zeroize();
        }
        secret
    }

    /// Takes the secret for a request: the buffer is wiped when the last reader lets go of it.
    pub fn into_request(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl From<Vec<u8>> for SecretBytes {
    /// Takes the vector over without a copy.
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        self.expose()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_only() {
        assert_eq!(format!("{:?}", SecretBytes::from(vec![65; 3])), "SecretBytes(3 bytes)");
    }

    #[test]
    fn take_keeps_the_bytes_of_a_shared_buffer() {
        let received = Bytes::from(vec![1, 2, 3, 4]);
        let shared = received.clone();
        assert_eq!(SecretBytes::take(received.slice(1..3)).expose(), [2, 3]);
        assert_eq!(shared, vec![1, 2, 3, 4], "a buffer that others read is left alone");
    }
}
