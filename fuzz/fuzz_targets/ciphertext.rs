//! The parser of ciphertexts: it refuses or it understands, and what it understands it writes back unchanged.
#![no_main]

use kms_core::ciphertext::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|ciphertext: &[u8]| {
    if let Ok((header, sealed)) = Header::parse(ciphertext) {
        assert_eq!([header.encode().as_slice(), sealed].concat(), ciphertext);
    }
});
