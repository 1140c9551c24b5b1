//! The keys of the hierarchy as objects of the token: what each may do, and how they are made.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
};
use kms_core::ports::HsmError;

use crate::{
    failure::Failure,
    session::{TokenSession, WrapMechanism},
};

/// The size of every key: AES-256, and HMAC-SHA256 at its full strength.
const KEY_BYTES: u64 = 32;

/// What a root key has to be: it wraps and unwraps, it does nothing else, and it never leaves.
pub(crate) fn root_attributes() -> Vec<Attribute> {
    let mut attributes = secret_key(KeyType::AES);
    attributes.extend([Attribute::Token(true), Attribute::Extractable(false)]);
    attributes.extend(uses(&[Attribute::Wrap(true), Attribute::Unwrap(true)]));
    attributes
}

/// What the authentication key has to be.
pub(crate) fn authentication_attributes() -> Vec<Attribute> {
    let mut attributes = secret_key(KeyType::GENERIC_SECRET);
    attributes.extend([Attribute::Token(true), Attribute::Extractable(false)]);
    attributes.extend(uses(&[Attribute::Sign(true)]));
    attributes
}

/// A backing key in use: a session object that computes MACs and can neither be read nor wrapped.
fn loaded_attributes() -> Vec<Attribute> {
    let mut attributes = secret_key(KeyType::GENERIC_SECRET);
    attributes.extend([Attribute::Token(false), Attribute::Extractable(false)]);
    attributes.extend(uses(&[Attribute::Sign(true)]));
    attributes
}

/// A backing key while it is made: it can be wrapped, and lives no longer than that takes.
fn newborn_attributes() -> Vec<Attribute> {
    let mut attributes = secret_key(KeyType::GENERIC_SECRET);
    attributes.extend([Attribute::ValueLen(KEY_BYTES.into())]);
    attributes.extend([Attribute::Token(false), Attribute::Extractable(true)]);
    attributes.extend(uses(&[Attribute::Sign(true)]));
    attributes
}

fn secret_key(key_type: KeyType) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(key_type),
        Attribute::Private(true),
        Attribute::Sensitive(true),
    ]
}

/// All uses of a key, of which only `allowed` are. What a template leaves out is up to the module.
fn uses(allowed: &[Attribute]) -> Vec<Attribute> {
    let forbidden = [
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ];
    let is_forbidden = |attribute: &Attribute| {
        allowed.iter().all(|allowed| allowed.attribute_type() != attribute.attribute_type())
    };
    let mut uses: Vec<_> = forbidden.into_iter().filter(is_forbidden).collect();
    uses.extend_from_slice(allowed);
    uses
}

/// Makes the root key of `generation` as a token object. Its CKA_ID is the generation, big-endian.
pub(crate) fn make_root(
    session: &TokenSession,
    label: &str,
    generation: u32,
) -> Result<ObjectHandle, Failure> {
    let mut template = root_attributes();
    template.extend([
        Attribute::ValueLen(KEY_BYTES.into()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(generation.to_be_bytes().to_vec()),
    ]);
    session.generate_key(&Mechanism::AesKeyGen, &template)
}

/// Makes the authentication key as a token object.
pub(crate) fn make_authentication(session: &TokenSession, label: &str) -> Result<ObjectHandle, Failure> {
    let mut template = authentication_attributes();
    template.extend([Attribute::ValueLen(KEY_BYTES.into()), Attribute::Label(label.as_bytes().to_vec())]);
    session.generate_key(&Mechanism::GenericSecretKeyGen, &template)
}

/// Loads a wrapped backing key as a session object of `session`.
pub(crate) fn load(
    session: &TokenSession,
    mechanism: WrapMechanism,
    root: ObjectHandle,
    blob: &[u8],
) -> Result<ObjectHandle, Failure> {
    session.unwrap_key(mechanism, root, blob, &loaded_attributes())
}

/// Makes a backing key, wraps it under `root`, and proves that the wrapped form loads and computes
/// what the original computes. Neither object outlives this call.
pub(crate) fn make_wrapped(
    session: &TokenSession,
    mechanism: WrapMechanism,
    root: ObjectHandle,
) -> Result<Vec<u8>, HsmError> {
    const PROBE: &[u8] = b"dewpoint: proof of a wrapped key";
    let handle = session.generate_key(&Mechanism::GenericSecretKeyGen, &newborn_attributes())?;
    let newborn = Brief { session, handle };
    let blob = session.wrap_key(mechanism, root, newborn.handle)?;
    let handle = load(session, mechanism, root, &blob)?;
    let reloaded = Brief { session, handle };
    if session.sign(newborn.handle, PROBE)? == session.sign(reloaded.handle, PROBE)? {
        Ok(blob)
    } else {
        Err(HsmError::Unavailable {
            function: "C_UnwrapKey",
            detail: "a wrapped key loads as another key".to_owned(),
        })
    }
}

/// An object that must not outlive a call: destroyed on every path.
struct Brief<'a> {
    session: &'a TokenSession,
    handle: ObjectHandle,
}

impl Drop for Brief<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.session.destroy(self.handle) {
            // It ends with its session; until then an extractable key lies in the token.
            tracing::warn!(function = failure.function(), detail = failure.detail(), "a brief key stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_of_a_key_is_stated() {
        for attributes in [root_attributes(), authentication_attributes(), loaded_attributes()] {
            let stated = |wanted: Attribute| {
                let same = |one: &&Attribute| one.attribute_type() == wanted.attribute_type();
                attributes.iter().filter(same).count() == 1
            };
            for wanted in uses(&[]) {
                assert!(stated(wanted.clone()), "{wanted:?}");
            }
            assert!(attributes.contains(&Attribute::Extractable(false)));
            assert!(attributes.contains(&Attribute::Sensitive(true)));
        }
    }
}
