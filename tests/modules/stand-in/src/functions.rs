//! The functions that know the vendor's SM4, or that end an operation with an injected error.

use std::{ffi::c_void, ptr};

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_MECHANISM, CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_RV,
    CK_SESSION_HANDLE, CK_SESSION_INFO, CK_SLOT_ID, CK_ULONG, CKA_KEY_TYPE, CKF_DECRYPT, CKF_ENCRYPT,
    CKF_GENERATE, CKM_GENERIC_SECRET_KEY_GEN, CKR_ACTION_PROHIBITED, CKR_ARGUMENTS_BAD,
    CKR_ATTRIBUTE_READ_ONLY, CKR_BUFFER_TOO_SMALL, CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_KEY_HANDLE_INVALID,
    CKR_KEY_SIZE_RANGE, CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_UNEXTRACTABLE, CKR_OK, CKR_OPERATION_ACTIVE,
    CKR_WRAPPED_KEY_LEN_RANGE,
};

use crate::{
    cipher::{Direction, Mode, Operation, operations},
    faults,
    forward::real,
    sm4_keys::{self, Sm4Key},
    template::{Template, array, number},
    vendor::{CKK_SM4, CKM_SM4_ECB, CKM_SM4_GCM, CKM_SM4_KEY_GEN, SM4_BYTES},
};

const MECHANISMS: [CK_MECHANISM_TYPE; 3] = [CKM_SM4_KEY_GEN, CKM_SM4_ECB, CKM_SM4_GCM];

/// Lets the call meet its fault: an injected error is the answer.
macro_rules! meet {
    ($name:ident) => {
        if let Some(answer) = faults::meet(stringify!($name)) {
            return answer;
        }
    };
}

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

pub(crate) unsafe extern "C" fn C_EncryptInit(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    meet!(C_EncryptInit);
    // SAFETY: the caller vouches for the mechanism.
    match unsafe { begin(Direction::Encrypt, session, mechanism, key) } {
        Some(begun) => begun.err().unwrap_or(CKR_OK),
        None => real!(C_EncryptInit(session, mechanism, key)),
    }
}

pub(crate) unsafe extern "C" fn C_DecryptInit(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    meet!(C_DecryptInit);
    // SAFETY: the caller vouches for the mechanism.
    match unsafe { begin(Direction::Decrypt, session, mechanism, key) } {
        Some(begun) => begun.err().unwrap_or(CKR_OK),
        None => real!(C_DecryptInit(session, mechanism, key)),
    }
}

/// Begins an operation of SM4; `None` if it is one of the real module.
///
/// # Safety
/// The mechanism is as PKCS#11 says, or null.
unsafe fn begin(
    direction: Direction,
    session: CK_SESSION_HANDLE,
    mechanism: *const CK_MECHANISM,
    object: CK_OBJECT_HANDLE,
) -> Option<Result<(), CK_RV>> {
    // SAFETY: the caller vouches for it.
    let mechanism = unsafe { mechanism.as_ref() }?;
    let key = sm4_keys::find(object);
    if key.is_none() && !MECHANISMS.contains(&mechanism.mechanism) {
        return None;
    }
    // SAFETY: the caller vouches for the parameter.
    let mode = unsafe { Mode::read(mechanism) };
    Some(mode.and_then(|mode| activate(direction, session, mode, (object, key))))
}

fn activate(
    direction: Direction,
    session: CK_SESSION_HANDLE,
    mode: Mode,
    (object, key): (CK_OBJECT_HANDLE, Option<Sm4Key>),
) -> Result<(), CK_RV> {
    let mut info = CK_SESSION_INFO { slotID: 0, state: 0, flags: 0, ulDeviceError: 0 };
    match real!(C_GetSessionInfo(session, &raw mut info)) {
        CKR_OK => {}
        answer => return Err(answer),
    }
    let value = sm4_keys::value(session, object);
    let Some(key) = key else {
        let is_none = value == Err(CKR_KEY_HANDLE_INVALID);
        return Err(if is_none { CKR_KEY_HANDLE_INVALID } else { CKR_KEY_TYPE_INCONSISTENT });
    };
    let permitted = match direction {
        Direction::Encrypt => key.encrypt,
        Direction::Decrypt => key.decrypt,
    };
    if !permitted {
        return Err(CKR_KEY_FUNCTION_NOT_PERMITTED);
    }
    let operation = Operation { key: value?, mode };
    let mut operations = operations();
    if operations.contains_key(&(session, direction)) {
        return Err(CKR_OPERATION_ACTIVE);
    }
    operations.insert((session, direction), operation);
    Ok(())
}

