//! A PKCS#11 v2.40 module for tests: it stands before another one, the real module, and forwards every call
//! to it, except that it injects the faults it is told to inject and adds a vendor's SM4.
//!
//! | variable | what it says |
//! | --- | --- |
//! | `STAND_IN_MODULE` | the path of the real module |
//! | `STAND_IN_FAULTS` | the file of the faults (see [`Fault`]); looked at on every call, and may be missing |
//! | `STAND_IN_BAD_TAG` | `general`: a wrong tag answers `CKR_GENERAL_ERROR`, not `CKR_ENCRYPTED_DATA_INVALID` |
//!
//! The vendor's SM4 has the ids of [`vendor`] and exists as session objects only. Searches see its keys as the
//! generic secrets that the real module keeps.
#![allow(unsafe_code, reason = "a PKCS#11 module is a C interface")]
#![allow(non_snake_case, reason = "the functions have the names that PKCS#11 gives them")]

mod cipher;
mod faults;
mod forward;
mod functions;
mod real;
mod sm4_keys;
mod template;
pub mod vendor;

use cryptoki_sys::{CK_FUNCTION_LIST, CK_FUNCTION_LIST_PTR, CK_RV, CK_VERSION, CKR_ARGUMENTS_BAD, CKR_OK};
pub use faults::{Action, Fault};

/// The list of all functions: those that only forward, and those that do more.
macro_rules! function_list {
    (forwarded: $($forwarded:ident)+; own: $($own:ident)+;) => {
        CK_FUNCTION_LIST {
            version: CK_VERSION { major: 2, minor: 40 },
            C_GetFunctionList: Some(C_GetFunctionList),
            $($forwarded: Some(forward::$forwarded),)+
            $($own: Some(functions::$own),)+
        }
    };
}

static FUNCTIONS: CK_FUNCTION_LIST = function_list! {
    forwarded:
        C_Initialize C_GetInfo C_GetSlotList C_GetSlotInfo C_GetTokenInfo C_InitToken C_InitPIN C_SetPIN
        C_OpenSession C_GetSessionInfo C_GetOperationState C_SetOperationState C_Login C_GetObjectSize
        C_FindObjectsInit C_FindObjects C_FindObjectsFinal C_EncryptUpdate C_EncryptFinal C_DecryptUpdate
        C_DecryptFinal C_DigestInit C_Digest C_DigestUpdate C_DigestKey C_DigestFinal C_SignUpdate C_SignFinal
        C_SignRecoverInit C_SignRecover C_VerifyInit C_Verify C_VerifyUpdate C_VerifyFinal C_VerifyRecoverInit
        C_VerifyRecover C_DigestEncryptUpdate C_DecryptDigestUpdate C_SignEncryptUpdate C_DecryptVerifyUpdate
        C_GenerateKeyPair C_DeriveKey C_SeedRandom C_GenerateRandom C_GetFunctionStatus C_CancelFunction
        C_WaitForSlotEvent;
    own:
        C_Finalize C_GetMechanismList C_GetMechanismInfo C_CloseSession C_CloseAllSessions C_Logout
        C_CreateObject C_CopyObject C_DestroyObject C_GetAttributeValue C_SetAttributeValue C_EncryptInit
        C_Encrypt C_DecryptInit C_Decrypt C_SignInit C_Sign C_GenerateKey C_WrapKey C_UnwrapKey;
};

/// PKCS#11 §5.4: the only function that a module must export by name.
///
/// # Safety
/// `list` is null, or a place where a pointer can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut CK_FUNCTION_LIST_PTR) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: it is not null, and then the caller vouches for it. The list is read only, as PKCS#11 says.
    unsafe { list.write((&raw const FUNCTIONS).cast_mut()) };
    CKR_OK
}
