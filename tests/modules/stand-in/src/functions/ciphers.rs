//! Encryption, decryption and signatures: operations of SM4 are done here, all others by the real module.

use cryptoki_sys::{
    CK_BYTE, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_ULONG,
    CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL, CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_KEY_HANDLE_INVALID,
    CKR_KEY_TYPE_INCONSISTENT, CKR_OK, CKR_OPERATION_ACTIVE,
};

use super::{MECHANISMS, meet};
use crate::{
    cipher::{Direction, Mode, Operation, operations},
    faults,
    forward::real,
    sm4_keys::{self, Sm4Key},
    template::{array, number},
};

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
