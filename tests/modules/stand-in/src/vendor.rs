//! The ids of the vendor's SM4, of the kind that such modules use.

use cryptoki_sys::{CK_KEY_TYPE, CK_MECHANISM_TYPE};

/// The type of SM4 keys.
pub const CKK_SM4: CK_KEY_TYPE = 0x8000_0002;
/// Makes a key of 16 bytes.
pub const CKM_SM4_KEY_GEN: CK_MECHANISM_TYPE = 0x8000_0107;
/// SM4 block by block, without a parameter.
pub const CKM_SM4_ECB: CK_MECHANISM_TYPE = 0x8000_0108;
/// SM4-GCM, RFC 8998, with `CK_GCM_PARAMS`: an IV of 12 bytes, a tag of 128 bits.
pub const CKM_SM4_GCM: CK_MECHANISM_TYPE = 0x8000_010F;
/// The length of a key and of a block, in bytes.
pub const SM4_BYTES: usize = 16;
