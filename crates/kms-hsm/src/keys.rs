//! The keys of the hierarchy as objects of the token: what each may do, and how they are made.

use cryptoki::{
    mechanism::{Mechanism, MechanismType, vendor_defined::VendorDefinedMechanism},
    object::{Attribute, KeyType, ObjectClass},
};
use kms_core::{key::BackingKind, ports::HsmError};

use crate::{
    direct::Handle,
    failure::{Failure, Trouble},
    mechanisms::{Capabilities, VendorSm4, WrapMechanism},
    sealing::{PROBE, Sealing},
    session::TokenSession,
};

/// The size of every key but SM4's: AES-256, and HMAC-SHA256 at its full strength.
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

/// What backing keys of one kind are as objects of this token.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    key_type: KeyType,
    generation: Generation,
    /// How it seals; `None` for keys that compute MACs.
    pub(crate) sealing: Option<Sealing>,
}

/// How a key is made.
#[derive(Clone, Copy)]
enum Generation {
    Aes,
    Secret,
    /// By its number; takes no length.
    Vendor(MechanismType),
}

impl Form {
    /// The form of `kind`, if the token offers it.
    pub(crate) fn of(
        kind: BackingKind,
        capabilities: &Capabilities,
        sm4: Option<&VendorSm4>,
    ) -> Result<Self, HsmError> {
        match (kind, sm4) {
            (BackingKind::Mac, _) => Ok(Self::MAC),
            (BackingKind::Aes256, _) if capabilities.aes_gcm => Ok(Self {
                key_type: KeyType::AES,
                generation: Generation::Aes,
                sealing: Some(Sealing::AES_GCM),
            }),
            (BackingKind::Sm4, Some(sm4)) if capabilities.sm4 => Self::of_sm4(sm4),
            (BackingKind::Aes256, _) => Err(HsmError::NotOffered { feature: "AES-256-GCM inside the HSM" }),
            (BackingKind::Sm4, _) => Err(HsmError::NotOffered { feature: "SM4 inside the HSM" }),
            _ => Err(HsmError::NotOffered { feature: "keys of this kind" }),
        }
    }

    /// Keys that compute HMAC-SHA256.
    pub(crate) const MAC: Self =
        Self { key_type: KeyType::GENERIC_SECRET, generation: Generation::Secret, sealing: None };

    fn of_sm4(sm4: &VendorSm4) -> Result<Self, HsmError> {
        let standard_number = |_| HsmError::NotOffered { feature: "SM4 by numbers below CKM_VENDOR_DEFINED" };
        let generation = MechanismType::new_vendor_defined(sm4.generation).map_err(standard_number)?;
        let key_type = KeyType::new_vendor_defined(sm4.key_type).map_err(standard_number)?;
        let sealing = Some(Sealing::of_sm4(sm4));
        Ok(Self { key_type, generation: Generation::Vendor(generation), sealing })
    }

    /// A session object of this form; extractable only while it is made or moved.
    pub(crate) fn attributes(&self, extractable: bool) -> Vec<Attribute> {
        let mut attributes = secret_key(self.key_type);
        attributes.extend([Attribute::Token(false), Attribute::Extractable(extractable)]);
        let sign = [Attribute::Sign(true)];
        let seal = [Attribute::Encrypt(true), Attribute::Decrypt(true)];
        attributes.extend(uses(if self.sealing.is_some() { &seal } else { &sign }));
        attributes
    }

    /// The length of a wrapped key: eight bytes more than the key's own, as RFC 3394 and RFC 5649 have it for
    /// lengths that are multiples of eight.
    fn wrapped_bytes(&self) -> usize {
        match self.generation {
            Generation::Aes | Generation::Secret => 40,
            Generation::Vendor(_) => 24,
        }
    }

    pub(crate) fn generate(&self, session: &TokenSession) -> Result<Handle, Failure> {
        let mut template = self.attributes(true);
        let mechanism = match self.generation {
            Generation::Aes => Mechanism::AesKeyGen,
            Generation::Secret => Mechanism::GenericSecretKeyGen,
            Generation::Vendor(mechanism) => {
                Mechanism::VendorDefined(VendorDefinedMechanism::new::<()>(mechanism, None))
            }
        };
        if !matches!(mechanism, Mechanism::VendorDefined(_)) {
            template.push(Attribute::ValueLen(KEY_BYTES.into()));
        }
        session.generate_key(&mechanism, &template)
    }

    /// What tells this key from every other, without telling the key.
    pub(crate) fn fingerprint(&self, session: &TokenSession, key: Handle) -> Result<Vec<u8>, Trouble> {
        match self.sealing {
            None => Ok(session.sign(key, PROBE)?.to_vec()),
            Some(sealing) => sealing.seal_probe(session, key),
        }
    }
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
fn make_passing_root(session: &TokenSession) -> Result<Handle, Failure> {
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
            (wrapped.len() == form.wrapped_bytes()).then_some(Self { mechanism, wrapped })
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
fn wrap_proved(
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
