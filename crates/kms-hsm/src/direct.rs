//! Calls that are made straight to the module: once where the library would call twice, and with
//! mechanisms that the library does not know.
//!
//! The library asks the module for the length of every output first. On the hot path (`C_SignInit`,
//! `C_Sign`) that is one call in three, and one round trip in three to an HSM on the network; the
//! lengths are known here. It also refuses `CKM_AES_KEY_WRAP_KWP`, which some HSMs have in place of
//! `CKM_AES_KEY_WRAP`.
#![allow(unsafe_code, reason = "the functions of a PKCS#11 module are C functions behind pointers")]

use std::{ffi::c_void, path::Path, ptr};

use cryptoki::{
    context::Function,
    error::{Error, Result, Rv},
    object::{Attribute, ObjectHandle},
    session::Session,
    slot::Slot,
};
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_FUNCTION_LIST, CK_GCM_PARAMS, CK_MECHANISM, CK_MECHANISM_INFO, CK_MECHANISM_TYPE,
    CK_OBJECT_HANDLE, CK_RSA_PKCS_OAEP_PARAMS, CK_RV, CK_ULONG, CKG_MGF1_SHA1, CKM_RSA_PKCS_OAEP, CKM_SHA_1,
    CKR_OK, CKZ_DATA_SPECIFIED,
};

/// The number of a mechanism, as `CKM_SHA256_HMAC`.
pub(crate) type MechanismId = CK_MECHANISM_TYPE;

/// An object of the token, by the number that the module gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle(CK_OBJECT_HANDLE);

impl From<ObjectHandle> for Handle {
    fn from(object: ObjectHandle) -> Self {
        Self(object.handle())
    }
}

/// The parameters of GCM. PKCS#11 §6.13.3 (CK_GCM_PARAMS).
#[derive(Clone, Copy)]
pub(crate) struct Gcm<'a> {
    pub(crate) iv: &'a [u8; 12],
    pub(crate) associated_data: &'a [u8],
}

/// A cipher's mechanism with its parameters, if it has any.
#[derive(Clone, Copy)]
pub(crate) struct Cipher<'a> {
    pub(crate) mechanism: MechanismId,
    pub(crate) gcm: Option<Gcm<'a>>,
}

/// How a key is wrapped and unwrapped.
#[derive(Clone, Copy)]
pub(crate) enum Wrapping {
    /// By a mechanism without parameters.
    Plain(MechanismId),
    /// By RSA-OAEP with SHA-1 and no label: the only form that every module has.
    Oaep,
}

/// The module's functions. The library that they lie in stays loaded as long as this lives.
pub(crate) struct Direct {
    functions: CK_FUNCTION_LIST,
    _library: cryptoki_sys::Pkcs11,
}

impl Direct {
    /// Loads the module and takes its functions. It stays loaded as long as this lives, also while it is
    /// finalised and initialised again: unloading is one thing more that a module can do wrong.
    pub(crate) fn load(module: &Path) -> Result<Self> {
        // SAFETY: a library's initialisers can do anything; the operator names the library, and trusts it with
        // his keys. Whether it is a PKCS#11 module is found out by asking for its function list.
        let library = unsafe { cryptoki_sys::Pkcs11::new(module) }.map_err(Error::LibraryLoading)?;
        let list =
            library.C_GetFunctionList.as_ref().map_err(|_| Error::MissingSymbol("C_GetFunctionList"))?;
        let mut functions = ptr::null_mut();
        // SAFETY: PKCS#11 §5.4: takes the address of a pointer, which it sets to the module's own list.
        Rv::from(unsafe { list(&raw mut functions) }).into_result(Function::GetFunctionList)?;
        if functions.is_null() {
            return Err(Error::NullFunctionPointer);
        }
        // SAFETY: not null, and the list of every version begins with the functions of version 2.40. It
        // lives as long as the library, which is kept.
        let functions = unsafe { *functions };
        Ok(Self { functions, _library: library })
    }

    /// The numbers of all mechanisms of the token in `slot`.
    pub(crate) fn mechanisms(&self, slot: Slot) -> Result<Vec<MechanismId>> {
        let list = present(self.functions.C_GetMechanismList)?;
        let mut count: CK_ULONG = 0;
        // SAFETY: PKCS#11 §5.5: a null list asks for the number of mechanisms.
        let answer = unsafe { list(slot.id(), ptr::null_mut(), &raw mut count) };
        checked(answer, Function::GetMechanismList)?;
        let mut mechanisms = vec![0; length(count)];
        // SAFETY: the buffer has room for `count` numbers.
        let answer = unsafe { list(slot.id(), mechanisms.as_mut_ptr(), &raw mut count) };
        checked(answer, Function::GetMechanismList)?;
        mechanisms.truncate(length(count));
        Ok(mechanisms)
    }

