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
