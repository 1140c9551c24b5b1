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
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_ECDH1_DERIVE_PARAMS, CK_FUNCTION_LIST, CK_GCM_PARAMS, CK_MECHANISM,
    CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_RSA_PKCS_OAEP_PARAMS, CK_RSA_PKCS_PSS_PARAMS,
    CK_RV, CK_ULONG, CKD_NULL, CKG_MGF1_SHA1, CKG_MGF1_SHA256, CKG_MGF1_SHA384, CKG_MGF1_SHA512,
    CKM_ECDH1_DERIVE, CKM_RSA_PKCS_OAEP, CKM_RSA_PKCS_PSS, CKM_SHA_1, CKM_SHA256, CKM_SHA384, CKM_SHA512,
    CKR_OK, CKZ_DATA_SPECIFIED,
};
use kms_core::ports::DigestAlgorithm;
use zeroize::Zeroizing;

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

/// How a signature or an HMAC is made.
#[derive(Clone, Copy)]
pub(crate) enum Signing {
    /// By a mechanism without parameters.
    Plain(MechanismId),
    /// By RSA-PSS over a digest; MGF1 with the same hash, and a salt as long as the digest.
    Pss(DigestAlgorithm),
}

/// What a cipher does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
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

    /// What the token in `slot` can do with a mechanism: the flags of CK_MECHANISM_INFO, and the longest key.
    pub(crate) fn mechanism_information(
        &self,
        slot: Slot,
        mechanism: MechanismId,
    ) -> Result<(CK_ULONG, CK_ULONG)> {
        let ask = present(self.functions.C_GetMechanismInfo)?;
        let mut information = CK_MECHANISM_INFO { ulMinKeySize: 0, ulMaxKeySize: 0, flags: 0 };
        // SAFETY: `information` is a structure of the type that the call fills.
        let answer = unsafe { ask(slot.id(), mechanism, &raw mut information) };
        checked(answer, Function::GetMechanismInfo)?;
        Ok((information.flags, information.ulMaxKeySize))
    }

    /// Signs `input`; gives the length of the signature in `out`.
    pub(crate) fn sign(
        &self,
        session: &Session,
        signing: Signing,
        key: Handle,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let (start, sign) = (present(self.functions.C_SignInit)?, present(self.functions.C_Sign)?);
        let answer = with_signing(signing, |mechanism| {
            // SAFETY: the session is open as long as it is borrowed, and no other thread uses it: it is not
            // Sync. The parameters live until this closure ends.
            unsafe { start(session.handle(), mechanism, key.0) }
        });
        checked(answer, Function::SignInit)?;
        // SAFETY: the module reads `input` and writes at most the length that it is given.
        transfer(input, out, Function::Sign, |input, input_length, out, out_length| unsafe {
            sign(session.handle(), input, input_length, out, out_length)
        })
    }

    /// Encrypts or decrypts `input` in one part; gives the length of what is in `out`.
    pub(crate) fn run_cipher(
        &self,
        session: &Session,
        direction: Direction,
        cipher: Cipher<'_>,
        key: Handle,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let list = &self.functions;
        let (start, run, [starting, running]) = match direction {
            Direction::Encrypt => {
                (list.C_EncryptInit, list.C_Encrypt, [Function::EncryptInit, Function::Encrypt])
            }
            Direction::Decrypt => {
                (list.C_DecryptInit, list.C_Decrypt, [Function::DecryptInit, Function::Decrypt])
            }
        };
        let (start, run) = (present(start)?, present(run)?);
        with_mechanism(cipher, |mechanism| {
            // SAFETY: as in `sign`; the parameters live until this closure ends.
            let answer = unsafe { start(session.handle(), mechanism, key.0) };
            checked(answer, starting)?;
            // SAFETY: as in `sign`.
            transfer(input, out, running, |input, input_length, out, out_length| unsafe {
                run(session.handle(), input, input_length, out, out_length)
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

    /// Derives a secret from a private key and a peer's uncompressed point, as the object that `template`
    /// describes.
    pub(crate) fn derive_ecdh(
        &self,
        session: &Session,
        key: Handle,
        peer: &[u8],
        template: &[Attribute],
    ) -> Result<Handle> {
        let derive = present(self.functions.C_DeriveKey)?;
        let mut template: Vec<CK_ATTRIBUTE> = template.iter().map(Into::into).collect();
        let mut object = 0;
        // PKCS#11 §6.3.17 (CK_ECDH1_DERIVE_PARAMS).
        let mut parameters = CK_ECDH1_DERIVE_PARAMS {
            kdf: CKD_NULL,
            ulSharedDataLen: 0,
            pSharedData: ptr::null_mut(),
            ulPublicDataLen: ulong(peer.len()),
            pPublicData: peer.as_ptr().cast_mut(),
        };
        let mut mechanism = with_parameters(CKM_ECDH1_DERIVE, &mut parameters);
        // SAFETY: as in `unwrap`; the parameters and the point outlive the call, and the module only reads them.
        let answer = unsafe {
            derive(
                session.handle(),
                &raw mut mechanism,
                key.0,
                template.as_mut_ptr(),
                ulong(template.len()),
                &raw mut object,
            )
        };
        checked(answer, Function::DeriveKey)?;
        Ok(Handle(object))
    }

    /// Makes an object of `template` and of secret values, which are read where they are.
    pub(crate) fn create_secret(
        &self,
        session: &Session,
        template: &[Attribute],
        secrets: &[(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)],
    ) -> Result<Handle> {
        let create = present(self.functions.C_CreateObject)?;
        let mut template: Vec<CK_ATTRIBUTE> = template.iter().map(Into::into).collect();
        template.extend(secrets.iter().map(|(kind, value)| CK_ATTRIBUTE {
            type_: *kind,
            pValue: value.as_ptr().cast_mut().cast(),
            ulValueLen: ulong(value.len()),
        }));
        let mut object = 0;
        // SAFETY: the attributes point into what outlives the call, and the module only reads them.
        let answer = unsafe {
            create(session.handle(), template.as_mut_ptr(), ulong(template.len()), &raw mut object)
        };
        checked(answer, Function::CreateObject)?;
        Ok(Handle(object))
    }

    /// Reads one attribute; gives its length in `out`.
    pub(crate) fn read_attribute(
        &self,
        session: &Session,
        object: Handle,
        kind: CK_ATTRIBUTE_TYPE,
        out: &mut [u8],
    ) -> Result<usize> {
        let read = present(self.functions.C_GetAttributeValue)?;
        let mut attribute =
            CK_ATTRIBUTE { type_: kind, pValue: out.as_mut_ptr().cast(), ulValueLen: ulong(out.len()) };
        // SAFETY: the module writes at most the length that it is given.
        let answer = unsafe { read(session.handle(), object.0, &raw mut attribute, 1) };
        checked(answer, Function::GetAttributeValue)?;
        Some(length(attribute.ulValueLen)).filter(|length| *length <= out.len()).ok_or(Error::InvalidValue)
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

/// A mechanism with parameters, which must live as long as it is used.
fn with_parameters<T>(mechanism: MechanismId, parameters: &mut T) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism,
        pParameter: ptr::from_mut(parameters).cast::<c_void>(),
        ulParameterLen: ulong(size_of::<T>()),
    }
}

/// Gives `call` a mechanism whose parameters live as long as the call.
fn with_signing(signing: Signing, call: impl FnOnce(*mut CK_MECHANISM) -> CK_RV) -> CK_RV {
    let digest = match signing {
        Signing::Plain(mechanism) => return call(&mut plain(mechanism)),
        Signing::Pss(digest) => digest,
    };
    let (hash, mask) = match digest {
        DigestAlgorithm::Sha256 => (CKM_SHA256, CKG_MGF1_SHA256),
        DigestAlgorithm::Sha384 => (CKM_SHA384, CKG_MGF1_SHA384),
        DigestAlgorithm::Sha512 => (CKM_SHA512, CKG_MGF1_SHA512),
    };
    // PKCS#11 §6.1.9 (CK_RSA_PKCS_PSS_PARAMS).
    let mut parameters = CK_RSA_PKCS_PSS_PARAMS { hashAlg: hash, mgf: mask, sLen: ulong(digest.bytes()) };
    call(&mut with_parameters(CKM_RSA_PKCS_PSS, &mut parameters))
}

/// Gives `call` a mechanism whose parameters live as long as the call.
fn with_mechanism<T>(cipher: Cipher<'_>, call: impl FnOnce(*mut CK_MECHANISM) -> Result<T>) -> Result<T> {
    let Some(Gcm { iv, associated_data }) = cipher.gcm else {
        return call(&mut plain(cipher.mechanism));
    };
    let mut parameters = CK_GCM_PARAMS {
        pIv: iv.as_ptr().cast_mut(),
        ulIvLen: ulong(iv.len()),
        ulIvBits: ulong(8 * iv.len()),
        pAAD: associated_data.as_ptr().cast_mut(),
        ulAADLen: ulong(associated_data.len()),
        ulTagBits: 128,
    };
    call(&mut with_parameters(cipher.mechanism, &mut parameters))
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
        Wrapping::Oaep => with_parameters(CKM_RSA_PKCS_OAEP, &mut parameters),
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