    /// What the token in `slot` can do with a mechanism: the flags of CK_MECHANISM_INFO.
    pub(crate) fn mechanism_flags(&self, slot: Slot, mechanism: MechanismId) -> Result<CK_ULONG> {
        let ask = present(self.functions.C_GetMechanismInfo)?;
        let mut information = CK_MECHANISM_INFO { ulMinKeySize: 0, ulMaxKeySize: 0, flags: 0 };
        // SAFETY: `information` is a structure of the type that the call fills.
        let answer = unsafe { ask(slot.id(), mechanism, &raw mut information) };
        checked(answer, Function::GetMechanismInfo)?;
        Ok(information.flags)
    }

    /// Signs `input`; gives the length of the signature in `out`.
    pub(crate) fn sign(
        &self,
        session: &Session,
        mechanism: MechanismId,
        key: Handle,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let (start, sign) = (present(self.functions.C_SignInit)?, present(self.functions.C_Sign)?);
        let mut mechanism = plain(mechanism);
        // SAFETY: the session is open as long as it is borrowed, and no other thread uses it: it is not
        // Sync. The mechanism has no parameters.
        let answer = unsafe { start(session.handle(), &raw mut mechanism, key.0) };
        checked(answer, Function::SignInit)?;
        // SAFETY: the module reads `input` and writes at most the length that it is given.
        transfer(input, out, Function::Sign, |input, input_length, out, out_length| unsafe {
            sign(session.handle(), input, input_length, out, out_length)
        })
    }

    /// Encrypts `input` in one part; gives the length of what is in `out`.
    pub(crate) fn encrypt(
        &self,
        session: &Session,
        cipher: Cipher<'_>,
        key: Handle,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let start = present(self.functions.C_EncryptInit)?;
        let encrypt = present(self.functions.C_Encrypt)?;
        with_mechanism(cipher, |mechanism| {
            // SAFETY: as in `sign`; the parameters live until this closure ends.
            let answer = unsafe { start(session.handle(), mechanism, key.0) };
            checked(answer, Function::EncryptInit)?;
            // SAFETY: as in `sign`.
            transfer(input, out, Function::Encrypt, |input, input_length, out, out_length| unsafe {
                encrypt(session.handle(), input, input_length, out, out_length)
            })
        })
    }

    /// Decrypts `input` in one part; gives the length of what is in `out`.
    pub(crate) fn decrypt(
        &self,
        session: &Session,
        cipher: Cipher<'_>,
        key: Handle,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let start = present(self.functions.C_DecryptInit)?;
        let decrypt = present(self.functions.C_Decrypt)?;
        with_mechanism(cipher, |mechanism| {
            // SAFETY: as in `encrypt`.
            let answer = unsafe { start(session.handle(), mechanism, key.0) };
            checked(answer, Function::DecryptInit)?;
            // SAFETY: as in `encrypt`.
            transfer(input, out, Function::Decrypt, |input, input_length, out, out_length| unsafe {
                decrypt(session.handle(), input, input_length, out, out_length)
            })
        })
    }

    /// Wraps `key`; gives the length of the wrapped key in `out`.
    pub(crate) fn wrap(
        &self,
        session: &Session,
        wrapping: Wrapping,
        wrapping_key: Handle,
        key: Handle,
        out: &mut [u8],
    ) -> Result<usize> {
        let wrap = present(self.functions.C_WrapKey)?;
        let mut written = ulong(out.len());
        let answer = with_wrapping(wrapping, |mechanism| {
            // SAFETY: as in `sign`; the parameters live until this closure ends, and the module writes at
            // most `written` bytes to `out`.
            unsafe {
                wrap(session.handle(), mechanism, wrapping_key.0, key.0, out.as_mut_ptr(), &raw mut written)
            }
        });
        checked(answer, Function::WrapKey)?;
        Ok(length(written))
    }

