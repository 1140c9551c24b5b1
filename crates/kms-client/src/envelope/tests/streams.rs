//! Streams of any length, in any pieces.

use proptest::prelude::*;

use super::*;

#[test]
fn every_length_around_a_segment_boundary_comes_back() {
    for suite in SUITES {
        for length in [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT - 1, 2 * SEGMENT, 2 * SEGMENT + 1]
        {
            let plaintext = pattern(length);
            let envelope = sealed(suite, 1, &plaintext);
            let segments = length.div_ceil(SEGMENT).max(1);
            let header = sealer(suite, 1).header().length();
            assert_eq!(envelope.len(), header + length + 16 * segments, "{suite:?}, {length} bytes");
            let (written, result) = opened(suite, &envelope);
            assert_eq!(result.expect("it opens"), length as u64);
            assert_eq!(written, plaintext);
        }
    }
}

#[test]
fn what_is_written_has_segments_of_64_kib_and_a_salt_of_its_own() {
    let key = data_key(Suite::Aes256Gcm);
    let new = || Sealer::new(Suite::Aes256Gcm, &key, SEALED_KEY).expect("the data key fits");
    assert_eq!(new().header().segment_size(), 65536);
    assert_ne!(new().header(), new().header());
}

#[test]
fn data_keys_and_sealed_keys_of_wrong_lengths_are_refused() {
    for suite in SUITES {
        let other = usize::from(48 - suite.key_length());
        assert!(matches!(
            Sealer::new(suite, &vec![0; other], SEALED_KEY),
            Err(Error::DataKeyLength { actual, .. }) if actual == other
        ));
        for length in [0, 65536] {
            let refused = Sealer::new(suite, &data_key(suite), &vec![0; length]);
            assert!(matches!(refused, Err(Error::SealedKeyLength(actual)) if actual == length));
        }
        Sealer::new(suite, &data_key(suite), &vec![0; 65535]).expect("the longest sealed data key");
    }
}

#[test]
fn the_sealer_takes_only_segments_that_the_format_allows() {
    let mut sealer = sealer(Suite::Aes256Gcm, 1);
    for length in [0, 1, SEGMENT - 1, SEGMENT + 1] {
        assert!(
            matches!(sealer.seal(&mut vec![0; length]), Err(Error::SegmentLength(actual)) if actual == length)
        );
    }
    sealer.seal(&mut [0; SEGMENT]).expect("a full segment");
    assert!(matches!(sealer.finish(&mut []), Err(Error::SegmentLength(0))));
}

#[test]
fn segment_two_to_the_thirty_two_is_one_too_many() {
    let mut last = sealer(Suite::Aes256Gcm, 1);
    last.next_index = u64::from(u32::MAX);
    let opener = Opener::new(last.header().clone(), &data_key(Suite::Aes256Gcm)).expect("its own header");
    let mut segment = b"x".to_vec();
    let tag = last.finish(&mut segment).expect("index 2^32 - 1 is allowed");
    segment.extend_from_slice(&tag);
    assert_eq!(opener.segment(u32::MAX, true, &mut segment).expect("it opens"), b"x");

    let mut beyond = sealer(Suite::Aes256Gcm, 1);
    beyond.next_index = 1 << 32;
    assert!(matches!(beyond.seal(&mut [0; SEGMENT]), Err(Error::TooManySegments)));
    assert!(matches!(beyond.finish(&mut [0]), Err(Error::TooManySegments)));
}

#[test]
fn neither_sealer_nor_opener_shows_keys() {
    let sealer = sealer(Suite::Sm4Gcm, 1);
    let opener = Opener::new(sealer.header().clone(), &data_key(Suite::Sm4Gcm)).expect("its own header");
    for shown in [format!("{sealer:?}"), format!("{opener:?}")] {
        assert!(!shown.contains("keys") && !shown.contains("nonce"), "{shown}");
    }
}

#[test]
fn a_reader_that_fails_is_reported() {
    struct Broken;
    impl AsyncRead for Broken {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
        }
    }
    let result = block_on(seal_stream(sealer(Suite::Aes256Gcm, 1), &mut Broken, &mut Vec::new()));
    assert!(matches!(result, Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_length_in_any_pieces_comes_back(
        length in 0_usize..5 * SEGMENT,
        writing in prop::collection::vec(1_usize..2 * SEGMENT, 1..8),
        reading in prop::collection::vec(1_usize..2 * SEGMENT, 1..8),
        sm4: bool,
    ) {
        let suite = SUITES[usize::from(sm4)];
        let plaintext = pattern(length);
        let mut envelope = Vec::new();
        let mut pieces = Pieces::new(&plaintext, writing);
        block_on(seal_stream(sealer(suite, 3), &mut pieces, &mut envelope)).expect("memory takes it");
        prop_assert_eq!(&envelope, &sealed(suite, 3, &plaintext), "pieces leave no trace");
        let (written, result) = opened_from(&data_key(suite), &mut Pieces::new(&envelope, reading));
        prop_assert_eq!(result.expect("it opens"), length as u64);
        prop_assert_eq!(written, plaintext);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), as_header: bool) {
        let mut input = bytes;
        if as_header {
            let beginning = sealed(Suite::Aes256Gcm, 1, b"")[..7].to_vec();
            input.splice(..0, beginning);
        }
        prop_assert!(opened(Suite::Aes256Gcm, &input).1.is_err());
    }
}
