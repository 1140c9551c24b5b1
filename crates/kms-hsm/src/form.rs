//! What a backing key of each kind is as an object of this token: its type, its uses, how it is made.

use cryptoki::{
    mechanism::{Mechanism, MechanismType, vendor_defined::VendorDefinedMechanism},
    object::{Attribute, KeyType},
};
use cryptoki_sys::{CK_ULONG, CKM_SHA256_HMAC, CKM_SHA384_HMAC, CKM_SHA512_HMAC};
use kms_core::{key::BackingKind, ports::HsmError};

use crate::{
    direct::Handle,
    failure::{Failure, Trouble},
    keys::{secret_key, uses},
    mechanisms::{Capabilities, VendorSm4, WrapMechanism},
    pairs::Pair,
    parameters::{MechanismId, Signing},
    sealing::{PROBE, Sealing},
    session::TokenSession,
};

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

    /// Fails for a key pair.
    pub(crate) fn require_secret(&self) -> Result<(), HsmError> {
        match self.task {
            Task::Pair(_) => Err(HsmError::NotOffered { feature: "a key pair as one secret key" }),
            _ => Ok(()),
        }
    }

    /// The length of a secret key.
    pub(crate) const fn secret_bytes(&self) -> usize {
        self.secret.bytes
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
    pub(crate) fn wraps_as(&self, length: usize) -> bool {
        match self.task {
            Task::Pair(pair) => pair.wraps_as(length),
            _ => length == self.secret.bytes + 8,
        }
    }

    pub(crate) fn generate(&self, session: &TokenSession) -> Result<Handle, Trouble> {
        self.require_secret()?;
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
