//! Galois/Counter Mode over the two block ciphers.

use aes_gcm::{
    Aes256Gcm, AesGcm,
    aead::{AeadInOut, KeyInit, consts::U12},
};
use sm4::Sm4;

use crate::{error::Error, key::Cipher};

/// The tag's length, in bytes.
pub(crate) const TAG_BYTES: usize = 16;

/// Encrypts `text` where it lies: every byte of it is overwritten. Answers the tag.
// NIST SP 800-38D for AES; RFC 8998 for the same mode over SM4.
pub(crate) fn seal(
    cipher: Cipher,
    key: &[u8],
    iv: [u8; 12],
    associated_data: &[u8],
    text: &mut [u8],
) -> Result<[u8; TAG_BYTES], Error> {
    let (iv, text) = (iv.into(), text.into());
    let tag = match cipher {
        Cipher::Aes256Gcm => keyed::<Aes256Gcm>(key)?.encrypt_inout_detached(&iv, associated_data, text),
        Cipher::Sm4Gcm => keyed::<AesGcm<Sm4, U12>>(key)?.encrypt_inout_detached(&iv, associated_data, text),
    };
    tag.map(Into::into).map_err(|_| Error::Internal { detail: "the AEAD refused a short plaintext" })
}

/// Decrypts `text` where it lies, if the tag is that of it and of what was authenticated beside it.
pub(crate) fn open(
    cipher: Cipher,
    key: &[u8],
    iv: [u8; 12],
    associated_data: &[u8],
    text: &mut [u8],
    tag: [u8; TAG_BYTES],
) -> Result<(), Error> {
    let (iv, tag, text) = (iv.into(), tag.into(), text.into());
    match cipher {
        Cipher::Aes256Gcm => {
            keyed::<Aes256Gcm>(key)?.decrypt_inout_detached(&iv, associated_data, text, &tag)
        }
        Cipher::Sm4Gcm => {
            keyed::<AesGcm<Sm4, U12>>(key)?.decrypt_inout_detached(&iv, associated_data, text, &tag)
        }
    }
    .map_err(|_| Error::CannotDecrypt)
}

fn keyed<C: KeyInit>(key: &[u8]) -> Result<C, Error> {
    C::new_from_slice(key).map_err(|_| Error::Internal { detail: "a wrapping key has a wrong length" })
}

#[cfg(test)]
mod tests {
    use aes_gcm::aes::cipher::BlockCipherEncrypt as _;

    use super::*;

    const KEY: &str = "0123456789abcdeffedcba9876543210";

    fn bytes(digits: &str) -> Vec<u8> {
        hex::decode(digits).expect("hexadecimal digits")
    }

    #[test]
    fn sm4_is_that_of_its_standard() {
        // GB/T 32907 §A.1 and §A.2: the key encrypts itself once, and a million times.
        let cipher = Sm4::new_from_slice(&bytes(KEY)).expect("16 bytes");
        let mut block: [u8; 16] = bytes(KEY)[..].try_into().expect("16 bytes");
        cipher.encrypt_block((&mut block).into());
        assert_eq!(hex::encode(block), "681edf34d206965e86b3e94f536e4246");
        for _ in 1..1_000_000 {
            cipher.encrypt_block((&mut block).into());
        }
        assert_eq!(hex::encode(block), "595298c7c6fd271f0402f804c33d3f66");
    }

    #[test]
    fn sm4_gcm_is_that_of_its_standard() {
        // RFC 8998 §A.1
        let (iv, data) =
            (bytes("00001234567800000000abcd"), bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2"));
        let iv = iv[..].try_into().expect("12 bytes");
        let sealed = "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735\
            d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d";
        let tag = "83de3541e4c2b58177e065a9bf7b62ec";
        let plaintext: Vec<u8> =
            [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0xee, 0xaa].into_iter().flat_map(|byte| [byte; 8]).collect();
        let mut text = plaintext.clone();
        let made = seal(Cipher::Sm4Gcm, &bytes(KEY), iv, &data, &mut text).expect("short");
        assert_eq!((hex::encode(&text).as_str(), hex::encode(made).as_str()), (sealed, tag));
        open(Cipher::Sm4Gcm, &bytes(KEY), iv, &data, &mut text, made).expect("opens");
        assert_eq!(text, plaintext);
    }
}
