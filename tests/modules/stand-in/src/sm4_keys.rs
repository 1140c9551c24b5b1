//! The keys of the vendor's SM4: generic secrets of the real module that this one can read, shown to the caller
//! as the keys that he asked for.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CK_UNAVAILABLE_INFORMATION, CKA_ALWAYS_SENSITIVE, CKA_DECRYPT, CKA_ENCRYPT, CKA_EXTRACTABLE,
    CKA_KEY_GEN_MECHANISM, CKA_KEY_TYPE, CKA_NEVER_EXTRACTABLE, CKA_SENSITIVE, CKA_TOKEN, CKA_VALUE,
    CKA_VALUE_LEN, CKK_GENERIC_SECRET, CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_VALUE_INVALID,
    CKR_BUFFER_TOO_SMALL, CKR_KEY_HANDLE_INVALID, CKR_KEY_SIZE_RANGE, CKR_OK, CKR_TEMPLATE_INCONSISTENT,
};
use zeroize::Zeroizing;

use crate::{
    forward::real,
    template::{Template, number},
    vendor::{CKK_SM4, CKM_SM4_KEY_GEN, SM4_BYTES},
};

/// A key as the caller sees it. What is not here is as in the real module.
#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "PKCS#11 has them")]
pub(crate) struct Sm4Key {
    /// Session objects end with the session that made them.
    owner: CK_SESSION_HANDLE,
    /// Made by this module, and not brought to it.
    local: bool,
    sensitive: bool,
    extractable: bool,
    pub(crate) encrypt: bool,
    pub(crate) decrypt: bool,
}

/// All keys, by the real module's handles.
fn keys() -> MutexGuard<'static, BTreeMap<CK_OBJECT_HANDLE, Sm4Key>> {
    static KEYS: Mutex<BTreeMap<CK_OBJECT_HANDLE, Sm4Key>> = Mutex::new(BTreeMap::new());
    KEYS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key with this handle, if it is one of SM4.
pub(crate) fn find(object: CK_OBJECT_HANDLE) -> Option<Sm4Key> {
    keys().get(&object).copied()
}

pub(crate) fn insert(object: CK_OBJECT_HANDLE, key: Sm4Key) {
    keys().insert(object, key);
}

pub(crate) fn remove(object: CK_OBJECT_HANDLE) {
    keys().remove(&object);
}

pub(crate) fn remove_of(session: CK_SESSION_HANDLE) {
    keys().retain(|_, key| key.owner != session);
}

pub(crate) fn remove_all() {
    keys().clear();
}

impl Sm4Key {
    /// What the caller asks for, and what the real module is asked for.
    pub(crate) fn ask(
        owner: CK_SESSION_HANDLE,
        local: bool,
        mut template: Template,
    ) -> Result<(Self, Template), CK_RV> {
        if template.number(CKA_KEY_TYPE).is_some_and(|kind| kind != CKK_SM4)
            || template.flag(CKA_TOKEN) == Some(true)
        {
            return Err(CKR_TEMPLATE_INCONSISTENT);
        }
        let length = template.number(CKA_VALUE_LEN).unwrap_or(number(SM4_BYTES));
        if length != number(SM4_BYTES)
            || template.value(CKA_VALUE).is_some_and(|value| value.len() != SM4_BYTES)
        {
            return Err(CKR_ATTRIBUTE_VALUE_INVALID);
        }
        let flag = |kind, default| template.flag(kind).unwrap_or(default);
        let key = Self {
            owner,
            local,
            sensitive: flag(CKA_SENSITIVE, true),
            extractable: flag(CKA_EXTRACTABLE, false),
            encrypt: flag(CKA_ENCRYPT, false),
            decrypt: flag(CKA_DECRYPT, false),
        };
        for kind in [CKA_ENCRYPT, CKA_DECRYPT, CKA_VALUE_LEN] {
            template.remove(kind);
        }
        template.set(CKA_KEY_TYPE, &CKK_GENERIC_SECRET.to_ne_bytes());
        template.set(CKA_SENSITIVE, &[0]);
        template.set(CKA_EXTRACTABLE, &[1]);
        if local {
            template.set(CKA_VALUE_LEN, &number(SM4_BYTES).to_ne_bytes());
        }
        Ok((key, template))
    }

