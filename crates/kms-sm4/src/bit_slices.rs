//! SM4 on 128 blocks at once in bit slices: every bit of the state has a plane of its own, and the S-box is a circuit.
//!
//! Nothing here knows a processor: the loops run over whole planes, which the compiler turns into instructions on
//! vectors of any width.

mod circuit;

use zeroize::Zeroizing;

use self::circuit::without_constants;
use crate::cipher::{BLOCK_LENGTH, Block, ROUNDS, in_batches};

/// Blocks that are encrypted at once.
pub(crate) const BATCH: usize = 128;

/// Bits of a byte.
const BITS: usize = 8;
/// Lanes of a plane: two for each byte of a word, with a bit of every block.
const LANES: usize = 4 * LANES_OF_BYTE;
const LANES_OF_BYTE: usize = BATCH / 64;
/// The S-box is S(x) = f(x ⊕ INNER) ⊕ OUTER, where f has no constants.
const INNER: u8 = 0x75;
const OUTER: u8 = 0xd3;
/// What the linear step makes of OUTER in every byte.
const OUTER_AFTER_STEP: u8 = OUTER.rotate_left(2);

/// One bit of every byte of a word, of every block: first of the words' first bytes, the most significant ones.
type Plane = [u64; LANES];
/// The same word of every block: the planes of its bytes' bits, the lowest first.
type Words = [Plane; BITS];

/// Encrypts blocks in place.
pub(crate) fn encrypt(round_keys: &[u32; ROUNDS], blocks: &mut [Block]) {
    in_batches(blocks, |batch| encrypt_batch(round_keys, batch));
}

/// The S-box, for each byte of a word.
pub(crate) fn substitute(word: u32) -> u32 {
    let bytes = word.to_be_bytes().map(|byte| byte ^ INNER);
    let plane = |bit: u32| (0..4).fold(0, |plane, byte| plane | u64::from(bytes[byte] >> bit & 1) << byte);
    let planes = without_constants([0, 1, 2, 3, 4, 5, 6, 7].map(plane));
    let byte = |byte: u32| {
        let bits = (0..).zip(planes).map(|(bit, plane)| u8::from(plane >> byte & 1 == 1) << bit);
        bits.fold(OUTER, |value, bit| value ^ bit)
    };
    u32::from_be_bytes([0, 1, 2, 3].map(byte))
}

// GB/T 32907-2016 §7.1
fn encrypt_batch(round_keys: &[u32; ROUNDS], batch: &mut [Block; BATCH]) {
    let mut state = Zeroizing::new([[[0; LANES]; BITS]; 4]);
    let mut planes = Zeroizing::new([[0; LANES]; BITS]);
    take_apart(batch, &mut state);
    let [a, b, c, d] = &mut *state;
    let (fours, _) = round_keys.as_chunks();
    for (&[key_a, key_b, key_c, key_d], round) in fours.iter().zip((0..).step_by(4)) {
        step(a, b, c, d, masks(key_a, round, &mut planes));
        step(b, c, d, a, masks(key_b, round + 1, &mut planes));
        step(c, d, a, b, masks(key_c, round + 2, &mut planes));
        step(d, a, b, c, masks(key_d, round + 3, &mut planes));
    }
    state.reverse();
    put_together(&state, batch);
}

/// One round: the oldest word of the state becomes the newest. The planes come with the round's key, and are left with
/// what the S-box makes.
///
/// Every argument is a reference of its own, and the inputs are written out: so the compiler knows that nothing overlaps,
/// and runs the first loop on vectors too.
fn step(oldest: &mut Words, first: &Words, second: &Words, third: &Words, planes: &mut Words) {
    for lane in 0..LANES {
        let input = |bit: usize| first[bit][lane] ^ second[bit][lane] ^ third[bit][lane] ^ planes[bit][lane];
        let input = [input(0), input(1), input(2), input(3), input(4), input(5), input(6), input(7)];
        let output = without_constants(input);
        for bit in 0..BITS {
            planes[bit][lane] = output[bit];
        }
    }
    for bit in 0..BITS {
        let same = &planes[bit];
        // Two places to the left is another bit, of the same byte or of the one behind it.
        let (left, turn) = (&planes[(bit + BITS - 2) % BITS], usize::from(bit < 2));
        for lane in 0..LANES {
            let behind = |bytes: usize| (lane + bytes * LANES_OF_BYTE) % LANES;
            // x ⊕ x<<<2 ⊕ x<<<10 ⊕ x<<<18 ⊕ x<<<24
            oldest[bit][lane] ^= same[lane]
                ^ left[behind(turn)]
                ^ left[behind(turn + 1)]
                ^ left[behind(turn + 2)]
                ^ same[behind(3)];
        }
    }
}

