//! The keys of the hierarchy as objects of the token: what each may do, and how they are made.

use cryptoki::{
    mechanism::{Mechanism, MechanismType, vendor_defined::VendorDefinedMechanism},
    object::{Attribute, KeyType, ObjectClass},
};
use cryptoki_sys::{CK_ULONG, CKA_VALUE, CKM_SHA256_HMAC, CKM_SHA384_HMAC, CKM_SHA512_HMAC};
use kms_core::{SecretBytes, key::BackingKind, ports::HsmError};

use crate::{
    direct::{Handle, MechanismId, Signing},
    failure::{Failure, Trouble},
    mechanisms::{Capabilities, VendorSm4, WrapMechanism},
    pairs::Pair,
    sealing::{PROBE, Sealing},
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

/// What backing keys of one kind are as objects of this token.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    /// What they do.
    pub(crate) task: Task,
    /// What secret keys are and how they are made; a pair's is told by its task.
    secret: Secret,
}

/// What a key does.
#[derive(Clone, Copy)]
pub(crate) enum Task {
    /// It computes HMACs.
    Hash(Hash),
    /// It seals.
    Seal(Sealing),
    /// It is the private half of a key pair.
    Pair(Pair),
}

/// An HMAC by the hash's name.
#[derive(Clone, Copy)]
pub(crate) struct Hash {
    mechanism: MechanismId,
    /// The length of its output, and of its keys.
    bytes: usize,
}

impl Hash {
    const SHA256: Self = Self { mechanism: CKM_SHA256_HMAC, bytes: 32 };
    const SHA384: Self = Self { mechanism: CKM_SHA384_HMAC, bytes: 48 };
    const SHA512: Self = Self { mechanism: CKM_SHA512_HMAC, bytes: 64 };

    /// The HMAC of `input`.
    pub(crate) fn of(self, session: &TokenSession, key: Handle, input: &[u8]) -> Result<Vec<u8>, Failure> {
        session.sign_with(Signing::Plain(self.mechanism), key, input, self.bytes)
    }
}

/// A secret key as an object.
#[derive(Clone, Copy)]
struct Secret {
    key_type: KeyType,
    generation: Generation,
    bytes: usize,
}

/// How a secret key is made.
#[derive(Clone, Copy)]
enum Generation {
    Aes,
    Secret,
    /// By its number; takes no length.
    Vendor(MechanismType),
}

/// The length of an SM4 key.
const SM4_BYTES: usize = 16;

impl Form {
    /// The form of `kind`, if the token says that it has the mechanisms.
    pub(crate) fn of(
        kind: BackingKind,
        capabilities: &Capabilities,
        sm4: Option<&VendorSm4>,
    ) -> Result<Self, HsmError> {
        let lacking = |feature| Err(HsmError::NotOffered { feature });
        let [sha384, sha512] = capabilities.longer_hmacs;
        match (kind, sm4) {
            (BackingKind::Mac | BackingKind::HmacSha256, _) => Ok(Self::MAC),
            (BackingKind::HmacSha384, _) if sha384 => Ok(Self::of_hash(Hash::SHA384)),
            (BackingKind::HmacSha512, _) if sha512 => Ok(Self::of_hash(Hash::SHA512)),
            (BackingKind::Aes256, _) if capabilities.aes_gcm => Ok(Self {
                task: Task::Seal(Sealing::AES_GCM),
                secret: Secret { key_type: KeyType::AES, generation: Generation::Aes, bytes: 32 },
            }),
            (BackingKind::Sm4, Some(sm4)) if capabilities.sm4 => Self::of_sm4(sm4),
            (BackingKind::HmacSha384 | BackingKind::HmacSha512, _) => lacking("an HMAC with this hash"),
            (BackingKind::Aes256, _) => lacking("AES-256-GCM inside the HSM"),
            (BackingKind::Sm4, _) => lacking("SM4 inside the HSM"),
            _ => Self::of_pair(kind, capabilities),
        }
    }

    /// Keys that compute HMAC-SHA256.
    pub(crate) const MAC: Self = Self::of_hash(Hash::SHA256);

    const fn of_hash(hash: Hash) -> Self {
        let (key_type, generation) = (KeyType::GENERIC_SECRET, Generation::Secret);
        Self { task: Task::Hash(hash), secret: Secret { key_type, generation, bytes: hash.bytes } }
    }

