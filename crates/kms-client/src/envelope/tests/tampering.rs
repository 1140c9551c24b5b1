//! Everything that can be done to an envelope is noticed, and nothing false is written.

use super::*;

/// Three segments, the last one shorter.
const LENGTH: usize = 2 * SEGMENT + 452;

/// The attempt fails, and what it has written are whole segments from the beginning of the plaintext.
fn assert_refused(suite: Suite, envelope: &[u8], plaintext: &[u8], what: &str) -> Error {
    let (written, result) = opened(suite, envelope);
    let error = result.expect_err(what);
    assert!(plaintext.starts_with(&written), "{what}: wrote what was never sealed");
    assert_eq!(written.len() % SEGMENT, 0, "{what}: wrote a part of a segment");
    error
}

/// The header and the segments, each with its tag.
fn parts(suite: Suite, envelope: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (header, body) = envelope.split_at(sealer(suite, 1).header().length());
    (header.to_vec(), body.chunks(SEGMENT + 16).map(<[u8]>::to_vec).collect())
}

fn joined(header: &[u8], segments: &[&[u8]]) -> Vec<u8> {
    [header, &segments.concat()].concat()
}

#[test]
fn every_truncation_is_refused() {
    for suite in SUITES {
        let plaintext = pattern(LENGTH);
        let envelope = sealed(suite, 1, &plaintext);
        for length in 0..envelope.len() {
            assert_refused(suite, &envelope[..length], &plaintext, &format!("cut to {length} bytes"));
        }
    }
}

