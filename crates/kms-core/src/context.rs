//! The encryption context: authenticated, not secret.

use std::collections::BTreeMap;

use crate::error::{Error, Field};

/// The longest canonical form, in bytes.
// DEW: encryption_context, up to 8192 characters.
pub const MAX_CONTEXT_BYTES: usize = 8192;

/// The longest authenticated data, in bytes.
// DEW: additional_authenticated_data, up to 128 characters.
pub const MAX_AUTHENTICATED_DATA_BYTES: usize = 128;

/// First byte of the canonical form: which kind of context follows, so that no two kinds can collide.
const KIND_NONE: u8 = 0x00;
const KIND_PAIRS: u8 = 0x01;
const KIND_DATA: u8 = 0x02;
/// How many bytes stand before the data in the canonical form of that kind: the kind and the length.
const DATA_OFFSET: usize = 5;

/// What a ciphertext is bound to, with its canonical form: pairs of text, or bytes, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionContext {
    pairs: BTreeMap<String, String>,
    canonical: Vec<u8>,
}

impl EncryptionContext {
    /// Takes the pairs; no pairs are the same as no context.
    pub fn new(pairs: BTreeMap<String, String>) -> Result<Self, Error> {
        let length = pairs.iter().fold(5, |sum, (key, value)| sum + 8 + key.len() + value.len());
        if length > MAX_CONTEXT_BYTES {
            return Err(Error::invalid(
                Field::EncryptionContext,
                "must be at most 8192 bytes long in its canonical form",
            ));
        }
        let mut canonical = Vec::with_capacity(length);
        if pairs.is_empty() {
            canonical.push(KIND_NONE);
        } else {
            canonical.push(KIND_PAIRS);
            push_length(&mut canonical, pairs.len());
            // A BTreeMap gives its keys in byte order: the order of the canonical form.
            for text in pairs.iter().flat_map(|(key, value)| [key, value]) {
                push_length(&mut canonical, text.len());
                canonical.extend_from_slice(text.as_bytes());
            }
        }
        Ok(Self { pairs, canonical })
    }

    /// Takes DEW's `additional_authenticated_data`; no bytes are the same as no context.
    pub fn of_data(data: &[u8]) -> Result<Self, Error> {
        if data.len() > MAX_AUTHENTICATED_DATA_BYTES {
            return Err(Error::invalid(Field::AuthenticatedData, "must be at most 128 bytes long"));
        }
        let mut canonical = Vec::with_capacity(DATA_OFFSET + data.len());
        if data.is_empty() {
            canonical.push(KIND_NONE);
        } else {
            canonical.push(KIND_DATA);
            push_length(&mut canonical, data.len());
            canonical.extend_from_slice(data);
        }
        Ok(Self { pairs: BTreeMap::new(), canonical })
    }

    /// Takes the one of both that is given.
    pub fn of_either(pairs: BTreeMap<String, String>, data: &[u8]) -> Result<Self, Error> {
        match (pairs.is_empty(), data.is_empty()) {
            (_, true) => Self::new(pairs),
            (true, false) => Self::of_data(data),
            (false, false) => Err(Error::invalid(
                Field::AuthenticatedData,
                "must be empty where an encryption_context is given",
            )),
        }
    }

    /// The authenticated data, if it is of that kind.
    pub fn authenticated_data(&self) -> Option<&[u8]> {
        if self.canonical.first() == Some(&KIND_DATA) { self.canonical.get(DATA_OFFSET..) } else { None }
    }

    /// The pairs, in byte order of their keys.
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.pairs
    }

    /// What a ciphertext authenticates: kind, count, then each text with its length before it.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    // All lengths are below MAX_CONTEXT_BYTES, so nothing is cut off.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pairs: &[(&str, &str)]) -> Result<EncryptionContext, Error> {
        EncryptionContext::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn canonical(pairs: &[(&str, &str)]) -> Vec<u8> {
        context(pairs).expect("short enough").canonical().to_vec()
    }

    #[test]
    fn canonical_form_is_sorted_and_length_prefixed() {
        assert_eq!(canonical(&[]), [0]);
        assert_eq!(
            canonical(&[("b", "2"), ("a", "")]),
            b"\x01\0\0\0\x02\0\0\0\x01a\0\0\0\0\0\0\0\x01b\0\0\0\x012"
        );
    }

    #[test]
    fn different_pairs_never_share_a_form() {
        let forms = [
            canonical(&[]),
            canonical(&[("", "")]),
            canonical(&[("a", "b")]),
            canonical(&[("ab", "")]),
            canonical(&[("", "ab")]),
            canonical(&[("a", "b"), ("c", "d")]),
            canonical(&[("a", "bcd")]),
        ];
        for (index, form) in forms.iter().enumerate() {
            assert!(!forms[index + 1..].contains(form), "form {index} stands twice");
        }
    }

    #[test]
    fn data_is_of_a_kind_of_its_own_and_has_128_bytes_at_most() {
        let data = EncryptionContext::of_data(b"ab").expect("short enough");
        assert_eq!(data.canonical(), b"\x02\0\0\0\x02ab");
        assert_eq!((data.authenticated_data(), data.pairs().len()), (Some(&b"ab"[..]), 0));
        let none = EncryptionContext::of_data(b"").expect("nothing");
        assert_eq!((none.canonical(), none.authenticated_data()), (&[0][..], None));
        // Bytes that look like the canonical form of pairs are none.
        let pairs = canonical(&[("a", "b")]);
        assert_ne!(EncryptionContext::of_data(&pairs).expect("short enough").canonical(), pairs);
        EncryptionContext::of_data(&[1; 128]).expect("as long as it may be");
        let pair = || BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        for refused in [EncryptionContext::of_data(&[1; 129]), EncryptionContext::of_either(pair(), b"x")] {
            let Error::InvalidField { field, .. } = refused.expect_err("too much") else { panic!("another") };
            assert_eq!(field.name(), "additional_authenticated_data");
        }
        let either = |pairs, data| EncryptionContext::of_either(pairs, data).expect("one of both");
        assert_eq!(either(pair(), b""), EncryptionContext::new(pair()).expect("pairs"));
        assert_eq!(either(BTreeMap::new(), b"ab"), data);
    }

    #[test]
    fn length_limit_is_exact() {
        let fits = "x".repeat(MAX_CONTEXT_BYTES - 5 - 8 - 1);
        assert_eq!(canonical(&[("k", &fits)]).len(), MAX_CONTEXT_BYTES);
        let error = context(&[("k", &format!("{fits}x"))]).expect_err("one byte too long");
        assert_eq!(error.code(), "INVALID_FIELD");
    }
}
