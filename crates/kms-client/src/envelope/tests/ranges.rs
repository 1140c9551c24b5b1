//! Parts of an envelope are what the whole says, or are refused.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::envelope::{Layout, RangeReader};

/// A reader of ranges of an envelope in memory.
async fn ranges(suite: Suite, envelope: Vec<u8>) -> Result<RangeReader<Cursor<Vec<u8>>>, Error> {
    let mut reader = Cursor::new(envelope);
    let header = read_header(&mut reader).await?;
    RangeReader::new(Opener::new(header, &data_key(suite))?, reader).await
}

#[test]
fn an_envelope_that_was_cut_off_is_refused_before_any_range_is_read() {
    let envelope = sealed(Suite::Aes256Gcm, 1, &pattern(2 * SEGMENT + 100));
    for length in 0..envelope.len() {
        let result = block_on(ranges(Suite::Aes256Gcm, envelope[..length].to_vec()));
        assert!(result.is_err(), "cut to {length} bytes");
    }
}

#[test]
fn a_changed_segment_spoils_its_own_range_only() {
    let plaintext = pattern(3 * SEGMENT);
    let mut envelope = sealed(Suite::Aes256Gcm, 1, &plaintext);
    let first = sealer(Suite::Aes256Gcm, 1).header().length();
    envelope[first] ^= 1;
    block_on(async {
        let mut ranges = ranges(Suite::Aes256Gcm, envelope).await.expect("the last segment is whole");
        let mut written = Vec::new();
        ranges.read_range(SEGMENT as u64..3 * SEGMENT as u64, &mut written).await.expect("whole segments");
        assert_eq!(written, plaintext[SEGMENT..]);
        let spoilt = ranges.read_range(0..1, &mut written).await;
        assert!(matches!(spoilt, Err(Error::NotAuthentic)));
        assert_eq!(written.len(), 2 * SEGMENT);
    });
}

#[test]
fn a_range_beyond_the_end_is_refused_and_an_empty_one_is_empty() {
    let envelope = sealed(Suite::Sm4Gcm, 1, &[]);
    block_on(async {
        let mut ranges = ranges(Suite::Sm4Gcm, envelope).await.expect("an envelope of nothing");
        assert_eq!(ranges.plaintext_length(), 0);
        let mut written = Vec::new();
        ranges.read_range(0..0, &mut written).await.expect("an empty range");
        let beyond = ranges.read_range(0..1, &mut written).await;
        assert!(matches!(beyond, Err(Error::RangeBeyondEnd { length: 0 })));
        assert!(written.is_empty());
    });
}

#[test]
fn the_layout_knows_the_limits() {
    let header = sealer(Suite::Aes256Gcm, 1).header().clone();
    let begin = header.length() as u64;
    let sealed_size = SEGMENT as u64 + 16;
    for too_short in [0, begin - 1, begin, begin + 15, begin + sealed_size + 1, begin + sealed_size + 16] {
        assert!(matches!(Layout::new(&header, too_short), Err(Error::Truncated)), "{too_short} bytes");
    }
    let longest = begin + (sealed_size << 32);
    let layout = Layout::new(&header, longest).expect("2^32 segments");
    assert_eq!((layout.last_index(), layout.plaintext_length()), (u32::MAX, 1 << 42));
    assert_eq!(layout.segment(u32::MAX), longest - sealed_size..longest);
    assert!(matches!(Layout::new(&header, longest + 17), Err(Error::TooManySegments)));
    assert!(matches!(Layout::new(&header, u64::MAX), Err(Error::TooManySegments)));
    let short = Layout::new(&header, begin + 20).expect("one segment");
    assert_eq!((short.segment(0), short.segment(1)), (begin..begin + 20, begin + 20..begin + 20));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_range_equals_the_same_range_of_the_whole(
        length in 0_usize..5 * SEGMENT,
        bounds in prop::collection::vec((0.0_f64..=1.0, 0.0_f64..=1.0), 1..6),
        sm4: bool,
    ) {
        let suite = SUITES[usize::from(sm4)];
        let plaintext = pattern(length);
        let envelope = sealed(suite, 4, &plaintext);
        block_on(async {
            let mut ranges = ranges(suite, envelope).await.expect("it opens");
            assert_eq!(ranges.plaintext_length(), length as u64);
            for (one, other) in bounds {
                let range = position(length, one.min(other))..position(length, one.max(other));
                let mut written = Vec::new();
                let wanted = range.start as u64..range.end as u64;
                ranges.read_range(wanted, &mut written).await.expect("it is within");
                assert_eq!(written, plaintext[range]);
            }
        });
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "any position will do"
)]
fn position(length: usize, part: f64) -> usize {
    (length as f64 * part) as usize
}