    /// Unwraps a key as the object that `template` describes.
    pub(crate) fn unwrap(
        &self,
        session: &Session,
        wrapping: Wrapping,
        wrapping_key: Handle,
        wrapped: &[u8],
        template: &[Attribute],
    ) -> Result<Handle> {
        let unwrap = present(self.functions.C_UnwrapKey)?;
        let mut template: Vec<CK_ATTRIBUTE> = template.iter().map(Into::into).collect();
        let mut object = 0;
        let answer = with_wrapping(wrapping, |mechanism| {
            // SAFETY: as in `wrap`; the attributes point into `template`, which outlives the call, and the
            // module only reads them and `wrapped`.
            unsafe {
                unwrap(
                    session.handle(),
                    mechanism,
                    wrapping_key.0,
                    wrapped.as_ptr().cast_mut(),
                    ulong(wrapped.len()),
                    template.as_mut_ptr(),
                    ulong(template.len()),
                    &raw mut object,
                )
            }
        });
        checked(answer, Function::UnwrapKey)?;
        Ok(Handle(object))
    }

    /// Destroys an object.
    pub(crate) fn destroy(&self, session: &Session, object: Handle) -> Result<()> {
        let destroy = present(self.functions.C_DestroyObject)?;
        // SAFETY: takes numbers only.
        checked(unsafe { destroy(session.handle(), object.0) }, Function::DestroyObject)
    }
}

fn present<F>(function: Option<F>) -> Result<F> {
    function.ok_or(Error::NullFunctionPointer)
}

fn checked(answer: CK_RV, function: Function) -> Result<()> {
    if answer == CKR_OK { Ok(()) } else { Rv::from(answer).into_result(function) }
}

const fn plain(mechanism: MechanismId) -> CK_MECHANISM {
    CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 }
}

/// Gives `call` a mechanism whose parameters live as long as the call.
fn with_mechanism<T>(cipher: Cipher<'_>, call: impl FnOnce(*mut CK_MECHANISM) -> Result<T>) -> Result<T> {
    let mut mechanism = plain(cipher.mechanism);
    let Some(Gcm { iv, associated_data }) = cipher.gcm else { return call(&raw mut mechanism) };
    let mut parameters = CK_GCM_PARAMS {
        pIv: iv.as_ptr().cast_mut(),
        ulIvLen: ulong(iv.len()),
        ulIvBits: ulong(8 * iv.len()),
        pAAD: associated_data.as_ptr().cast_mut(),
        ulAADLen: ulong(associated_data.len()),
        ulTagBits: 128,
    };
    mechanism.pParameter = (&raw mut parameters).cast::<c_void>();
    mechanism.ulParameterLen = ulong(size_of::<CK_GCM_PARAMS>());
    call(&raw mut mechanism)
}

/// Gives `call` a mechanism whose parameters live as long as the call.
fn with_wrapping(wrapping: Wrapping, call: impl FnOnce(*mut CK_MECHANISM) -> CK_RV) -> CK_RV {
    // PKCS#11 §6.1.8 (CK_RSA_PKCS_OAEP_PARAMS). SoftHSM2 wants the source named and its data absent.
    let mut parameters = CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: CKM_SHA_1,
        mgf: CKG_MGF1_SHA1,
        source: CKZ_DATA_SPECIFIED,
        pSourceData: ptr::null_mut(),
        ulSourceDataLen: 0,
    };
    let mut mechanism = match wrapping {
        Wrapping::Plain(mechanism) => plain(mechanism),
        Wrapping::Oaep => CK_MECHANISM {
            mechanism: CKM_RSA_PKCS_OAEP,
            pParameter: (&raw mut parameters).cast::<c_void>(),
            ulParameterLen: ulong(size_of::<CK_RSA_PKCS_OAEP_PARAMS>()),
        },
    };
    call(&raw mut mechanism)
}

/// A call that reads `input` and writes `out`, whose length suffices; gives how much it wrote.
fn transfer(
    input: &[u8],
    out: &mut [u8],
    function: Function,
    call: impl FnOnce(*mut u8, CK_ULONG, *mut u8, *mut CK_ULONG) -> CK_RV,
) -> Result<usize> {
    let mut written = ulong(out.len());
    // The interface has no const: the module does not write to its input.
    let answer = call(input.as_ptr().cast_mut(), ulong(input.len()), out.as_mut_ptr(), &raw mut written);
    checked(answer, function)?;
    Ok(length(written).min(out.len()))
}

/// A length as C has it. CK_ULONG is as wide as a pointer, or wide enough for every length here.
fn ulong(length: usize) -> CK_ULONG {
    CK_ULONG::try_from(length).unwrap_or(CK_ULONG::MAX)
}

fn length(count: CK_ULONG) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
