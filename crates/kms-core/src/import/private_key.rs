//! Private keys from outside: how they are wrapped, and what is required of them.

use aes_kw::{
    AesKwp, KeyInit, KwpAes128, KwpAes256,
    aes::cipher::{BlockCipherDecrypt, BlockSizeUser, consts::U16},
};
use crypto_primes::{Flavor, is_prime};
use rsa::{
    pkcs8::{
        DecodePrivateKey as _, EncodePublicKey as _, PrivateKeyInfoRef, SubjectPublicKeyInfoRef,
        der::Decode as _,
    },
    traits::{PrivateKeyParts as _, PublicKeyParts as _},
};
use zeroize::Zeroizing;

use crate::{
    crypto::{PublicKey, SecretKey},
    key::{KeyClass, KeySpec},
    secret::SecretBytes,
};

/// The longest private key that is taken: one of RSA-4096 has less than 2400 bytes.
const MAX_WRAPPED_BYTES: usize = 4096;
/// RFC 5649 §4.1: what it adds to a key and its padding.
const OVERHEAD_BYTES: usize = 8;

/// Opens a private key that was wrapped by AES key wrap with padding under a temporary key of 16 or 32 bytes. `None`
/// does not tell what is wrong.
// RFC 5649 §4.2; DEW: encrypted_privatekey, KMS.2610
pub(crate) fn unwrap(temporary: &SecretBytes, wrapped: &[u8]) -> Option<SecretBytes> {
    let temporary = temporary.expose_secret();
    match temporary.len() {
        16 => open(&KwpAes128::new_from_slice(temporary).ok()?, wrapped),
        32 => open(&KwpAes256::new_from_slice(temporary).ok()?, wrapped),
        _ => None,
    }
}

fn open<C>(cipher: &AesKwp<C>, wrapped: &[u8]) -> Option<SecretBytes>
where
    C: BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
{
    if !(2 * OVERHEAD_BYTES..=MAX_WRAPPED_BYTES).contains(&wrapped.len()) {
        return None;
    }
    let mut padded = SecretBytes::zeroed(wrapped.len() - OVERHEAD_BYTES);
    let key = cipher.unwrap_key(wrapped, padded.expose_secret_mut()).ok()?;
    Some(SecretBytes::new(key.to_vec()))
}

/// The SubjectPublicKeyInfo that belongs to a private key in PKCS#8; `None` if that is no sound key of this kind, or
/// says of its public half what is not so.
// RFC 5958 §2
pub(crate) fn public_half(spec: KeySpec, private_key: &SecretBytes) -> Option<Vec<u8>> {
    let der = private_key.expose_secret();
    let public_half = match spec.class() {
        KeyClass::Rsa => sound_rsa(der)?,
        _ => SecretKey::bring(spec, private_key)?.public_key_der(),
    };
    PublicKey::parse(spec, &public_half)?;
    let told = PrivateKeyInfoRef::from_der(der).ok()?.public_key;
    let belongs = SubjectPublicKeyInfoRef::from_der(&public_half).ok()?.subject_public_key;
    told.is_none_or(|told| told == belongs).then_some(public_half)
}

/// The public half of an RSA key whose numbers belong together and are of the size and kind that its strength rests on.
/// The sizes of modulus and public exponent are [`PublicKey::parse`]'s to check.
// FIPS 186-5 §A.1.1: two primes of half the size, far from each other, and no short private exponent
fn sound_rsa(der: &[u8]) -> Option<Vec<u8>> {
    let key = rsa::PrivateKey::from_pkcs8_der(der).ok()?; // also checks how its numbers belong together
    let [p, q] = key.primes() else { return None };
    let bits = key.n().bit_width();
    let half = bits / 2;
    let (larger, smaller) = if p > q { (p, q) } else { (q, p) };
    let apart = Zeroizing::new(larger.wrapping_sub(smaller.as_ref()));
    let sizes = bits.is_multiple_of(1024) && p.bit_width() == half && q.bit_width() == half;
    let far = apart.bit_width() + 100 > half && key.d().bit_width() > half;
    let sound = sizes && far && [p, q].into_iter().all(|prime| is_prime(Flavor::Any, prime.as_ref()));
    if sound { Some(key.to_public_key().to_public_key_der().ok()?.into_vec()) } else { None }
}

#[cfg(test)]
mod tests {
    use rsa::pkcs8::SecretDocument;

    use super::*;

    fn half(spec: KeySpec, pem: &str) -> Option<Vec<u8>> {
        let (_, document) = SecretDocument::from_pem(pem).expect("PEM");
        public_half(spec, &SecretBytes::new(document.as_bytes().to_vec()))
    }

    #[test]
    fn rsa_keys_without_their_strength_are_refused() {
        let sound = include_str!("unsound/sound.pem");
        assert!(half(KeySpec::Rsa2048, sound).is_some());
        assert_eq!(half(KeySpec::Rsa3072, sound), None);
        assert_eq!(half(KeySpec::EcP256, sound), None);
        for (name, pem) in [
            ("a composite prime", include_str!("unsound/composite-prime.pem")),
            ("the exponent 3", include_str!("unsound/exponent-3.pem")),
            ("primes close to each other", include_str!("unsound/close-primes.pem")),
            ("primes of different sizes", include_str!("unsound/uneven-primes.pem")),
            ("three primes", include_str!("unsound/three-primes.pem")),
            ("128 bits", include_str!("unsound/tiny.pem")),
            ("2047 bits", include_str!("unsound/short-modulus.pem")),
            ("the modulus of another key", include_str!("unsound/foreign-modulus.pem")),
        ] {
            assert_eq!(half(KeySpec::Rsa2048, pem), None, "{name}");
        }
    }

    #[test]
    fn keys_that_name_another_public_half_are_refused() {
        assert!(half(KeySpec::EcP256, include_str!("unsound/sound-p256.pem")).is_some());
        for (name, pem) in [
            ("in PKCS#8", include_str!("unsound/foreign-point.pem")),
            ("in the private key", include_str!("unsound/foreign-inner-point.pem")),
            ("another curve in the private key", include_str!("unsound/another-curve-inside.pem")),
        ] {
            assert_eq!(half(KeySpec::EcP256, pem), None, "{name}");
        }
    }

    #[test]
    fn what_a_temporary_key_did_not_wrap_does_not_open() {
        let (temporary, key) = (SecretBytes::new(vec![7; 32]), [0x5a; 21]);
        let mut wrapped = [0; 32];
        KwpAes256::new_from_slice(temporary.expose_secret())
            .expect("32 bytes")
            .wrap_key(&key, &mut wrapped)
            .expect("it fits");
        let opened = unwrap(&temporary, &wrapped).expect("as it was wrapped");
        assert_eq!(opened.expose_secret(), key);
        for place in 0..wrapped.len() {
            let mut altered = wrapped;
            altered[place] ^= 1;
            assert!(unwrap(&temporary, &altered).is_none(), "byte {place}");
            assert!(unwrap(&temporary, &wrapped[..place]).is_none(), "{place} bytes");
        }
        for bytes in [0, 15, 17, 24, 31, 33] {
            assert!(unwrap(&SecretBytes::new(vec![7; bytes]), &wrapped).is_none(), "{bytes} bytes");
        }
        assert!(unwrap(&temporary, &[0; MAX_WRAPPED_BYTES + 8]).is_none());
    }
}