#[test]
fn every_truncation_of_full_segments_and_of_nothing_is_refused() {
    for plaintext in [pattern(2 * SEGMENT), Vec::new()] {
        let envelope = sealed(Suite::Aes256Gcm, 1, &plaintext);
        for length in 0..envelope.len() {
            let what = format!("cut to {length} bytes");
            assert_refused(Suite::Aes256Gcm, &envelope[..length], &plaintext, &what);
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for suite in SUITES {
        let plaintext = pattern(LENGTH);
        let mut envelope = sealed(suite, 1, &plaintext);
        for position in 0..envelope.len() {
            // Every bit of the header, and one of each byte of the segments.
            let bits = if position < sealer(suite, 1).header().length() { 0..8 } else { 0..1 };
            for bit in bits {
                envelope[position] ^= 1 << bit;
                let what = format!("bit {bit} of byte {position}");
                let error = assert_refused(suite, &envelope, &plaintext, &what);
                assert_header_error(position, &error);
                envelope[position] ^= 1 << bit;
            }
        }
        opened(suite, &envelope).1.expect("the envelope itself is whole");
    }
}

/// What is wrong with a header is said, as far as it can be known.
fn assert_header_error(position: usize, error: &Error) {
    match position {
        0..4 => assert!(matches!(error, Error::NotAnEnvelope), "{error}"),
        4 => assert!(matches!(error, Error::UnknownVersion(_)), "{error}"),
        7..39 | 41.. => assert!(matches!(error, Error::NotAuthentic), "{error}"),
        // The length of the sealed data key moves the header's end.
        39..41 => assert!(matches!(error, Error::NotAuthentic | Error::Truncated), "{error}"),
        _ => {}
    }
}

#[test]
fn headers_that_the_format_does_not_know_are_named() {
    let envelope = sealed(Suite::Aes256Gcm, 1, b"");
    let changed = |position: usize, byte| {
        let mut envelope = envelope.clone();
        envelope[position] = byte;
        opened(Suite::Aes256Gcm, &envelope).1.expect_err("it is no longer what was sealed")
    };
    assert!(matches!(changed(4, 2), Error::UnknownVersion(2)));
    assert!(matches!(changed(5, 3), Error::UnknownSuite(3)));
    assert!(matches!(changed(6, 9), Error::SegmentSize(9)));
    assert!(matches!(changed(6, 25), Error::SegmentSize(25)));
    assert!(matches!(changed(40, 0), Error::SealedKeyLength(0)));
}

#[test]
fn segments_that_are_moved_removed_or_repeated_are_refused() {
    for suite in SUITES {
        let plaintext = pattern(LENGTH);
        let (header, segments) = parts(suite, &sealed(suite, 1, &plaintext));
        let [first, second, last] = [0, 1, 2].map(|index| segments[index].as_slice());
        let orders: [&[&[u8]]; 12] = [
            &[second, first, last],
            &[first, last, second],
            &[last, second, first],
            &[first, last],
            &[second, last],
            &[first, second],
            &[last],
            &[first, first, last],
            &[first, second, second, last],
            &[first, second, last, last],
            &[first, second, second],
            &[],
        ];
        for (number, order) in orders.iter().enumerate() {
            assert_refused(suite, &joined(&header, order), &plaintext, &format!("order {number}"));
        }
        opened(suite, &joined(&header, &[first, second, last])).1.expect("the right order");
    }
}

#[test]
fn two_envelopes_under_one_data_key_cannot_be_spliced() {
    for suite in SUITES {
        let plaintext = pattern(LENGTH);
        let (header, ours) = parts(suite, &sealed(suite, 1, &plaintext));
        let (other_header, theirs) = parts(suite, &sealed(suite, 2, &plaintext));
        for index in 0..3 {
            let mut mixed: Vec<&[u8]> = ours.iter().map(Vec::as_slice).collect();
            mixed[index] = &theirs[index];
            assert_refused(
                suite,
                &joined(&header, &mixed),
                &plaintext,
                &format!("segment {index} of another"),
            );
        }
        let ours: Vec<&[u8]> = ours.iter().map(Vec::as_slice).collect();
        assert_refused(suite, &joined(&other_header, &ours), &plaintext, "header of another");
        let mut tag_of_another = header.clone();
        let tag = header.len() - 32..;
        tag_of_another[tag.clone()].copy_from_slice(&other_header[tag]);
        assert_refused(suite, &joined(&tag_of_another, &ours), &plaintext, "header's tag of another");
    }
}

#[test]
fn anything_after_the_end_is_refused() {
    for length in [0, 1, SEGMENT, SEGMENT + 1] {
        let plaintext = pattern(length);
        let envelope = sealed(Suite::Aes256Gcm, 1, &plaintext);
        for extra in [1, 15, 16, 17, SEGMENT, SEGMENT + 16, SEGMENT + 17, 3 * SEGMENT] {
            let longer = [envelope.clone(), vec![0; extra]].concat();
            assert_refused(Suite::Aes256Gcm, &longer, &plaintext, &format!("{extra} bytes after {length}"));
        }
        let twice = [envelope.clone(), envelope].concat();
        assert_refused(Suite::Aes256Gcm, &twice, &plaintext, "two envelopes in a row");
    }
}

#[test]
fn another_data_key_does_not_open() {
    for suite in SUITES {
        let mut wrong = data_key(suite);
        wrong[0] ^= 1;
        let (written, result) = opened_from(&wrong, &mut &*sealed(suite, 1, b"plaintext"));
        assert!(matches!(result, Err(Error::NotAuthentic)));
        assert!(written.is_empty());
    }
}

#[test]
fn an_empty_segment_after_others_is_refused_although_its_tag_is_right() {
    let plaintext = pattern(SEGMENT);
    let mut sealer = sealer(Suite::Aes256Gcm, 1);
    let mut envelope = sealer.header().to_bytes().expect("a header");
    let mut segment = plaintext.clone();
    let tag = sealer.seal(&mut segment).expect("a full segment");
    envelope.extend_from_slice(&segment);
    envelope.extend_from_slice(&tag);
    let parameters = sealer.header().parameters.clone();
    let keys = super::super::segment::SegmentKeys::derive(&parameters, &data_key(Suite::Aes256Gcm));
    let tag = keys.expect("the data key fits").seal(1, true, &mut []).expect("an empty segment");
    envelope.extend_from_slice(&tag);
    let error = assert_refused(Suite::Aes256Gcm, &envelope, &plaintext, "an empty last segment");
    assert!(matches!(error, Error::NotAuthentic));
}

#[test]
fn a_segment_that_does_not_open_is_left_as_it_was() {
    let envelope = sealed(Suite::Sm4Gcm, 1, b"plaintext");
    let (_, segments) = parts(Suite::Sm4Gcm, &envelope);
    let header = sealer(Suite::Sm4Gcm, 1).header().clone();
    let opener = Opener::new(header, &data_key(Suite::Sm4Gcm)).expect("its own header");
    let mut segment = segments[0].clone();
    assert!(matches!(opener.segment(1, true, &mut segment), Err(Error::NotAuthentic)));
    assert_eq!(segment, segments[0]);
}
