//! Templates: what a caller asks of an object, copied so that it can be changed.

use std::slice;

use cryptoki_sys::{CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_RV, CK_ULONG, CKR_ARGUMENTS_BAD};
use zeroize::Zeroizing;

/// Attributes with their values.
pub(crate) struct Template(Vec<(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)>);

impl Template {
    /// # Safety
    /// The arguments are a template as PKCS#11 says.
    pub(crate) unsafe fn read(template: *const CK_ATTRIBUTE, count: CK_ULONG) -> Result<Self, CK_RV> {
        // SAFETY: the caller vouches for the array.
        let attributes = unsafe { array(template, count) }?;
        let attribute = |attribute: &CK_ATTRIBUTE| {
            // SAFETY: the caller vouches for each value.
            let value = unsafe { array(attribute.pValue.cast::<u8>().cast_const(), attribute.ulValueLen) }?;
            Ok((attribute.type_, Zeroizing::new(value.to_vec())))
        };
        attributes.iter().map(attribute).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn value(&self, wanted: CK_ATTRIBUTE_TYPE) -> Option<&[u8]> {
        self.0.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value.as_slice())
    }

    pub(crate) fn number(&self, wanted: CK_ATTRIBUTE_TYPE) -> Option<CK_ULONG> {
        Some(CK_ULONG::from_ne_bytes(self.value(wanted)?.try_into().ok()?))
    }

    pub(crate) fn flag(&self, wanted: CK_ATTRIBUTE_TYPE) -> Option<bool> {
        self.value(wanted).map(|value| value != [0])
    }

    /// Removes the attribute if it is there.
    pub(crate) fn remove(&mut self, unwanted: CK_ATTRIBUTE_TYPE) {
        self.0.retain(|(kind, _)| *kind != unwanted);
    }

    /// Gives the attribute this value, whatever it had.
    pub(crate) fn set(&mut self, kind: CK_ATTRIBUTE_TYPE, value: &[u8]) {
        self.remove(kind);
        self.0.push((kind, Zeroizing::new(value.to_vec())));
    }

    /// As PKCS#11 wants it: it points into this template.
    pub(crate) fn attributes(&mut self) -> Vec<CK_ATTRIBUTE> {
        let attribute = |(kind, value): &mut (CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)| CK_ATTRIBUTE {
            type_: *kind,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: number(value.len()),
        };
        self.0.iter_mut().map(attribute).collect()
    }
}

/// The elements that a caller passes as a pointer and a count; null is none.
///
/// # Safety
/// Unless the pointer is null, so many elements can be read there as long as the result is used.
pub(crate) unsafe fn array<'a, T>(pointer: *const T, count: CK_ULONG) -> Result<&'a [T], CK_RV> {
    match (pointer.is_null(), usize::try_from(count)) {
        (_, Ok(0)) => Ok(&[]),
        // SAFETY: the caller vouches for it.
        (false, Ok(count)) => Ok(unsafe { slice::from_raw_parts(pointer, count) }),
        _ => Err(CKR_ARGUMENTS_BAD),
    }
}

/// A length as PKCS#11 has it.
pub(crate) fn number(length: usize) -> CK_ULONG {
    length.try_into().expect("lengths in memory fit")
}
