//! The keys of the hierarchy as objects of the token: what each may do, and how they are made.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass},
};
use cryptoki_sys::{CK_ULONG, CKA_CLASS, CKA_VALUE};
use kms_core::{SecretBytes, ports::HsmError};

use crate::{
    direct::Handle,
    failure::{Failure, Trouble},
    form::Form,
    mechanisms::WrapMechanism,
    session::TokenSession,
};

/// The size of the keys that are the token's own: AES-256, and HMAC-SHA256 at its full strength.
pub(crate) const KEY_BYTES: u64 = 32;

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

pub(crate) fn secret_key(key_type: KeyType) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(key_type),
        Attribute::Private(true),
        Attribute::Sensitive(true),
    ]
}

/// All uses of a key, of which only `allowed` are. What a template leaves out is up to the module.
pub(crate) fn uses(allowed: &[Attribute]) -> Vec<Attribute> {
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
pub(crate) fn make_root(session: &TokenSession, label: &str, generation: u32) -> Result<Handle, Failure> {
    let mut template = root_attributes();
    template.extend([
        Attribute::ValueLen(KEY_BYTES.into()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(generation.to_be_bytes().to_vec()),
    ]);
    session.generate_key(&Mechanism::AesKeyGen, &template)
}

/// Makes a root key that is no token object and of no use but to try wrapping out.
pub(crate) fn make_passing_root(session: &TokenSession) -> Result<Handle, Failure> {
    let mut template = root_attributes();
    template.retain(|attribute| *attribute != Attribute::Token(true));
    template.extend([Attribute::Token(false), Attribute::ValueLen(KEY_BYTES.into())]);
    session.generate_key(&Mechanism::AesKeyGen, &template)
}

/// Proves that the device wraps, unwraps and computes with a key of `form`, all keys being of no other use.
pub(crate) fn prove_device(session: &TokenSession, form: Form, wrap: WrapMechanism) -> Result<(), Trouble> {
    let root = Brief { session, handle: make_passing_root(session)? };
    make_wrapped(session, form, wrap, root.handle).map(drop)
}

/// Proves that the device reads what may be read of an object, which is of no other use.
pub(crate) fn prove_reading(session: &TokenSession) -> Result<(), Failure> {
    let passing = Brief { session, handle: make_passing_root(session)? };
    session.read_secret(passing.handle, CKA_CLASS, &mut [0; size_of::<CK_ULONG>()]).map(drop)
}

/// Makes the authentication key as a token object.
pub(crate) fn make_authentication(session: &TokenSession, label: &str) -> Result<Handle, Failure> {
    let mut template = authentication_attributes();
    template.extend([Attribute::ValueLen(KEY_BYTES.into()), Attribute::Label(label.as_bytes().to_vec())]);
    session.generate_key(&Mechanism::GenericSecretKeyGen, &template)
}

/// A wrapped key: the number of the mechanism, then what the mechanism gave.
#[derive(Clone, Copy)]
struct Blob<'a> {
    mechanism: WrapMechanism,
    wrapped: &'a [u8],
}

impl<'a> Blob<'a> {
    /// Not every module checks the length: Kryoptic makes an empty key of nothing.
    fn parse(blob: &'a [u8], form: Form) -> Result<Self, HsmError> {
        let parsed = blob.split_first().and_then(|(number, wrapped)| {
            let mechanism = WrapMechanism::numbered(*number)?;
            form.wraps_as(wrapped.len()).then_some(Self { mechanism, wrapped })
        });
        parsed.ok_or_else(|| HsmError::WrappedKeyRefused {
            function: "C_UnwrapKey",
            detail: "it has another length than such a key, or names an unknown mechanism".to_owned(),
        })
    }
}

pub(crate) fn wrap(
    session: &TokenSession,
    mechanism: WrapMechanism,
    root: Handle,
    key: Handle,
) -> Result<Vec<u8>, Failure> {
    let wrapped = session.wrap_key(mechanism.wrapping(), root, key)?;
    Ok([&[mechanism as u8], &wrapped[..]].concat())
}

fn unwrap(
    session: &TokenSession,
    form: Form,
    root: Handle,
    blob: &[u8],
    extractable: bool,
) -> Result<Handle, Trouble> {
    let Blob { mechanism, wrapped } = Blob::parse(blob, form)?;
    Ok(session.unwrap_key(mechanism.wrapping(), root, wrapped, &form.attributes(extractable))?)
}

/// Loads a wrapped backing key as a session object of `session` that cannot leave it.
///
/// Nothing here proves that what unwraps is of this form: a P-256 key and one on secp256k1 are alike in type and in
/// length. It has to be, because kind and blob reach the token in one value of the store, which carries a MAC under
/// a key of the token (kms-core's `directory.rs`): who could put a blob beside another kind could compute that MAC.
pub(crate) fn load(session: &TokenSession, form: Form, root: Handle, blob: &[u8]) -> Result<Handle, Trouble> {
    unwrap(session, form, root, blob, false)
}

/// Makes a backing key and wraps it under `root`. No object outlives this call.
pub(crate) fn make_wrapped(
    session: &TokenSession,
    form: Form,
    mechanism: WrapMechanism,
    root: Handle,
) -> Result<Vec<u8>, Trouble> {
    let newborn = Brief { session, handle: form.generate(session)? };
    Ok(wrap_proved(session, form, mechanism, root, newborn.handle)?.blob)
}

/// Brings a secret key in and wraps it under `root`. No object outlives this call.
pub(crate) fn import_wrapped(
    session: &TokenSession,
    form: Form,
    mechanism: WrapMechanism,
    root: Handle,
    material: &SecretBytes,
) -> Result<Vec<u8>, Trouble> {
    form.require_secret()?;
    if material.len() != form.secret_bytes() {
        return Err(HsmError::InvalidMaterial { problem: "another length than such a key" }.into());
    }
    let value = (CKA_VALUE, material.expose_secret().to_vec().into());
    let handle = session.create_secret(&form.attributes(true), &[value])?;
    let arrived = Brief { session, handle };
    Ok(wrap_proved(session, form, mechanism, root, arrived.handle)?.blob)
}

/// A wrapped key that was proved to load as the key that it was made of.
pub(crate) struct Proved {
    pub(crate) blob: Vec<u8>,
    /// What tells this key from every other, on every token, without telling the key.
    pub(crate) fingerprint: Vec<u8>,
}

/// Wraps the key that `old_root` wrapped as `blob` under `root`. No object outlives this call.
pub(crate) fn rewrap(
    session: &TokenSession,
    form: Form,
    mechanism: WrapMechanism,
    (old_root, blob): (Handle, &[u8]),
    root: Handle,
) -> Result<Proved, Trouble> {
    let moved = Brief { session, handle: unwrap(session, form, old_root, blob, true)? };
    wrap_proved(session, form, mechanism, root, moved.handle)
}

/// Wraps an extractable key, and proves that the wrapped form loads and computes what the key computes.
pub(crate) fn wrap_proved(
    session: &TokenSession,
    form: Form,
    mechanism: WrapMechanism,
    root: Handle,
    key: Handle,
) -> Result<Proved, Trouble> {
    let blob = wrap(session, mechanism, root, key)?;
    let reloaded = Brief { session, handle: load(session, form, root, &blob)? };
    let fingerprint = form.fingerprint(session, key)?;
    if fingerprint == form.fingerprint(session, reloaded.handle)? {
        Ok(Proved { blob, fingerprint })
    } else {
        let detail = "a wrapped key loads as another key".to_owned();
        Err(HsmError::Unavailable { function: "C_UnwrapKey", detail }.into())
    }
}

/// An object that must not outlive a call: destroyed on every path.
pub(crate) struct Brief<'a> {
    pub(crate) session: &'a TokenSession,
    pub(crate) handle: Handle,
}

impl Brief<'_> {
    /// Gives the object to someone else to destroy.
    pub(crate) fn keep(self) -> Handle {
        let handle = self.handle;
        std::mem::forget(self); // it owns nothing but the object
        handle
    }
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
        let loaded = Form::MAC.attributes(false);
        for attributes in [root_attributes(), authentication_attributes(), loaded] {
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
