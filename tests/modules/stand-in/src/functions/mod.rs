//! The functions that know the vendor's SM4, or that end an operation with an injected error; here those about
//! sessions and mechanisms.

mod ciphers;
mod keys;

use std::{ffi::c_void, ptr};

use cryptoki_sys::{
    CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_ULONG, CKF_DECRYPT,
    CKF_ENCRYPT, CKF_GENERATE, CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL, CKR_MECHANISM_INVALID, CKR_OK,
};

use crate::{
    cipher::operations,
    faults,
    forward::real,
    sm4_keys,
    template::number,
    vendor::{CKM_SM4_ECB, CKM_SM4_GCM, CKM_SM4_KEY_GEN, SM4_BYTES},
};
pub(crate) use ciphers::*;
pub(crate) use keys::*;

const MECHANISMS: [CK_MECHANISM_TYPE; 3] = [CKM_SM4_KEY_GEN, CKM_SM4_ECB, CKM_SM4_GCM];

/// Lets the call meet its fault: an injected error is the answer.
macro_rules! meet {
    ($name:ident) => {
        if let Some(answer) = faults::meet(stringify!($name)) {
            return answer;
        }
    };
}
use meet;

pub(crate) unsafe extern "C" fn C_Finalize(reserved: *mut c_void) -> CK_RV {
    meet!(C_Finalize);
    let answer = real!(C_Finalize(reserved));
    if answer == CKR_OK {
        operations().clear();
        sm4_keys::remove_all();
    }
    answer
}

pub(crate) unsafe extern "C" fn C_CloseSession(session: CK_SESSION_HANDLE) -> CK_RV {
    meet!(C_CloseSession);
    let answer = real!(C_CloseSession(session));
    if answer == CKR_OK {
        operations().retain(|(of, _), _| *of != session);
        sm4_keys::remove_of(session);
    }
    answer
}

pub(crate) unsafe extern "C" fn C_CloseAllSessions(slot: CK_SLOT_ID) -> CK_RV {
    meet!(C_CloseAllSessions);
    let answer = real!(C_CloseAllSessions(slot));
    if answer == CKR_OK {
        // Which slot a session belongs to is not known here: tests use one.
        operations().clear();
        sm4_keys::remove_all();
    }
    answer
}

pub(crate) unsafe extern "C" fn C_Logout(session: CK_SESSION_HANDLE) -> CK_RV {
    meet!(C_Logout);
    let answer = real!(C_Logout(session));
    if answer == CKR_OK {
        operations().clear();
    }
    answer
}

pub(crate) unsafe extern "C" fn C_GetMechanismList(
    slot: CK_SLOT_ID,
    list: *mut CK_MECHANISM_TYPE,
    count: *mut CK_ULONG,
) -> CK_RV {
    meet!(C_GetMechanismList);
    let mut own = 0;
    let answer = real!(C_GetMechanismList(slot, ptr::null_mut(), &raw mut own));
    // SAFETY: `count` is null, or the caller vouches for it.
    let (CKR_OK, Some(count)) = (answer, unsafe { count.as_mut() }) else {
        return if answer == CKR_OK { CKR_ARGUMENTS_BAD } else { answer };
    };
    let room = std::mem::replace(count, own + number(MECHANISMS.len()));
    if list.is_null() {
        return CKR_OK;
    }
    if room < *count {
        return CKR_BUFFER_TOO_SMALL;
    }
    let answer = real!(C_GetMechanismList(slot, list, &raw mut own));
    if answer == CKR_OK {
        let end = usize::try_from(own).expect("the list is in memory");
        // SAFETY: the caller says that there is room for these behind the real module's own.
        unsafe { list.add(end).copy_from_nonoverlapping(MECHANISMS.as_ptr(), MECHANISMS.len()) };
    }
    answer
}

pub(crate) unsafe extern "C" fn C_GetMechanismInfo(
    slot: CK_SLOT_ID,
    mechanism: CK_MECHANISM_TYPE,
    info: *mut CK_MECHANISM_INFO,
) -> CK_RV {
    meet!(C_GetMechanismInfo);
    if faults::lacks(mechanism) {
        return CKR_MECHANISM_INVALID;
    }
    let flags = match mechanism {
        CKM_SM4_KEY_GEN => CKF_GENERATE,
        CKM_SM4_ECB | CKM_SM4_GCM => CKF_ENCRYPT | CKF_DECRYPT,
        _ => return real!(C_GetMechanismInfo(slot, mechanism, info)),
    };
    let size = number(SM4_BYTES);
    // SAFETY: `info` is null, or the caller vouches for it.
    match unsafe { info.as_mut() } {
        Some(info) => *info = CK_MECHANISM_INFO { ulMinKeySize: size, ulMaxKeySize: size, flags },
        None => return CKR_ARGUMENTS_BAD,
    }
    CKR_OK
}
