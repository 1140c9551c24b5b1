//! The encryption context: authenticated, not secret.

use std::collections::BTreeMap;

use crate::error::{Error, Field};

/// The longest canonical form, in bytes.
// DEW: encryption_context, up to 8192 characters.
pub const MAX_CONTEXT_BYTES: usize = 8192;

/// First byte of the canonical form: which kind of context follows. `0x02` is kept for DEW's
/// `additional_authenticated_data` bytes, so that the two kinds can never collide.
const KIND_NONE: u8 = 0x00;
const KIND_PAIRS: u8 = 0x01;

/// Pairs of text that a ciphertext is bound to, with their canonical form.
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
    fn length_limit_is_exact() {
        let fits = "x".repeat(MAX_CONTEXT_BYTES - 5 - 8 - 1);
        assert_eq!(canonical(&[("k", &fits)]).len(), MAX_CONTEXT_BYTES);
        let error = context(&[("k", &format!("{fits}x"))]).expect_err("one byte too long");
        assert_eq!(error.code(), "INVALID_FIELD");
    }
}
