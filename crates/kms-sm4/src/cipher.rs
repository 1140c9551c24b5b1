//! The block cipher, in the direction that GCM needs.
// GB/T 32907-2016; the same in draft-ribose-cfrg-sm4-10.

use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::bit_slices;
#[cfg(target_arch = "x86_64")]
use crate::x86::VectorAes;

/// Bytes of a block.
pub(crate) const BLOCK_LENGTH: usize = 16;
/// Bytes of a key.
pub(crate) const KEY_LENGTH: usize = 16;
/// Rounds of the cipher, each with a key of its own.
pub(crate) const ROUNDS: usize = 32;

/// A block, as it lies in memory.
pub(crate) type Block = [u8; BLOCK_LENGTH];

const FAMILY_KEY: [u32; 4] = [0xa3b1_bac6, 0x56aa_3350, 0x677d_9197, 0xb270_22dc];

/// SM4 under one key. The key is wiped when it is dropped.
pub(crate) struct Sm4 {
    round_keys: [u32; ROUNDS],
    #[cfg(target_arch = "x86_64")]
    vector_aes: Option<VectorAes>,
}

impl Sm4 {
    pub(crate) fn new(key: &[u8; KEY_LENGTH]) -> Self {
        Self {
            round_keys: round_keys(key),
            #[cfg(target_arch = "x86_64")]
            vector_aes: VectorAes::detect(),
        }
    }

    /// The same on a processor that has no more than every one has.
    pub(crate) fn in_bit_slices(key: &[u8; KEY_LENGTH]) -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            vector_aes: None,
            ..Self::new(key)
        }
    }

    pub(crate) fn is_in_bit_slices(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.vector_aes.is_none();
        #[cfg(not(target_arch = "x86_64"))]
        true
    }

    /// Encrypts any number of blocks in place. Few take as long as a batch: 32 blocks with AES-NI, and
    /// [`bit_slices::BATCH`] without.
    pub(crate) fn encrypt(&self, blocks: &mut [Block]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(vector_aes) = self.vector_aes {
            return vector_aes.encrypt(&self.round_keys, blocks);
        }
        bit_slices::encrypt(&self.round_keys, blocks);
    }
}

impl Drop for Sm4 {
    fn drop(&mut self) {
        self.round_keys.zeroize();
    }
}

impl ZeroizeOnDrop for Sm4 {}

/// Calls `encrypt` with batches of exactly `BATCH` blocks; the last one is filled up.
pub(crate) fn in_batches<const BATCH: usize>(
    blocks: &mut [Block],
    mut encrypt: impl FnMut(&mut [Block; BATCH]),
) {
    let (batches, rest) = blocks.as_chunks_mut();
    batches.iter_mut().for_each(&mut encrypt);
    if !rest.is_empty() {
        let mut filled_up = [[0; BLOCK_LENGTH]; BATCH];
        filled_up[..rest.len()].copy_from_slice(rest);
        encrypt(&mut filled_up);
        rest.copy_from_slice(&filled_up[..rest.len()]);
        filled_up.zeroize();
    }
}

// GB/T 32907-2016 §7.3
fn round_keys(key: &[u8; KEY_LENGTH]) -> [u32; ROUNDS] {
    let (words, _) = key.as_chunks();
    let mut last = [0; 4];
    for (word, (bytes, family)) in last.iter_mut().zip(words.iter().zip(FAMILY_KEY)) {
        *word = u32::from_be_bytes(*bytes) ^ family;
    }
    let mut keys = [0; ROUNDS];
    for (key, constant) in keys.iter_mut().zip(round_constants()) {
        let [oldest, second, third, newest] = last;
        let substituted = bit_slices::substitute(second ^ third ^ newest ^ constant);
        *key = oldest ^ substituted ^ substituted.rotate_left(13) ^ substituted.rotate_left(23);
        last = [second, third, newest, *key];
    }
    last.zeroize();
    keys
}

/// Four bytes each: the multiples of seven.
fn round_constants() -> impl Iterator<Item = u32> {
    let multiple = |index: u8| index.wrapping_mul(7);
    (0..128).step_by(4).map(move |first| u32::from_be_bytes([0, 1, 2, 3].map(|byte| multiple(first + byte))))
}
