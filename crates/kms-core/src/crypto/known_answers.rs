//! Known answers: those of standards, and what openssl signed.

use hmac::digest::Digest as _;
use sha2::{Sha256, Sha512};

use super::{MacAlgorithm, MessageType, PublicKey, SecretKey, SigningAlgorithm, Statement, verify};
use crate::{key::KeySpec, ports::DigestAlgorithm, secret::SecretBytes};

fn bytes(digits: &str) -> Vec<u8> {
    hex::decode(digits).expect("hexadecimal digits")
}

/// A key of these bytes, and its public half.
fn pair(spec: KeySpec, key: &str) -> (SecretKey, PublicKey) {
    let form = SecretBytes::new([&[1], &bytes(key)[..]].concat());
    let secret = SecretKey::open(spec, form).expect("a key of this kind");
    let public = PublicKey::parse(spec, &secret.public_key_der()).expect("its public half");
    (secret, public)
}

/// Such signatures are determined by key and message: both the signer and the verifier have to give this one.
fn check_determined(spec: KeySpec, key: &str, algorithm: SigningAlgorithm, input: &[u8], expected: &str) {
    let (secret, public) = pair(spec, key);
    assert_eq!(hex::encode(secret.sign(algorithm, input).expect("signs")), expected);
    assert!(verify(&public, algorithm, input, &bytes(expected)));
    assert!(!verify(&public, algorithm, &[input, b"1"].concat(), &bytes(expected)));
}

#[test]
fn ed25519() {
    // RFC 8032 §7.1, test 2
    let key = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let expected = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
        085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    check_determined(KeySpec::Ed25519, key, SigningAlgorithm::Ed25519, &[0x72], expected);
    // RFC 8032 §7.3
    let key = "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42";
    let expected = "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
        31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406";
    let digest = Sha512::digest(b"abc");
    check_determined(KeySpec::Ed25519, key, SigningAlgorithm::Ed25519Ph, &digest, expected);
}

#[test]
fn ecdsa_on_p256() {
    // RFC 6979 §A.2.5, SHA-256, "sample"
    let key = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
    let r = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716";
    let s = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
    let expected = ["3046022100", r, "022100", s].concat();
    let (algorithm, digest) = (SigningAlgorithm::Ecdsa(DigestAlgorithm::Sha256), Sha256::digest(b"sample"));
    let (secret, public) = pair(KeySpec::EcP256, key);
    assert_eq!(hex::encode(secret.sign(algorithm, &digest).expect("signs")), expected);
    assert!(verify(&public, algorithm, &digest, &bytes(&expected)));
}

/// Made by openssl; its s is the upper one, which the Bitcoin curve's users often refuse.
#[test]
fn ecdsa_on_secp256k1_with_an_upper_s() {
    let public = "3056301006072a8648ce3d020106052b8104000a03420004252b63db477534044e72c484cfde1260e4be062a0c4c0c7d\
        2b243481293079c7d12029466e0620b0c6fa32963ad6eff799bb7173345630f5e99f71a012ccc53d";
    let signature = "3046022100b75763e806f9d725b992a1b7e4cb7eeda1dc593f5d22d4ad9f62db4fbabcbe62022100d21578056d8b34ef\
        49be6d64941c23fdfc5a71076046021b113034b349412dc9";
    let public = PublicKey::parse(KeySpec::Secp256k1, &bytes(public)).expect("a key");
    let algorithm = SigningAlgorithm::Ecdsa(DigestAlgorithm::Sha256);
    assert!(verify(&public, algorithm, &Sha256::digest(b"sample"), &bytes(signature)));
    assert!(!verify(&public, algorithm, &Sha256::digest(b"another"), &bytes(signature)));
}

/// Made by openssl: of a message with the default identity, and of what it was told to take for SM3(Z || M).
#[test]
fn sm2() {
    let public = "3059301306072a8648ce3d020106082a811ccf5501822d03420004830d6f2eee5349de126dd8bf710917fb4a2c533814\
        32db4b8e853031b2fbe6800c8a699db391232493e4e2ba89232318e88883f795beeed89c3afb2236f75121";
    let public = PublicKey::parse(KeySpec::Sm2, &bytes(public)).expect("a key");
    let of_message = "304402204374e951c92e1cec66815b177966a62189e9726dba6e35c9a2e4ad1ac58609ea02201708dd5d7f52db4b343f\
        f2cda9c376c3fcf49f96108b71be6ccf15dce3bfbfe3";
    let of_digest = "3046022100ba347d9cb5628f0e713b48a5a38edc828890352033d17b92bc579f2f8d235a42022100bb5d3f23f54fa0d9\
        539f94a21447a295aa0a655f58ea6db6b3ca891ae1230794";
    for (kind, message, signature) in [
        (MessageType::Raw, &b"what was agreed on"[..], of_message),
        (MessageType::Digest, &[0x5d; 32], of_digest),
    ] {
        let algorithm = SigningAlgorithm::Sm2Sm3;
        let valid = |message: &[u8]| {
            let input =
                Statement::new(algorithm, kind, message.to_vec()).expect("well-formed").input(&public);
            verify(&public, algorithm, &input, &bytes(signature))
        };
        assert!(valid(message), "{kind:?}");
        assert!(!valid(&[0x5e; 32]), "{kind:?}");
    }
}

fn check_mac(algorithm: MacAlgorithm, key: &[u8], message: &[u8], expected: &str) {
    let mac = super::digest::hmac(algorithm, key, message).expect("keys of any length");
    assert_eq!(hex::encode(mac), expected, "{algorithm:?} of {message:?}");
}

const COUNTED: [u8; 25] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25];

/// Key, message, and the MACs with SHA-256, SHA-384 and SHA-512.
// RFC 4231 §4.2 to §4.5
const HMACS: [(&[u8], &[u8], [&str; 3]); 4] = [
    (
        &[0x0b; 20],
        b"Hi There",
        [
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f\
            4af152e8b2fa9cb6",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702\
            038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        ],
    ),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        [
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c7\
            8b3239ecfab21649",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a\
            6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ],
    ),
    (
        &[0xaa; 20],
        &[0xdd; 50],
        [
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b2a5ab39dc13814b9\
            4e3ab6e101a34f27",
            "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c8\
            06b485a47e67c807b946a337bee8942674278859e13292fb",
        ],
    ),
    (
        &COUNTED,
        &[0xcd; 50],
        [
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            "3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e6801dd23c4a7d679\
            ccf8a386c674cffb",
            "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4\
            d679275cc5788063a5f19741120c4f2de2adebeb10a298dd",
        ],
    ),
];

#[test]
fn hmacs() {
    for (key, message, [sha256, sha384, sha512]) in HMACS {
        check_mac(MacAlgorithm::HmacSha256, key, message, sha256);
        check_mac(MacAlgorithm::HmacSha384, key, message, sha384);
        check_mac(MacAlgorithm::HmacSha512, key, message, sha512);
    }
    // By openssl.
    let sm3 = "2e87f1d16862e6d964b50a5200bf2b10b764faa9680a296a2405f24bec39f882";
    check_mac(MacAlgorithm::HmacSm3, b"Jefe", b"what do ya want for nothing?", sm3);
}
