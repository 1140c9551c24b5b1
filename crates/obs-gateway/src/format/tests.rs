//! Streams that were harmed in every way, and what the format promises of nonces.

use kms_client::SecretBytes;
use proptest::prelude::*;

use super::*;

const PLACE: Binding<'_> = Binding { bucket: "b", object: "o", upload_id: "u", part_number: 1 };

fn key(suite: Suite) -> ObjectKey {
    ObjectKey::new(suite, SecretBytes::from(vec![7; suite.key_length()])).unwrap()
}

fn cipher(header: &Header, place: &Binding<'_>) -> StreamCipher {
    StreamCipher::new(&key(header.suite()), header, place).unwrap()
}

fn sealed(cipher: &StreamCipher, index: u32, is_last: bool, text: &[u8]) -> Vec<u8> {
    let mut segment = text.to_vec();
    cipher.seal(index, is_last, &mut segment).unwrap();
    segment
}

fn open(cipher: &StreamCipher, index: u32, is_last: bool, segment: &[u8]) -> Result<Vec<u8>, Error> {
    let mut segment = segment.to_vec();
    cipher.open(index, is_last, &mut segment)?;
    Ok(segment)
}

#[test]
fn a_segment_opens_at_its_own_index_and_end_only() {
    for suite in [Suite::Aes256Gcm, Suite::Sm4Gcm] {
        let cipher = cipher(&Header::random(suite).unwrap(), &PLACE);
        let segment = sealed(&cipher, 3, false, b"text");
        assert_eq!(open(&cipher, 3, false, &segment), Ok(b"text".to_vec()));
        assert_eq!(open(&cipher, 4, false, &segment), Err(Error::NotAuthentic));
        assert_eq!(open(&cipher, 3, true, &segment), Err(Error::NotAuthentic));
        assert_eq!(open(&cipher, 3, false, &segment[1..]), Err(Error::NotAuthentic));
        assert_eq!(open(&cipher, 3, false, &segment[..TAG_LENGTH - 1]), Err(Error::Length));
    }
}

#[test]
fn a_stream_opens_in_its_own_place_only() {
    let header = Header::random(Suite::Aes256Gcm).unwrap();
    let segment = sealed(&cipher(&header, &PLACE), 0, true, b"text");
    for place in [
        Binding { bucket: "c", ..PLACE },
        Binding { object: "p", ..PLACE },
        Binding { upload_id: "", ..PLACE },
        Binding { part_number: 2, ..PLACE },
        Binding { bucket: "bo", object: "", ..PLACE },
    ] {
        assert_eq!(open(&cipher(&header, &place), 0, true, &segment), Err(Error::NotAuthentic), "{place:?}");
    }
    let again = Header::random(Suite::Aes256Gcm).unwrap();
    assert_eq!(open(&cipher(&again, &PLACE), 0, true, &segment), Err(Error::NotAuthentic));
}

#[test]
fn the_same_part_sealed_twice_shares_nothing() {
    let sealed_once =
        || sealed(&cipher(&Header::random(Suite::Aes256Gcm).unwrap(), &PLACE), 0, true, &[0; 64]);
    let (first, second) = (sealed_once(), sealed_once());
    // Under one key and nonce, equal plaintexts would have equal ciphertexts.
    assert!(first.iter().zip(&second).filter(|(a, b)| a == b).count() < 16);
}

#[test]
fn a_header_of_another_kind_is_refused() {
    let bytes = Header::random(Suite::Sm4Gcm).unwrap().to_bytes();
    assert_eq!(Header::parse(&bytes).unwrap().to_bytes(), bytes);
    for at in [0, 4, 5, 6] {
        let mut bytes = bytes;
        bytes[at] ^= 0x10;
        assert_eq!(Header::parse(&bytes), Err(Error::UnknownFormat));
    }
    let header = Header::parse(&bytes).unwrap();
    let other = StreamCipher::new(&key(Suite::Aes256Gcm), &header, &PLACE);
    assert_eq!(other.err(), Some(Error::NotAuthentic));
}

#[test]
fn a_data_key_of_another_length_is_refused() {
    let short = ObjectKey::new(Suite::Aes256Gcm, SecretBytes::from(vec![0; 16]));
    assert_eq!(short.err(), Some(Error::KeyLength));
}

#[test]
fn a_manifest_holds_every_stream_in_its_order() {
    let part = |number: u32, salt: u8| ManifestPart { number, length: 9, salt: [salt; 32] };
    let parts = [part(1, 1), part(2, 2)];
    let manifest = Manifest { bucket: "b", object: "o", upload_id: "u", parts: &parts };
    let key = key(Suite::Aes256Gcm);
    let tag = manifest.seal(&key).unwrap();
    assert_eq!(manifest.open(&key, &tag), Ok(()));
    for parts in [
        &parts[..1],
        &[part(2, 2), part(1, 1)],
        &[part(1, 1), part(2, 3)],
        &[part(1, 1), ManifestPart { length: 8, ..part(2, 2) }],
        &[part(1, 1), part(2, 2), part(3, 3)],
    ] {
        let changed = Manifest { parts, ..manifest };
        assert_eq!(changed.open(&key, &tag), Err(Error::NotAuthentic));
    }
    let moved = Manifest { object: "p", ..manifest };
    assert_eq!(moved.open(&key, &tag), Err(Error::NotAuthentic));
}

#[test]
fn the_layout_of_streams_at_the_edges() {
    let segment = SEGMENT_LENGTH as u64;
    for (length, segments) in [(0, 1), (1, 1), (segment, 1), (segment + 1, 2), (3 * segment, 3)] {
        let layout = Layout::new(length).unwrap();
        assert_eq!(u64::from(layout.last_index()) + 1, segments, "{length}");
        assert_eq!(layout.stream_length(), HEADER_LENGTH as u64 + length + 16 * segments);
        assert_eq!(layout.segment(layout.last_index()).end, layout.stream_length());
    }
    assert_eq!(Layout::new((segment << 32) + 1), Err(Error::TooLong));
    assert!(Layout::new(segment << 32).is_ok());
}

proptest! {
    #[test]
    fn a_range_is_made_of_what_its_segments_hold(length in 1_u64..400_000, a in 0_u64..400_000, b in 0_u64..400_000) {
        let (start, end) = (a.min(b).min(length), a.max(b).min(length));
        let layout = Layout::new(length).unwrap();
        let mut held = 0;
        for index in layout.segments_of(&(start..end)).into_iter().flatten() {
            let within = layout.within(index, &(start..end));
            prop_assert!(within.end as u64 <= layout.segment(index).end - layout.segment(index).start - 16);
            held += within.len() as u64;
        }
        prop_assert_eq!(held, end - start);
    }
}