/// PKCS#11 §5.2: an error ends the operation. The real module's is ended by letting it do its work in vain.
macro_rules! end_with {
    ($answer:expr, $name:ident, $session:ident, $input:ident, $length:ident) => {{
        let mut output = zeroize::Zeroizing::new(vec![0; usize::try_from($length).unwrap_or(0) + 1024]);
        let mut length = number(output.len());
        let _ended = real!($name($session, $input, $length, output.as_mut_ptr(), &raw mut length));
        return $answer;
    }};
}

pub(crate) unsafe extern "C" fn C_Encrypt(
    session: CK_SESSION_HANDLE,
    input: *mut CK_BYTE,
    length: CK_ULONG,
    output: *mut CK_BYTE,
    output_length: *mut CK_ULONG,
) -> CK_RV {
    if let Some(answer) = faults::meet("C_Encrypt") {
        operations().remove(&(session, Direction::Encrypt));
        end_with!(answer, C_Encrypt, session, input, length);
    }
    // SAFETY: the caller vouches for input and output.
    unsafe { finish(Direction::Encrypt, session, (input, length), (output, output_length)) }
        .unwrap_or_else(|| real!(C_Encrypt(session, input, length, output, output_length)))
}

pub(crate) unsafe extern "C" fn C_Decrypt(
    session: CK_SESSION_HANDLE,
    input: *mut CK_BYTE,
    length: CK_ULONG,
    output: *mut CK_BYTE,
    output_length: *mut CK_ULONG,
) -> CK_RV {
    if let Some(answer) = faults::meet("C_Decrypt") {
        operations().remove(&(session, Direction::Decrypt));
        end_with!(answer, C_Decrypt, session, input, length);
    }
    // SAFETY: the caller vouches for input and output.
    unsafe { finish(Direction::Decrypt, session, (input, length), (output, output_length)) }
        .unwrap_or_else(|| real!(C_Decrypt(session, input, length, output, output_length)))
}

/// Finishes an operation of SM4; `None` if none is active.
///
/// PKCS#11 §5.2: without a place for it only the output's length is told; that, and a place that is too small,
/// leave the operation active. Everything else ends it.
///
/// # Safety
/// Input and output are as PKCS#11 says.
unsafe fn finish(
    direction: Direction,
    session: CK_SESSION_HANDLE,
    (input, length): (*const CK_BYTE, CK_ULONG),
    (output, output_length): (*mut CK_BYTE, *mut CK_ULONG),
) -> Option<CK_RV> {
    let mut operations = operations();
    let operation = operations.get(&(session, direction))?;
    // SAFETY: the caller vouches for it, or it is null.
    let room = unsafe { output_length.as_mut() };
    // SAFETY: the caller vouches for the input.
    let input = unsafe { array(input, length) };
    let sized = input.and_then(|input| Ok((input, operation.mode.output_bytes(direction, input.len())?)));
    let ended = match (sized, room) {
        (Err(answer), _) => Err(answer),
        (_, None) => Err(CKR_ARGUMENTS_BAD),
        (Ok((input, needed)), Some(room)) => {
            let given = std::mem::replace(room, number(needed));
            if output.is_null() {
                return Some(CKR_OK);
            }
            if given < *room {
                return Some(CKR_BUFFER_TOO_SMALL);
            }
            operation.run(direction, input)
        }
    };
    operations.remove(&(session, direction));
    // SAFETY: the caller has room for so many bytes, as was checked.
    Some(ended.map(|made| unsafe { output.copy_from(made.as_ptr(), made.len()) }).err().unwrap_or(CKR_OK))
}

pub(crate) unsafe extern "C" fn C_SignInit(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    meet!(C_SignInit);
    if sm4_keys::find(key).is_some() {
        return CKR_KEY_TYPE_INCONSISTENT;
    }
    real!(C_SignInit(session, mechanism, key))
}

pub(crate) unsafe extern "C" fn C_Sign(
    session: CK_SESSION_HANDLE,
    input: *mut CK_BYTE,
    length: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_length: *mut CK_ULONG,
) -> CK_RV {
    if let Some(answer) = faults::meet("C_Sign") {
        end_with!(answer, C_Sign, session, input, length);
    }
    real!(C_Sign(session, input, length, signature, signature_length))
}

/// # Safety
/// The mechanism can be read, or is null.
unsafe fn kind(mechanism: *const CK_MECHANISM) -> Option<CK_MECHANISM_TYPE> {
    // SAFETY: the caller vouches for it.
    unsafe { mechanism.as_ref() }.map(|mechanism| mechanism.mechanism)
}