    fn of_sm4(sm4: &VendorSm4) -> Result<Self, HsmError> {
        let standard_number = |_| HsmError::NotOffered { feature: "SM4 by numbers below CKM_VENDOR_DEFINED" };
        let generation = MechanismType::new_vendor_defined(sm4.generation).map_err(standard_number)?;
        let key_type = KeyType::new_vendor_defined(sm4.key_type).map_err(standard_number)?;
        let generation = Generation::Vendor(generation);
        Ok(Self {
            task: Task::Seal(Sealing::of_sm4(sm4)),
            secret: Secret { key_type, generation, bytes: SM4_BYTES },
        })
    }

    fn of_pair(kind: BackingKind, capabilities: &Capabilities) -> Result<Self, HsmError> {
        let pair = Pair::of(kind).filter(|pair| {
            capabilities.padded_wrap().is_some()
                && match pair {
                    Pair::Rsa { modulus_bytes } => 8 * modulus_bytes <= bits(capabilities.pairs.rsa_bits),
                    Pair::Ec(_) => capabilities.pairs.curves,
                    Pair::Ed25519 => capabilities.pairs.edwards,
                }
        });
        let pair = pair.ok_or(HsmError::NotOffered { feature: "key pairs of this kind" })?;
        Ok(Self { task: Task::Pair(pair), ..Self::MAC })
    }

    /// How it seals.
    pub(crate) fn sealing(&self) -> Result<Sealing, HsmError> {
        match self.task {
            Task::Seal(sealing) => Ok(sealing),
            _ => Err(HsmError::NotOffered { feature: "sealing with a key that does not seal" }),
        }
    }

    /// What pair it is the private half of.
    pub(crate) fn pair(&self) -> Result<Pair, HsmError> {
        match self.task {
            Task::Pair(pair) => Ok(pair),
            _ => Err(HsmError::NotOffered { feature: "a secret key as a key pair" }),
        }
    }

    /// How new keys of this form are wrapped.
    pub(crate) fn wrap(&self, capabilities: &Capabilities) -> WrapMechanism {
        match self.task {
            Task::Pair(_) => capabilities.padded_wrap().unwrap_or(WrapMechanism::Padded), // else there is no such form
            _ => capabilities.wrap(),
        }
    }

    /// A session object of this form; extractable only while it is made or moved.
    pub(crate) fn attributes(&self, extractable: bool) -> Vec<Attribute> {
        if let Task::Pair(pair) = self.task {
            return pair.private_attributes(true, extractable);
        }
        let mut attributes = secret_key(self.secret.key_type);
        attributes.extend([Attribute::Token(false), Attribute::Extractable(extractable)]);
        let sign = [Attribute::Sign(true)];
        let seal = [Attribute::Encrypt(true), Attribute::Decrypt(true)];
        attributes.extend(uses(if matches!(self.task, Task::Seal(_)) { &seal } else { &sign }));
        attributes
    }

    /// Whether a wrapped key can have this length: a secret key's eight bytes more than its own, as RFC 3394 and
    /// RFC 5649 have it for lengths that are multiples of eight.
    fn wraps_as(&self, length: usize) -> bool {
        match self.task {
            Task::Pair(pair) => pair.wraps_as(length),
            _ => length == self.secret.bytes + 8,
        }
    }

    pub(crate) fn generate(&self, session: &TokenSession) -> Result<Handle, Trouble> {
        if matches!(self.task, Task::Pair(_)) {
            return Err(HsmError::NotOffered { feature: "a key pair as one secret key" }.into());
        }
        let mut template = self.attributes(true);
        let mechanism = match self.secret.generation {
            Generation::Aes => Mechanism::AesKeyGen,
            Generation::Secret => Mechanism::GenericSecretKeyGen,
            Generation::Vendor(mechanism) => {
                Mechanism::VendorDefined(VendorDefinedMechanism::new::<()>(mechanism, None))
            }
        };
        if !matches!(mechanism, Mechanism::VendorDefined(_)) {
            let length = u64::try_from(self.secret.bytes).unwrap_or(u64::MAX);
            template.push(Attribute::ValueLen(length.into()));
        }
        Ok(session.generate_key(&mechanism, &template)?)
    }

    /// What tells this key from every other, without telling the key.
    pub(crate) fn fingerprint(&self, session: &TokenSession, key: Handle) -> Result<Vec<u8>, Trouble> {
        match self.task {
            Task::Hash(hash) => Ok(hash.of(session, key, PROBE)?),
            Task::Seal(sealing) => sealing.seal_probe(session, key),
            Task::Pair(pair) => pair.fingerprint(session, key),
        }
    }
}

/// A number of bits as a token tells it.
fn bits(told: CK_ULONG) -> usize {
    usize::try_from(told).unwrap_or(usize::MAX)
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
    if matches!(form.task, Task::Pair(_)) {
        return Err(HsmError::NotOffered { feature: "a key pair as one secret key" }.into());
    }
    if material.len() != form.secret.bytes {
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