    /// Whether it may leave the module wrapped.
    pub(crate) fn extractable(self) -> bool {
        self.extractable
    }

    /// The value of an attribute that is not as in the real module.
    fn shown(self, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
        let flag = |flag: bool| vec![u8::from(flag)];
        let made_by = if self.local { CKM_SM4_KEY_GEN } else { CK_UNAVAILABLE_INFORMATION };
        Some(match kind {
            CKA_KEY_TYPE => CKK_SM4.to_ne_bytes().to_vec(),
            CKA_VALUE_LEN => number(SM4_BYTES).to_ne_bytes().to_vec(),
            CKA_KEY_GEN_MECHANISM => made_by.to_ne_bytes().to_vec(),
            CKA_SENSITIVE => flag(self.sensitive),
            CKA_EXTRACTABLE => flag(self.extractable),
            CKA_ALWAYS_SENSITIVE => flag(self.local && self.sensitive),
            CKA_NEVER_EXTRACTABLE => flag(self.local && !self.extractable),
            CKA_ENCRYPT => flag(self.encrypt),
            CKA_DECRYPT => flag(self.decrypt),
            _ => return None,
        })
    }

    /// Whether the attribute is one that the caller cannot change by asking the real module.
    pub(crate) fn is_shown(self, kind: CK_ATTRIBUTE_TYPE) -> bool {
        self.shown(kind).is_some()
    }

    /// Answers for one attribute, as `C_GetAttributeValue` does.
    pub(crate) fn answer(
        self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        attribute: &mut CK_ATTRIBUTE,
    ) -> CK_RV {
        if attribute.type_ == CKA_VALUE && (self.sensitive || !self.extractable) {
            attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
            return CKR_ATTRIBUTE_SENSITIVE;
        }
        match self.shown(attribute.type_) {
            Some(value) => fill(attribute, &value),
            None => real!(C_GetAttributeValue(session, object, attribute, 1)),
        }
    }
}

// PKCS#11 §5.7.5: without a place only the length is told; a place that is too small is left alone.
fn fill(attribute: &mut CK_ATTRIBUTE, value: &[u8]) -> CK_RV {
    let length = number(value.len());
    if !attribute.pValue.is_null() {
        if attribute.ulValueLen < length {
            attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: the caller says that so many bytes can be written there.
        unsafe { attribute.pValue.cast::<u8>().copy_from_nonoverlapping(value.as_ptr(), value.len()) };
    }
    attribute.ulValueLen = length;
    CKR_OK
}

/// The value of a key, read from the real module.
pub(crate) fn value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
) -> Result<Zeroizing<[u8; SM4_BYTES]>, CK_RV> {
    // One byte more than it may have, so that a longer one is seen.
    let mut bytes = Zeroizing::new([0; SM4_BYTES + 1]);
    let mut attribute =
        CK_ATTRIBUTE { type_: CKA_VALUE, pValue: bytes.as_mut_ptr().cast(), ulValueLen: number(bytes.len()) };
    match real!(C_GetAttributeValue(session, object, &raw mut attribute, 1)) {
        CKR_OK => {}
        CKR_BUFFER_TOO_SMALL => return Err(CKR_KEY_SIZE_RANGE),
        cryptoki_sys::CKR_OBJECT_HANDLE_INVALID => return Err(CKR_KEY_HANDLE_INVALID),
        other => return Err(other),
    }
    let length: CK_ULONG = attribute.ulValueLen;
    let whole = bytes.first_chunk().filter(|_| length == number(SM4_BYTES));
    whole.map(|bytes| Zeroizing::new(*bytes)).ok_or(CKR_KEY_SIZE_RANGE)
}
