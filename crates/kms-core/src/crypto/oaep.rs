//! The padding of RSAES-OAEP with an empty label, taken away in constant time.

use hmac::digest::Digest;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::secret::SecretBytes;

/// The message in a block that an RSA key opened. `None` does not tell what is wrong, nor how long it took.
// RFC 8017 §7.1.2, step 3
pub(crate) fn decode<H: Digest>(block: &SecretBytes) -> Option<SecretBytes> {
    let hash_bytes = <H as Digest>::output_size();
    let block = block.expose_secret();
    if block.len() < 2 * hash_bytes + 2 {
        return None; // shorter than any key's block; not secret
    }
    let (masked_seed, masked_data) = block[1..].split_at(hash_bytes);
    let seed = masked::<H>(masked_seed, masked_data);
    let data = masked::<H>(masked_data, seed.expose_secret());
    let (hash, padded) = data.expose_secret().split_at(hash_bytes);
    let mut valid = block[0].ct_eq(&0) & hash.ct_eq(&H::digest(b""));
    let (mut looking, mut end) = (Choice::from(1), 0u32);
    for (place, byte) in (0u32..).zip(padded) {
        let (zero, one) = (byte.ct_eq(&0), byte.ct_eq(&1));
        end.conditional_assign(&place, looking & one);
        valid &= !looking | zero | one;
        looking &= !one;
    }
    valid &= !looking;
    if bool::from(valid) {
        let end = usize::try_from(end).ok()?;
        Some(SecretBytes::new(padded.get(end + 1..)?.to_vec()))
    } else {
        None
    }
}

/// `bytes`, combined with the mask that `seed` gives.
// RFC 8017 §B.2.1 (MGF1)
fn masked<H: Digest>(bytes: &[u8], seed: &[u8]) -> SecretBytes {
    let mut out = SecretBytes::new(bytes.to_vec());
    for (counter, chunk) in (0u32..).zip(out.expose_secret_mut().chunks_mut(<H as Digest>::output_size())) {
        let mask = H::new().chain_update(seed).chain_update(counter.to_be_bytes()).finalize();
        chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use sha2::Sha256;

    use super::*;

    const HASH_BYTES: usize = 32;
    const BLOCK: usize = 256;

    fn encode(data: &[u8]) -> Vec<u8> {
        let seed = [0x5a; HASH_BYTES];
        let masked_data = masked::<Sha256>(data, &seed);
        let masked_seed = masked::<Sha256>(&seed, masked_data.expose_secret());
        [&[0], masked_seed.expose_secret(), masked_data.expose_secret()].concat()
    }

    fn data(message: &[u8]) -> Vec<u8> {
        let padding = vec![0; BLOCK - 2 * HASH_BYTES - 2 - message.len()];
        [&Sha256::digest(b"")[..], &padding, &[1], message].concat()
    }

    fn opened(block: Vec<u8>) -> Option<Vec<u8>> {
        decode::<Sha256>(&SecretBytes::new(block)).map(|message| message.expose_secret().to_vec())
    }

    #[test]
    fn messages_of_every_length_come_out() {
        for length in 0..=BLOCK - 2 * HASH_BYTES - 2 {
            let message = vec![1; length]; // also where the end of the padding is looked for
            assert_eq!(opened(encode(&data(&message))), Some(message));
        }
    }

    #[test]
    fn every_fault_is_refused() {
        let good = data(&[7; 32]);
        let altered = |place: usize, byte: u8| {
            let mut data = good.clone();
            data[place] = byte;
            opened(encode(&data))
        };
        assert_eq!(altered(0, good[0] ^ 1), None, "another label");
        assert_eq!(altered(HASH_BYTES, 2), None, "no padding");
        assert_eq!(opened(encode(&[&Sha256::digest(b"")[..], &[0; BLOCK - 65]].concat())), None, "no end");
        let mut first = encode(&good);
        first[0] = 1;
        assert_eq!(opened(first), None, "the first byte");
        assert_eq!(opened(vec![0; 10]), None);
    }
}
