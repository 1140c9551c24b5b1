//! What an SM2 signature is made over.

use sm2::elliptic_curve::sec1::ToSec1Point as _;
use sm3::{Digest as _, Sm3};

/// The identity that a signer has if nothing else was agreed on. GM/T 0009 §10.
pub(super) const DEFAULT_ID: &str = "1234567812345678";

// GB/T 32918.5 §2: a, b and the generator.
const CURVE: &str = "fffffffeffffffffffffffffffffffffffffffff00000000fffffffffffffffc\
    28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93\
    32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7\
    bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0";

/// The digest of a message by this signer: SM3(Z || M), with the default identity.
// GB/T 32918.2 §5.5 (Z) and §6.1 (A1, A2)
pub(super) fn digest(signer: &sm2::PublicKey, message: &[u8]) -> [u8; 32] {
    let bits = u16::try_from(8 * DEFAULT_ID.len()).unwrap_or(0); // 128
    let curve = hex::decode(CURVE).unwrap_or_default(); // it is hexadecimal
    let point = signer.to_sec1_point(false);
    let z = Sm3::new()
        .chain_update(bits.to_be_bytes())
        .chain_update(DEFAULT_ID)
        .chain_update(curve)
        .chain_update(&point.as_bytes()[1..])
        .finalize();
    Sm3::new().chain_update(z).chain_update(message).finalize().into()
}

#[cfg(test)]
mod tests {
    use crate::{
        crypto::{MessageType, PublicKey, SecretKey, SigningAlgorithm, Statement, verify},
        key::KeySpec,
        secret::SecretBytes,
    };

    // GB/T 32918.5 §A.2
    const PRIVATE: &str = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
    const PUBLIC: &str = "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020\
        ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13";
    const E: &str = "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640";
    const R: &str = "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3";
    const S: &str = "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa";

    #[test]
    fn the_example_of_the_standard_is_verified_and_its_key_signs() {
        let form = hex::decode(["01", PRIVATE].concat()).expect("hexadecimal digits");
        let secret = SecretKey::open(KeySpec::Sm2, SecretBytes::new(form)).expect("a scalar");
        let public = PublicKey::parse(KeySpec::Sm2, &secret.public_key_der()).expect("its public half");
        assert_eq!(public.point().map(hex::encode).as_deref(), Some(PUBLIC));
        let algorithm = SigningAlgorithm::Sm2Sm3;
        let said = Statement::new(algorithm, MessageType::Raw, b"message digest".to_vec());
        let input = said.expect("well-formed").input(&public);
        assert_eq!(hex::encode(&input), E);
        let der = hex::decode(["3046022100", R, "022100", S].concat()).expect("hexadecimal digits");
        assert!(verify(&public, algorithm, &input, &der));
        let own = secret.sign(algorithm, &input).expect("signs");
        assert!(verify(&public, algorithm, &input, &own));
    }
    // GB/T 32918.5 §A.3 (C.2): the same key, and C1, C3 and C2 of a ciphertext.
    const X: &str = "04ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73";
    const Y: &str = "e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0";
    const HASH: &str = "59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766";
    const MASKED: &str = "21886ca989ca9c7d58087307ca93092d651efa";

    #[test]
    fn the_ciphertext_of_the_standard_opens() {
        let form = hex::decode(["01", PRIVATE].concat()).expect("hexadecimal digits");
        let secret = SecretKey::open(KeySpec::Sm2, SecretBytes::new(form)).expect("a scalar");
        let der = ["307c0220", X, "022100", Y, "0420", HASH, "0413", MASKED].concat();
        let mut der = hex::decode(der).expect("hexadecimal digits");
        assert_eq!(secret.decrypt_sm2(&der).expect("opens").expose_secret(), b"encryption standard");
        *der.last_mut().expect("not empty") ^= 1;
        assert!(secret.decrypt_sm2(&der).is_err());
    }
}
