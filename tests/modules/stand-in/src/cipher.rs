//! SM4 itself: one operation for each session and direction, in one part.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use aes_gcm::{
    AesGcm,
    aead::{Aead as _, KeyInit as _, Payload, consts::U12},
};
use cryptoki_sys::{
    CK_GCM_PARAMS, CK_MECHANISM, CK_RV, CK_SESSION_HANDLE, CKR_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_INVALID,
    CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_GENERAL_ERROR, CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID,
};
use sm4::{
    Sm4,
    cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _},
};
use zeroize::Zeroizing;

use crate::{
    template::{array, number},
    vendor::{CKM_SM4_ECB, CKM_SM4_GCM, SM4_BYTES},
};

const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
}

pub(crate) enum Mode {
    Ecb,
    Gcm { iv: [u8; IV_BYTES], aad: Vec<u8> },
}

/// What was begun and waits for its data.
pub(crate) struct Operation {
    pub(crate) key: Zeroizing<[u8; SM4_BYTES]>,
    pub(crate) mode: Mode,
}

type Operations = BTreeMap<(CK_SESSION_HANDLE, Direction), Operation>;

/// The operations that are active.
pub(crate) fn operations() -> MutexGuard<'static, Operations> {
    static OPERATIONS: Mutex<Operations> = Mutex::new(Operations::new());
    OPERATIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mode {
    /// # Safety
    /// The mechanism's parameter is as PKCS#11 says.
    pub(crate) unsafe fn read(mechanism: &CK_MECHANISM) -> Result<Self, CK_RV> {
        match mechanism.mechanism {
            CKM_SM4_ECB if mechanism.ulParameterLen == 0 => Ok(Self::Ecb),
            CKM_SM4_GCM if mechanism.ulParameterLen == number(size_of::<CK_GCM_PARAMS>()) => {
                // SAFETY: it has the length of such parameters, and the caller vouches for them.
                let parameters = unsafe { mechanism.pParameter.cast::<CK_GCM_PARAMS>().as_ref() };
                // SAFETY: so he does for what they point to.
                unsafe { Self::read_gcm(parameters.ok_or(CKR_MECHANISM_PARAM_INVALID)?) }
            }
            CKM_SM4_ECB | CKM_SM4_GCM => Err(CKR_MECHANISM_PARAM_INVALID),
            _ => Err(CKR_MECHANISM_INVALID),
        }
    }

    /// # Safety
    /// The parameters' pointers are as PKCS#11 says.
    unsafe fn read_gcm(parameters: &CK_GCM_PARAMS) -> Result<Self, CK_RV> {
        // SAFETY: the caller vouches for both.
        let (iv, aad) = unsafe {
            let iv = array(parameters.pIv.cast_const(), parameters.ulIvLen)?;
            (iv, array(parameters.pAAD.cast_const(), parameters.ulAADLen)?)
        };
        let iv = iv.try_into().map_err(|_| CKR_MECHANISM_PARAM_INVALID)?;
        if parameters.ulTagBits != number(TAG_BYTES * 8) {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
        Ok(Self::Gcm { iv, aad: aad.to_vec() })
    }

    /// How long the output of so much input is.
    pub(crate) fn output_bytes(&self, direction: Direction, input: usize) -> Result<usize, CK_RV> {
        let whole_blocks = input.is_multiple_of(SM4_BYTES);
        match (self, direction) {
            (Self::Ecb, _) if whole_blocks => Ok(input),
            (Self::Ecb, Direction::Encrypt) => Err(CKR_DATA_LEN_RANGE),
            (Self::Ecb, Direction::Decrypt) => Err(CKR_ENCRYPTED_DATA_LEN_RANGE),
            (Self::Gcm { .. }, Direction::Encrypt) => Ok(input + TAG_BYTES),
            (Self::Gcm { .. }, Direction::Decrypt) => {
                input.checked_sub(TAG_BYTES).ok_or(CKR_ENCRYPTED_DATA_LEN_RANGE)
            }
        }
    }
}

impl Operation {
    pub(crate) fn run(&self, direction: Direction, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, CK_RV> {
        match &self.mode {
            Mode::Ecb => Ok(self.ecb(direction, input)),
            Mode::Gcm { iv, aad } => self.gcm(direction, *iv, aad, input),
        }
    }

    fn ecb(&self, direction: Direction, input: &[u8]) -> Zeroizing<Vec<u8>> {
        let cipher = Sm4::new((&*self.key).into());
        let mut output = Zeroizing::new(input.to_vec());
        for block in output.as_chunks_mut::<SM4_BYTES>().0 {
            match direction {
                Direction::Encrypt => cipher.encrypt_block(block.into()),
                Direction::Decrypt => cipher.decrypt_block(block.into()),
            }
        }
        output
    }

    // RFC 8998: GCM over SM4, with the tag behind the ciphertext, as PKCS#11 has it.
    fn gcm(
        &self,
        direction: Direction,
        iv: [u8; IV_BYTES],
        aad: &[u8],
        msg: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CK_RV> {
        let cipher = AesGcm::<Sm4, U12>::new((&*self.key).into());
        let payload = Payload { msg, aad };
        let output = match direction {
            Direction::Encrypt => cipher.encrypt(&iv.into(), payload).map_err(|_| CKR_DATA_LEN_RANGE),
            Direction::Decrypt => cipher.decrypt(&iv.into(), payload).map_err(|_| bad_tag()),
        };
        output.map(Zeroizing::new)
    }
}

/// Modules differ in what they say of a wrong tag.
fn bad_tag() -> CK_RV {
    static GENERAL: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("STAND_IN_BAD_TAG").is_some_and(|said| said == "general"));
    if *GENERAL { CKR_GENERAL_ERROR } else { CKR_ENCRYPTED_DATA_INVALID }
}
