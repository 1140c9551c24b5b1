//! Random bytes of the token, fetched in bulk.

use zeroize::{Zeroize, Zeroizing};

/// One `C_GenerateRandom` of this size costs hardly more than one of 32 bytes.
const POOL_BYTES: usize = 4096;

/// Random bytes that were fetched and not handed out yet. What is handed out is wiped here at once.
pub(crate) struct RandomPool {
    bytes: Zeroizing<Box<[u8]>>,
    /// Where the bytes that are left begin.
    next: usize,
}

impl RandomPool {
    /// An empty pool: the first use fills it.
    pub(crate) fn new() -> Self {
        Self { bytes: Zeroizing::new(vec![0; POOL_BYTES].into_boxed_slice()), next: POOL_BYTES }
    }

    /// Fills `out`, with as many calls of `refill` as it takes. After an error `out` holds nothing of use.
    pub(crate) fn fill<E>(
        &mut self,
        out: &mut [u8],
        mut refill: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = out;
        while !rest.is_empty() {
            if self.next == POOL_BYTES {
                refill(&mut self.bytes)?;
                self.next = 0;
            }
            let count = rest.len().min(POOL_BYTES - self.next);
            let (now, later) = rest.split_at_mut(count);
            let taken = &mut self.bytes[self.next..self.next + count];
            now.copy_from_slice(taken);
            taken.zeroize();
            self.next += count;
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Fills with 1, 2, 3, … so that no byte is 0 and every byte tells its place.
    fn counting() -> impl FnMut(&mut [u8]) -> Result<(), Infallible> {
        let mut place = 0_u32;
        move |bytes| {
            for byte in bytes {
                *byte = u8::try_from(place % 251 + 1).unwrap_or_default();
                place += 1;
            }
            Ok(())
        }
    }

    #[test]
    fn no_byte_is_handed_out_twice_and_none_is_skipped() {
        let (mut pool, mut refill) = (RandomPool::new(), counting());
        let mut place = 0_u32;
        for length in [0, 1, 32, 4000, 5000, 12, 9000] {
            let mut out = vec![0; length];
            let Ok(()) = pool.fill(&mut out, &mut refill);
            for byte in out {
                assert_eq!(u32::from(byte), place % 251 + 1);
                place += 1;
            }
        }
    }

    #[test]
    fn what_was_handed_out_is_wiped() {
        let mut pool = RandomPool::new();
        let Ok(()) = pool.fill(&mut [0; 100], counting());
        assert!(pool.bytes[..100].iter().all(|byte| *byte == 0));
        assert!(pool.bytes[100..].iter().all(|byte| *byte != 0));
    }

    #[test]
    fn a_failed_refill_is_tried_again_at_the_next_use() {
        let mut pool = RandomPool::new();
        assert_eq!(pool.fill(&mut [0; 8], |_| Err("gone")), Err("gone"));
        let mut out = [0; 8];
        let Ok(()) = pool.fill(&mut out, counting());
        assert_eq!(out, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