/// Fills the planes with a round's key, the same for every block, and the constants that the circuit leaves out.
fn masks(round_key: u32, round: usize, planes: &mut Words) -> &mut Words {
    // A step adds OUTER_AFTER_STEP to the word that it makes, so words of the state have it in every second four. After
    // the last round none has it.
    let is_off = (round + 1..round + 4).filter(|word| word / 4 % 2 == 1).count() % 2 == 1;
    let constant = INNER ^ if is_off { OUTER_AFTER_STEP } else { 0 };
    let bytes = round_key.to_be_bytes().map(|byte| byte ^ constant);
    for (bit, plane) in planes.iter_mut().enumerate() {
        for (lane, mask) in plane.iter_mut().enumerate() {
            *mask = 0_u64.wrapping_sub(u64::from(bytes[lane / LANES_OF_BYTE] >> bit & 1));
        }
    }
    planes
}

/// Sixteen bytes of each of sixteen blocks; then, of one bit, the planes of four words.
type Row = [u64; 2 * BLOCK_LENGTH];

fn take_apart(batch: &[Block; BATCH], state: &mut [Words; 4]) {
    let mut rows = Zeroizing::new([[0; 2 * BLOCK_LENGTH]; BITS]);
    let (halves, _) = batch.as_flattened().as_chunks();
    for (half, bytes) in rows.as_flattened_mut().iter_mut().zip(halves) {
        *half = u64::from_le_bytes(*bytes);
    }
    transpose_bits(&mut rows);
    rows.iter_mut().for_each(transpose_bytes);
    for (bit, row) in rows.iter().enumerate() {
        for (words, plane) in state.iter_mut().zip(row.as_chunks().0) {
            words[bit] = *plane;
        }
    }
}

fn put_together(state: &[Words; 4], batch: &mut [Block; BATCH]) {
    let mut rows = Zeroizing::new([[0; 2 * BLOCK_LENGTH]; BITS]);
    for (bit, row) in rows.iter_mut().enumerate() {
        for (words, plane) in state.iter().zip(row.as_chunks_mut().0) {
            *plane = words[bit];
        }
    }
    rows.iter_mut().for_each(transpose_bytes);
    transpose_bits(&mut rows);
    let (halves, _) = batch.as_flattened_mut().as_chunks_mut();
    for (half, bytes) in rows.as_flattened().iter().zip(halves) {
        *bytes = half.to_le_bytes();
    }
}

/// Exchanges the row with the bit in a byte.
fn transpose_bits(rows: &mut [Row; BITS]) {
    for (distance, mask) in [(4_u32, 0x0f), (2, 0x33), (1, 0x55)] {
        let mask = u64::from_le_bytes([mask; 8]);
        for pair in rows.chunks_exact_mut(2 * distance as usize) {
            let (upper, lower) = pair.split_at_mut(distance as usize);
            exchange(upper.as_flattened_mut(), lower.as_flattened_mut(), distance, mask);
        }
    }
}

/// Exchanges the block with the byte in it.
fn transpose_bytes(row: &mut Row) {
    let (upper, lower) = row.split_at_mut(BLOCK_LENGTH);
    for (upper, lower) in upper.chunks_exact_mut(2).zip(lower.chunks_exact_mut(2)) {
        std::mem::swap(&mut upper[1], &mut lower[0]);
    }
    for (distance, mask) in
        [(4_u32, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)]
    {
        for pair in row.chunks_exact_mut(4 * distance as usize) {
            let (upper, lower) = pair.split_at_mut(2 * distance as usize);
            exchange(upper, lower, 8 * distance, mask);
        }
    }
}

/// Exchanges the bits of `upper` that are `distance` places to the left of the mask with those of `lower` in the mask.
fn exchange(upper: &mut [u64], lower: &mut [u64], distance: u32, mask: u64) {
    for (upper, lower) in upper.iter_mut().zip(lower) {
        let difference = ((*upper >> distance) ^ *lower) & mask;
        *lower ^= difference;
        *upper ^= difference << distance;
    }
}
