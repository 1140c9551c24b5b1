//! SM4 on 32 blocks at once with AVX2 and AES-NI, whose S-box becomes that of SM4 by a linear map on either side.
// The idea is Saarinen's: https://github.com/mjosaarinen/sm4ni

use std::arch::x86_64::{
    __m256i, _mm_aesenclast_si128, _mm_setzero_si128, _mm256_and_si256, _mm256_castsi256_si128,
    _mm256_extract_epi64, _mm256_extracti128_si256, _mm256_or_si256, _mm256_set_epi64x, _mm256_set_m128i,
    _mm256_set1_epi8, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32,
    _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use zeroize::Zeroize as _;

use crate::{
    cipher::{Block, ROUNDS, in_batches},
    maps::{Affine, BEFORE_AES, BEHIND_AES},
};

/// Vectors that are worked on in turns, so that the processor does not wait for the result of one.
const GROUPS: usize = 4;
const BLOCKS_OF_GROUP: usize = 8;
const BATCH: usize = GROUPS * BLOCKS_OF_GROUP;

/// The same word of eight blocks: of four in each half.
type Words = __m256i;

/// Says that this processor has AVX2 and AES-NI.
#[derive(Clone, Copy)]
pub(crate) struct VectorAes(());

impl VectorAes {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("aes")).then_some(Self(()))
    }

    /// Encrypts blocks in place.
    #[allow(unsafe_code, reason = "the compiler does not know that the processor has what was detected")]
    pub(crate) fn encrypt(self, round_keys: &[u32; ROUNDS], blocks: &mut [Block]) {
        let Self(()) = self;
        // SAFETY: a `VectorAes` exists only where the processor was seen to have AVX2 and AES-NI.
        in_batches(blocks, |batch| unsafe { encrypt_batch(round_keys, batch) });
    }
}

// GB/T 32907-2016 §7.1
#[target_feature(enable = "avx2,aes")]
fn encrypt_batch(round_keys: &[u32; ROUNDS], batch: &mut [Block; BATCH]) {
    let (groups, _) = batch.as_chunks_mut();
    let mut state = [[_mm256_setzero_si256(); 4]; GROUPS];
    for (words, blocks) in state.iter_mut().zip(&*groups) {
        *words = take_apart(blocks);
    }
    let (fours, _) = round_keys.as_chunks::<4>();
    for four in fours {
        for (oldest, key) in four.iter().enumerate() {
            let key = _mm256_set1_epi32(key.cast_signed());
            for words in &mut state {
                let others = [1, 2, 3].map(|next| words[(oldest + next) % 4]);
                let sum = _mm256_xor_si256(
                    _mm256_xor_si256(others[0], others[1]),
                    _mm256_xor_si256(others[2], key),
                );
                words[oldest] = _mm256_xor_si256(words[oldest], step(sum));
            }
        }
    }
    for (words, blocks) in state.iter_mut().zip(groups) {
        words.reverse();
        put_together(*words, blocks);
    }
    state.zeroize();
}

/// S-box and linear step of a round.
#[target_feature(enable = "avx2,aes")]
fn step(words: Words) -> Words {
    let substituted = affine(BEHIND_AES, aes_s_box(affine(BEFORE_AES, words)));
    let turned = |bytes: usize| _mm256_shuffle_epi8(substituted, in_both_halves(TURNS[bytes]));
    let (same, left_24) = (turned(0), turned(3));
    let sum = _mm256_xor_si256(_mm256_xor_si256(same, turned(1)), turned(2));
    // x ⊕ x<<<2 ⊕ x<<<10 ⊕ x<<<18 ⊕ x<<<24
    let left_2 = _mm256_or_si256(_mm256_slli_epi32::<2>(sum), _mm256_srli_epi32::<30>(sum));
    _mm256_xor_si256(_mm256_xor_si256(same, left_24), left_2)
}

/// The S-box of AES on all bytes, and its ShiftRows.
#[target_feature(enable = "avx2,aes")]
fn aes_s_box(words: Words) -> Words {
    let no_key = _mm_setzero_si128();
    let low = _mm_aesenclast_si128(_mm256_castsi256_si128(words), no_key);
    let high = _mm_aesenclast_si128(_mm256_extracti128_si256::<1>(words), no_key);
    _mm256_set_m128i(high, low)
}

/// An affine map of all bytes: two lookups, within registers, by half a byte.
#[target_feature(enable = "avx2")]
fn affine(map: Affine, words: Words) -> Words {
    let half = _mm256_set1_epi8(0x0f);
    let low = _mm256_and_si256(words, half);
    let high = _mm256_and_si256(_mm256_srli_epi32::<4>(words), half);
    _mm256_xor_si256(
        _mm256_shuffle_epi8(in_both_halves(map.of_low_half), low),
        _mm256_shuffle_epi8(in_both_halves(map.of_high_half), high),
    )
}

/// For each count of bytes that words are turned left by: where their bytes come from after ShiftRows.
const TURNS: [[u8; 16]; 4] = {
    let mut turns = [[0; 16]; 4];
    let mut place = 0;
    while place < 64 {
        let (bytes, to) = (place / 16, place % 16);
        // Words lie in a register with their lowest byte first.
        let (word, byte) = (to / 4, (to + 4 - bytes) % 4);
        // FIPS 197 §5.1.2: byte r of a column came from the column r places on.
        turns[bytes as usize][to as usize] = (word + 4 - byte) % 4 * 4 + byte;
        place += 1;
    }
    turns
};

/// The other order of the bytes of a word.
const REVERSED: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];

#[target_feature(enable = "avx2")]
fn take_apart(blocks: &[Block; BLOCKS_OF_GROUP]) -> [Words; 4] {
    let reversed = in_both_halves(REVERSED);
    let row = |index: usize| {
        let ([a, b], [c, d]) = (halves(blocks[index]), halves(blocks[index + 4]));
        _mm256_shuffle_epi8(_mm256_set_epi64x(d, c, b, a), reversed)
    };
    transpose([row(0), row(1), row(2), row(3)])
}

#[target_feature(enable = "avx2")]
fn put_together(words: [Words; 4], blocks: &mut [Block; BLOCKS_OF_GROUP]) {
    let reversed = in_both_halves(REVERSED);
    let (first, second) = blocks.split_at_mut(4);
    for (row, (first, second)) in transpose(words).into_iter().zip(first.iter_mut().zip(second)) {
        let row = _mm256_shuffle_epi8(row, reversed);
        *first = block([_mm256_extract_epi64::<0>(row), _mm256_extract_epi64::<1>(row)]);
        *second = block([_mm256_extract_epi64::<2>(row), _mm256_extract_epi64::<3>(row)]);
    }
}

/// Exchanges row and column of four by four words, in each half.
#[target_feature(enable = "avx2")]
fn transpose([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab_low, cd_low),
        _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

#[target_feature(enable = "avx2")]
fn in_both_halves(bytes: [u8; 16]) -> __m256i {
    let [low, high] = halves(bytes);
    _mm256_set_epi64x(high, low, high, low)
}

fn halves(bytes: [u8; 16]) -> [i64; 2] {
    let mut halves = [0; 2];
    for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
        *half = i64::from_le_bytes(*bytes);
    }
    halves
}

fn block(halves: [i64; 2]) -> Block {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&halves[0].to_le_bytes());
    bytes[8..].copy_from_slice(&halves[1].to_le_bytes());
    bytes
}
