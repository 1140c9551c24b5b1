//! The mode of operation.
// NIST SP 800-38D; RFC 8998 §3 for SM4.

use std::fmt;

use aead::{
    AeadCore, AeadInOut, Error, KeyInit, KeySizeUser, Nonce, Tag, TagPosition,
    array::typenum::{U12, U16},
    inout::InOutBuf,
};
use ghash::{GHash, universal_hash::UniversalHash as _};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::cipher::{BLOCK_LENGTH, Block, Sm4};

const NONCE_LENGTH: usize = 12;
/// Blocks of key stream that are made at once: as many as the slowest implementation makes anyway.
const STREAM_BLOCKS: u32 = 128;
const STREAM_LENGTH: usize = STREAM_BLOCKS as usize * BLOCK_LENGTH;
const _: () = assert!(STREAM_BLOCKS as usize == crate::bit_slices::BATCH);
// NIST SP 800-38D §5.2.1.1: 2^32 - 2 blocks, and 2^64 - 1 bits, in bytes.
const LONGEST_TEXT: u64 = (1 << 36) - 32;
const LONGEST_ASSOCIATED_DATA: u64 = (1 << 61) - 1;

/// SM4-GCM with nonces of 12 bytes and tags of 16.
///
/// It gives the same as any other SM4-GCM. A text that is not authentic is left as it was. Keys, the hash key, the key
/// stream and what it is made through are wiped; what the compiler leaves in registers and spills is not, nor the place
/// that a value of this type was moved from.
///
/// ```
/// use aead::{AeadInOut as _, KeyInit as _};
///
/// let cipher = kms_sm4::Sm4Gcm::new(&[7; 16].into());
/// let mut text = *b"some text";
/// let tag = cipher.encrypt_inout_detached(&[0; 12].into(), b"", text.as_mut_slice().into())?;
/// cipher.decrypt_inout_detached(&[0; 12].into(), b"", text.as_mut_slice().into(), &tag)?;
/// assert_eq!(&text, b"some text");
/// # Ok::<(), aead::Error>(())
/// ```
pub struct Sm4Gcm {
    cipher: Sm4,
    hash: GHash,
}

impl Sm4Gcm {
    /// The same on a processor that has no more than every one has, to be measured.
    #[doc(hidden)]
    pub fn in_bit_slices(key: &aead::Key<Self>) -> Self {
        Self::with_cipher(Sm4::in_bit_slices(&key.0))
    }

    /// Whether this processor has nothing better, to know what to expect of it.
    #[doc(hidden)]
    pub fn is_in_bit_slices(&self) -> bool {
        self.cipher.is_in_bit_slices()
    }

    pub(crate) fn with_cipher(cipher: Sm4) -> Self {
        let mut hash_key = [[0; BLOCK_LENGTH]];
        cipher.encrypt(&mut hash_key);
        let hash = GHash::new((&hash_key[0]).into());
        hash_key.zeroize();
        Self { cipher, hash }
    }

    /// Blocks of the key stream, from this counter on.
    pub(crate) fn stream(&self, nonce: &[u8; NONCE_LENGTH], counter: u32, blocks: &mut [Block]) {
        for (index, block) in (0..).zip(blocks.iter_mut()) {
            block[..NONCE_LENGTH].copy_from_slice(nonce);
            block[NONCE_LENGTH..].copy_from_slice(&counter.wrapping_add(index).to_be_bytes());
        }
        self.cipher.encrypt(blocks);
    }

    /// Adds the key stream to a text, and shows each piece of the result.
    fn add_stream(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        mut text: InOutBuf<'_, '_, u8>,
        mut show: impl FnMut(&[u8]),
    ) {
        let mut stream = Zeroizing::new([[0; BLOCK_LENGTH]; STREAM_BLOCKS as usize]);
        // The first counter masks the tag.
        let mut counter = 2_u32;
        while !text.is_empty() {
            let length = text.len().min(STREAM_LENGTH);
            let (mut piece, rest) = text.split_at(length);
            let blocks = &mut stream[..length.div_ceil(BLOCK_LENGTH)];
            self.stream(nonce, counter, blocks);
            piece.xor_in2out(&blocks.as_flattened()[..length]);
            show(piece.get_out());
            // Beyond the longest text it begins anew, unused.
            counter = counter.wrapping_add(STREAM_BLOCKS);
            text = rest;
        }
    }

    /// The tag of what was hashed.
    fn finish(&self, nonce: &[u8; NONCE_LENGTH], mut hash: GHash, lengths: [u64; 2]) -> Tag<Self> {
        let [associated_data, text] = lengths.map(|bytes| (bytes * 8).to_be_bytes());
        let mut block = [0; BLOCK_LENGTH];
        block[..8].copy_from_slice(&associated_data);
        block[8..].copy_from_slice(&text);
        hash.update(&[block.into()]);
        let mut mask = Zeroizing::new([[0; BLOCK_LENGTH]]);
        self.stream(nonce, 1, mask.as_mut());
        let mut tag = hash.finalize();
        tag.iter_mut().zip(mask[0]).for_each(|(tag, mask)| *tag ^= mask);
        tag
    }

    fn hash_of(&self, associated_data: &[u8]) -> GHash {
        let mut hash = self.hash.clone();
        hash.update_padded(associated_data);
        hash
    }
}

impl KeySizeUser for Sm4Gcm {
    type KeySize = U16;
}

impl KeyInit for Sm4Gcm {
    fn new(key: &aead::Key<Self>) -> Self {
        Self::with_cipher(Sm4::new(&key.0))
    }
}

impl AeadCore for Sm4Gcm {
    type NonceSize = U12;
    type TagSize = U16;
    const TAG_POSITION: TagPosition = TagPosition::Postfix;
}

impl AeadInOut for Sm4Gcm {
    fn encrypt_inout_detached(
        &self,
        nonce: &Nonce<Self>,
        associated_data: &[u8],
        text: InOutBuf<'_, '_, u8>,
    ) -> Result<Tag<Self>, Error> {
        let lengths = lengths([associated_data.len(), text.len()])?;
        let mut hash = self.hash_of(associated_data);
        self.add_stream(&nonce.0, text, |piece| hash.update_padded(piece));
        Ok(self.finish(&nonce.0, hash, lengths))
    }

    fn decrypt_inout_detached(
        &self,
        nonce: &Nonce<Self>,
        associated_data: &[u8],
        text: InOutBuf<'_, '_, u8>,
        tag: &Tag<Self>,
    ) -> Result<(), Error> {
        let lengths = lengths([associated_data.len(), text.len()])?;
        let mut hash = self.hash_of(associated_data);
        hash.update_padded(text.get_in());
        let expected = self.finish(&nonce.0, hash, lengths);
        if !bool::from(expected.as_slice().ct_eq(tag.as_slice())) {
            return Err(Error);
        }
        self.add_stream(&nonce.0, text, |_| ());
        Ok(())
    }
}

impl ZeroizeOnDrop for Sm4Gcm {}

impl fmt::Debug for Sm4Gcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sm4Gcm").finish_non_exhaustive()
    }
}

/// The lengths of associated data and text in bytes, if the mode allows them.
pub(crate) fn lengths(lengths: [usize; 2]) -> Result<[u64; 2], Error> {
    let lengths = lengths.map(|length| length as u64);
    let is_allowed = lengths[0] <= LONGEST_ASSOCIATED_DATA && lengths[1] <= LONGEST_TEXT;
    is_allowed.then_some(lengths).ok_or(Error)
}
