//! How material is wrapped for its import.

use aes_kw::{KeyInit as _, KwpAes256};
use getrandom::SysRng;
use kms_client::SecretBytes;
use rsa::{
    Oaep, PublicKey,
    pkcs8::{DecodePublicKey as _, PrivateKeyInfoRef, SecretDocument, der::Decode as _},
};
use sha2::Sha256;

use crate::output::Failure;

/// The service's algorithm for [`wrap`].
pub(crate) const WRAPPING: &str = "RSAES_OAEP_SHA_256";
/// RFC 7468 §10
const PEM_LABEL: &str = "PRIVATE KEY";

/// The material, wrapped by RSA-OAEP with SHA-256 under the service's key.
pub(crate) fn wrap(public_key: &[u8], material: &SecretBytes) -> Result<Vec<u8>, Failure> {
    let key = PublicKey::from_public_key_der(public_key)
        .map_err(|error| Failure::Usage(format!("the service's public key cannot be read: {error}")))?;
    key.encrypt(&mut SysRng, Oaep::<Sha256>::new(), material.expose())
        .map_err(|error| Failure::Usage(format!("the material cannot be wrapped: {error}")))
}

/// A private key, wrapped: the temporary key that wraps it, under the service's key; and itself, under the temporary
/// one, by AES key wrap with padding.
// RFC 5649; DEW: encrypted_key_material, encrypted_privatekey
pub(crate) fn wrap_private_key(
    public_key: &[u8],
    private_key: &SecretDocument,
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let failed = |problem: String| Failure::Usage(format!("the private key cannot be wrapped: {problem}"));
    let mut temporary = vec![0; 32];
    getrandom::fill(&mut temporary).map_err(|error| failed(error.to_string()))?;
    let temporary = SecretBytes::from(temporary);
    let cipher = KwpAes256::new_from_slice(temporary.expose()).map_err(|error| failed(error.to_string()))?;
    let private_key = private_key.as_bytes();
    let mut wrapped = vec![0; private_key.len().next_multiple_of(8) + 8];
    cipher.wrap_key(private_key, &mut wrapped).map_err(|error| failed(error.to_string()))?;
    Ok((wrap(public_key, &temporary)?, wrapped))
}

/// Reads a private key: PKCS#8 in PEM or DER, without a password.
// RFC 5958; RFC 7468 §10
pub(crate) fn read_private_key(bytes: &SecretBytes) -> Result<SecretDocument, Failure> {
    let unusable = || {
        let problem = "must be a private key in PKCS#8, PEM or DER, without a password \
            (openssl pkcs8 -topk8 -nocrypt makes one)";
        Failure::Usage(problem.to_owned())
    };
    let document = match std::str::from_utf8(bytes.expose()) {
        Ok(text) if text.contains("-----BEGIN ") => {
            let (label, document) = SecretDocument::from_pem(text).map_err(|_| unusable())?;
            (label == PEM_LABEL).then_some(document).ok_or_else(unusable)?
        }
        _ => SecretDocument::try_from(bytes.expose()).map_err(|_| unusable())?,
    };
    PrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| unusable())?;
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8410 §10.3
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";

    fn read(bytes: &[u8]) -> Option<Vec<u8>> {
        let document = read_private_key(&SecretBytes::from(bytes.to_vec())).ok()?;
        Some(document.as_bytes().to_vec())
    }

    #[test]
    fn pem_and_der_are_the_same_key() {
        let der = read(PEM.as_bytes()).expect("a key");
        assert_eq!(der.len(), 48);
        assert_eq!(read(&der), Some(der));
    }

    #[test]
    fn what_is_no_bare_private_key_is_refused() {
        for label in ["ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY"] {
            assert_eq!(read(PEM.replace("PRIVATE KEY", label).as_bytes()), None, "{label}");
        }
        for bytes in [&b""[..], &[7; 32], &PEM.as_bytes()[..60], b"\x30\x00", b"-----BEGIN PRIVATE KEY-----"]
        {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }
}
