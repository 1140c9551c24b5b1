//! Objects: SM4 keys are made, shown and wrapped as what the caller asked for.

use std::ptr;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_MECHANISM, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE,
    CK_ULONG, CKA_KEY_TYPE, CKM_GENERIC_SECRET_KEY_GEN, CKR_ACTION_PROHIBITED, CKR_ARGUMENTS_BAD,
    CKR_ATTRIBUTE_READ_ONLY, CKR_KEY_SIZE_RANGE, CKR_KEY_UNEXTRACTABLE, CKR_OK, CKR_WRAPPED_KEY_LEN_RANGE,
};

use super::meet;
use crate::{
    faults,
    forward::real,
    sm4_keys::{self, Sm4Key},
    template::{Template, array, number},
    vendor::{CKK_SM4, CKM_SM4_KEY_GEN},
};

pub(crate) unsafe extern "C" fn C_GenerateKey(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    meet!(C_GenerateKey);
    // SAFETY: the caller vouches for the mechanism, or it is null.
    if unsafe { kind(mechanism) } != Some(CKM_SM4_KEY_GEN) {
        return real!(C_GenerateKey(session, mechanism, template, count, key));
    }
    // SAFETY: the caller vouches for the template.
    let template = unsafe { Template::read(template, count) };
    let mut below = CK_MECHANISM {
        mechanism: CKM_GENERIC_SECRET_KEY_GEN,
        pParameter: ptr::null_mut(),
        ulParameterLen: 0,
    };
    make(session, true, template, key, |attributes, key| {
        let count = number(attributes.len());
        real!(C_GenerateKey(session, &raw mut below, attributes.as_mut_ptr(), count, key))
    })
}

pub(crate) unsafe extern "C" fn C_CreateObject(
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    object: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    meet!(C_CreateObject);
    // SAFETY: the caller vouches for the template.
    match unsafe { Template::read(template, count) } {
        Ok(asked) if asked.number(CKA_KEY_TYPE) == Some(CKK_SM4) => {
            make(session, false, Ok(asked), object, |attributes, object| {
                let count = number(attributes.len());
                real!(C_CreateObject(session, attributes.as_mut_ptr(), count, object))
            })
        }
        _ => real!(C_CreateObject(session, template, count, object)),
    }
}

pub(crate) unsafe extern "C" fn C_UnwrapKey(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    unwrapping: CK_OBJECT_HANDLE,
    wrapped: *mut CK_BYTE,
    length: CK_ULONG,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    meet!(C_UnwrapKey);
    // SAFETY: the caller vouches for the template.
    match unsafe { Template::read(template, count) } {
        Ok(asked) if asked.number(CKA_KEY_TYPE) == Some(CKK_SM4) => {
            make(session, false, Ok(asked), key, |attributes, key| {
                let (count, attributes) = (number(attributes.len()), attributes.as_mut_ptr());
                real!(C_UnwrapKey(session, mechanism, unwrapping, wrapped, length, attributes, count, key))
            })
        }
        _ => real!(C_UnwrapKey(session, mechanism, unwrapping, wrapped, length, template, count, key)),
    }
}

/// Makes an SM4 key, as the caller asks for it, by what `below` makes in the real module.
fn make(
    session: CK_SESSION_HANDLE,
    local: bool,
    template: Result<Template, CK_RV>,
    handle: *mut CK_OBJECT_HANDLE,
    below: impl FnOnce(&mut [CK_ATTRIBUTE], *mut CK_OBJECT_HANDLE) -> CK_RV,
) -> CK_RV {
    let asked = template.and_then(|template| Sm4Key::ask(session, local, template));
    let (key, mut template) = match asked {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    // SAFETY: `handle` is null, or the caller vouches for it.
    let Some(handle) = (unsafe { handle.as_mut() }) else { return CKR_ARGUMENTS_BAD };
    let answer = below(&mut template.attributes(), handle);
    if answer != CKR_OK {
        return answer;
    }
    // A wrapped key of another length is unwrapped before its length can be seen.
    if let Err(answer) = sm4_keys::value(session, *handle) {
        let _gone = real!(C_DestroyObject(session, *handle));
        return if answer == CKR_KEY_SIZE_RANGE { CKR_WRAPPED_KEY_LEN_RANGE } else { answer };
    }
    sm4_keys::insert(*handle, key);
    CKR_OK
}

pub(crate) unsafe extern "C" fn C_WrapKey(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    wrapping: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    wrapped: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    meet!(C_WrapKey);
    if sm4_keys::find(key).is_some_and(|key| !key.extractable()) {
        return CKR_KEY_UNEXTRACTABLE;
    }
    real!(C_WrapKey(session, mechanism, wrapping, key, wrapped, length))
}

pub(crate) unsafe extern "C" fn C_DestroyObject(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
) -> CK_RV {
    meet!(C_DestroyObject);
    let answer = real!(C_DestroyObject(session, object));
    if answer == CKR_OK {
        sm4_keys::remove(object);
    }
    answer
}

/// A copy of an SM4 key would be one of a generic secret: it is refused.
pub(crate) unsafe extern "C" fn C_CopyObject(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    copy: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    meet!(C_CopyObject);
    if sm4_keys::find(object).is_some() {
        return CKR_ACTION_PROHIBITED;
    }
    real!(C_CopyObject(session, object, template, count, copy))
}

pub(crate) unsafe extern "C" fn C_GetAttributeValue(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    meet!(C_GetAttributeValue);
    let Some(key) = sm4_keys::find(object) else {
        return real!(C_GetAttributeValue(session, object, template, count));
    };
    if template.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let mut answer = CKR_OK;
    for place in 0..usize::try_from(count).unwrap_or_default() {
        // SAFETY: the caller says that the template has so many attributes.
        let one = key.answer(session, object, unsafe { &mut *template.add(place) });
        // PKCS#11 §5.7.5: every attribute is answered, and any of the errors is given.
        answer = if one == CKR_OK { answer } else { one };
    }
    answer
}

pub(crate) unsafe extern "C" fn C_SetAttributeValue(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    meet!(C_SetAttributeValue);
    if let Some(key) = sm4_keys::find(object) {
        // SAFETY: the caller vouches for the template.
        match unsafe { array(template.cast_const(), count) } {
            Ok(attributes) if attributes.iter().any(|attribute| key.is_shown(attribute.type_)) => {
                return CKR_ATTRIBUTE_READ_ONLY;
            }
            Ok(_) => {}
            Err(answer) => return answer,
        }
    }
    real!(C_SetAttributeValue(session, object, template, count))
}

/// # Safety
/// The mechanism can be read, or is null.
unsafe fn kind(mechanism: *const CK_MECHANISM) -> Option<CK_MECHANISM_TYPE> {
    // SAFETY: the caller vouches for it.
    unsafe { mechanism.as_ref() }.map(|mechanism| mechanism.mechanism)
}
