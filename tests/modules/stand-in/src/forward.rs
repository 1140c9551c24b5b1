//! The functions that meet their faults and then do what the real module does.

use std::ffi::c_void;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BBOOL, CK_BYTE, CK_FLAGS, CK_INFO, CK_MECHANISM, CK_NOTIFY, CK_OBJECT_HANDLE, CK_RV,
    CK_SESSION_HANDLE, CK_SESSION_INFO, CK_SLOT_ID, CK_SLOT_INFO, CK_TOKEN_INFO, CK_ULONG, CK_USER_TYPE,
    CK_UTF8CHAR,
};

/// Calls the real module. A function that it lacks is not supported.
macro_rules! real {
    ($name:ident($($argument:expr),* $(,)?)) => {
        match crate::real::real().$name {
            // SAFETY: the arguments are those of the caller of this module, who keeps the rules of PKCS#11, or
            // made here by the same rules.
            Some(function) => unsafe { function($($argument),*) },
            None => cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}
pub(crate) use real;

macro_rules! forward {
    ($($name:ident($($argument:ident: $kind:ty),*);)+) => {
        $(
            pub(crate) unsafe extern "C" fn $name($($argument: $kind),*) -> CK_RV {
                match crate::faults::meet(stringify!($name)) {
                    Some(answer) => answer,
                    None => real!($name($($argument),*)),
                }
            }
        )+
    };
}

forward! {
    C_Initialize(arguments: *mut c_void);
    C_GetInfo(info: *mut CK_INFO);
    C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG);
    C_GetSlotInfo(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO);
    C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO);
    C_InitToken(slot: CK_SLOT_ID, pin: *mut CK_UTF8CHAR, length: CK_ULONG, label: *mut CK_UTF8CHAR);
    C_InitPIN(session: CK_SESSION_HANDLE, pin: *mut CK_UTF8CHAR, length: CK_ULONG);
    C_SetPIN(session: CK_SESSION_HANDLE, old: *mut CK_UTF8CHAR, old_length: CK_ULONG, new: *mut CK_UTF8CHAR,
        new_length: CK_ULONG);
    C_OpenSession(slot: CK_SLOT_ID, flags: CK_FLAGS, application: *mut c_void, notify: CK_NOTIFY,
        session: *mut CK_SESSION_HANDLE);
    C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO);
    C_GetOperationState(session: CK_SESSION_HANDLE, state: *mut CK_BYTE, length: *mut CK_ULONG);
    C_SetOperationState(session: CK_SESSION_HANDLE, state: *mut CK_BYTE, length: CK_ULONG,
        encryption: CK_OBJECT_HANDLE, authentication: CK_OBJECT_HANDLE);
    C_Login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, length: CK_ULONG);
    C_GetObjectSize(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, size: *mut CK_ULONG);
    C_FindObjectsInit(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG);
    C_FindObjects(session: CK_SESSION_HANDLE, objects: *mut CK_OBJECT_HANDLE, most: CK_ULONG,
        count: *mut CK_ULONG);
    C_FindObjectsFinal(session: CK_SESSION_HANDLE);
    C_EncryptUpdate(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG, output: *mut CK_BYTE,
        output_length: *mut CK_ULONG);
    C_EncryptFinal(session: CK_SESSION_HANDLE, output: *mut CK_BYTE, output_length: *mut CK_ULONG);
    C_DecryptUpdate(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG, output: *mut CK_BYTE,
        output_length: *mut CK_ULONG);
    C_DecryptFinal(session: CK_SESSION_HANDLE, output: *mut CK_BYTE, output_length: *mut CK_ULONG);
    C_DigestInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM);
    C_Digest(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG, digest: *mut CK_BYTE,
        digest_length: *mut CK_ULONG);
    C_DigestUpdate(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG);
    C_DigestKey(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE);
    C_DigestFinal(session: CK_SESSION_HANDLE, digest: *mut CK_BYTE, digest_length: *mut CK_ULONG);
    C_SignUpdate(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG);
    C_SignFinal(session: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: *mut CK_ULONG);
    C_SignRecoverInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_SignRecover(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: *mut CK_ULONG);
    C_VerifyInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Verify(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: CK_ULONG);
    C_VerifyUpdate(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG);
    C_VerifyFinal(session: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: CK_ULONG);
    C_VerifyRecoverInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_VerifyRecover(session: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: CK_ULONG,
        output: *mut CK_BYTE, output_length: *mut CK_ULONG);
    C_DigestEncryptUpdate(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG,
        output: *mut CK_BYTE, output_length: *mut CK_ULONG);
    C_DecryptDigestUpdate(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG,
        output: *mut CK_BYTE, output_length: *mut CK_ULONG);
    C_SignEncryptUpdate(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG,
        output: *mut CK_BYTE, output_length: *mut CK_ULONG);
    C_DecryptVerifyUpdate(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, length: CK_ULONG,
        output: *mut CK_BYTE, output_length: *mut CK_ULONG);
    C_GenerateKeyPair(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, public: *mut CK_ATTRIBUTE,
        public_count: CK_ULONG, private: *mut CK_ATTRIBUTE, private_count: CK_ULONG,
        public_key: *mut CK_OBJECT_HANDLE, private_key: *mut CK_OBJECT_HANDLE);
    C_DeriveKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, base: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG, key: *mut CK_OBJECT_HANDLE);
    C_SeedRandom(session: CK_SESSION_HANDLE, seed: *mut CK_BYTE, length: CK_ULONG);
    C_GenerateRandom(session: CK_SESSION_HANDLE, output: *mut CK_BYTE, length: CK_ULONG);
    C_GetFunctionStatus(session: CK_SESSION_HANDLE);
    C_CancelFunction(session: CK_SESSION_HANDLE);
    C_WaitForSlotEvent(flags: CK_FLAGS, slot: *mut CK_SLOT_ID, reserved: *mut c_void);
}
