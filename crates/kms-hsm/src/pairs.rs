//! Key pairs as objects of the token: what they are made of and may do, and how they are made, brought in and
//! given out.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};
use cryptoki_sys::{CKM_ECDSA, CKM_EDDSA, CKM_RSA_PKCS};
use kms_core::{
    SecretBytes,
    key::BackingKind,
    ports::{DigestAlgorithm, HsmError},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    direct::Handle,
    failure::Trouble,
    form::Form,
    keys::{Brief, wrap_proved},
    mechanisms::WrapMechanism,
    parameters::Signing,
    sealing::PROBE,
    session::TokenSession,
    signing::with_digest_info,
    software::{self, Parsed},
};

const PUBLIC_EXPONENT: [u8; 3] = [1, 0, 1];
/// The longest part of a private key: the modulus of RSA-4096, and a leading zero.
const MAX_COMPONENT_BYTES: usize = 513;

/// What a key pair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pair {
    Rsa { modulus_bytes: usize },
    Ec(Curve),
    Ed25519,
}

/// A curve for ECDSA and ECDH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    Secp256k1,
}

impl Curve {
    /// The length of the field's elements and of the order, which is the same.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::P256 | Self::Secp256k1 => 32,
            Self::P384 => 48,
        }
    }

    /// Its object identifier in DER, as CKA_EC_PARAMS has it.
    // RFC 5480 §2.1.1.1; SEC 2 §A.2 (secp256k1)
    const fn identifier(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::Secp256k1 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a],
        }
    }
}

/// RFC 8410 §3 (id-Ed25519).
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

impl Pair {
    /// What the pairs of a kind are; `None` for secret keys.
    pub(crate) const fn of(kind: BackingKind) -> Option<Self> {
        Some(match kind {
            BackingKind::Rsa2048 => Self::Rsa { modulus_bytes: 256 },
            BackingKind::Rsa3072 => Self::Rsa { modulus_bytes: 384 },
            BackingKind::Rsa4096 => Self::Rsa { modulus_bytes: 512 },
            BackingKind::EcP256 => Self::Ec(Curve::P256),
            BackingKind::EcP384 => Self::Ec(Curve::P384),
            BackingKind::EcSecp256k1 => Self::Ec(Curve::Secp256k1),
            BackingKind::Ed25519 => Self::Ed25519,
            _ => return None,
        })
    }

    pub(crate) const fn key_type(self) -> KeyType {
        match self {
            Self::Rsa { .. } => KeyType::RSA,
            Self::Ec(_) => KeyType::EC,
            Self::Ed25519 => KeyType::EC_EDWARDS,
        }
    }

    pub(crate) const fn generation(self) -> Mechanism<'static> {
        match self {
            Self::Rsa { .. } => Mechanism::RsaPkcsKeyPairGen,
            Self::Ec(_) => Mechanism::EccKeyPairGen,
            Self::Ed25519 => Mechanism::EccEdwardsKeyPairGen,
        }
    }

    /// The curve, as CKA_EC_PARAMS has it.
    fn curve(self) -> Option<Attribute> {
        let identifier = match self {
            Self::Rsa { .. } => return None,
            Self::Ec(curve) => curve.identifier(),
            Self::Ed25519 => ED25519,
        };
        Some(Attribute::EcParams(identifier.to_vec()))
    }

    /// The public key: a session object of no use but to be read.
    pub(crate) fn public_attributes(self) -> Vec<Attribute> {
        let mut attributes = vec![
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(self.key_type()),
            Attribute::Token(false),
            Attribute::Private(false),
            Attribute::Encrypt(false),
            Attribute::Wrap(false),
        ];
        if let Self::Rsa { modulus_bytes } = self {
            let bits = u64::try_from(8 * modulus_bytes).unwrap_or(u64::MAX);
            attributes.push(Attribute::ModulusBits(bits.into()));
            attributes.push(Attribute::PublicExponent(PUBLIC_EXPONENT.to_vec()));
        }
        attributes.extend(self.curve());
        attributes
    }

    /// The private key: a session object that signs, and decrypts or agrees on secrets, and does nothing else.
    pub(crate) fn private_attributes(self, sensitive: bool, extractable: bool) -> Vec<Attribute> {
        vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(self.key_type()),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(sensitive),
            Attribute::Extractable(extractable),
            Attribute::Sign(true),
            Attribute::Decrypt(matches!(self, Self::Rsa { .. })),
            Attribute::Derive(matches!(self, Self::Ec(_))),
            Attribute::Unwrap(false),
        ]
    }

    /// Whether a wrapped private key can have this length: PKCS#8, padded to a multiple of eight, and eight more.
    // RFC 5649 §4.1. An RSA key has all its parts, each half as long as the modulus or as long as it.
    pub(crate) fn wraps_as(self, length: usize) -> bool {
        let plausible = match self {
            Self::Rsa { modulus_bytes } => 4 * modulus_bytes..=5 * modulus_bytes + 128,
            Self::Ec(curve) => curve.bytes() + 8..=5 * curve.bytes() + 128,
            Self::Ed25519 => 40..=160,
        };
        length.is_multiple_of(8) && plausible.contains(&length)
    }

    /// What tells this key from every other: a signature that is always the same, or for ECDSA, whose signatures
    /// differ, the public key that they belong to.
    pub(crate) fn fingerprint(self, session: &TokenSession, key: Handle) -> Result<Vec<u8>, Trouble> {
        let digest = Sha256::digest(PROBE);
        match self {
            Self::Rsa { modulus_bytes } => {
                let input = with_digest_info(DigestAlgorithm::Sha256, &digest);
                Ok(session.sign_with(Signing::Plain(CKM_RSA_PKCS), key, &input, modulus_bytes)?)
            }
            Self::Ed25519 => Ok(session.sign_with(Signing::Plain(CKM_EDDSA), key, PROBE, 64)?),
            Self::Ec(curve) => {
                let sign = || session.sign_with(Signing::Plain(CKM_ECDSA), key, &digest, 2 * curve.bytes());
                let signatures = [sign()?, sign()?];
                let signer = software::signer(curve, &digest, signatures.each_ref().map(Vec::as_slice));
                signer.ok_or_else(|| unsound("C_Sign", "two signatures of one key have no common signer"))
            }
        }
    }

    /// Whether a fingerprint is of the private key that belongs to this public key.
    pub(crate) fn belongs(self, public_key: &[u8], fingerprint: &[u8]) -> bool {
        match self {
            Self::Ec(_) => public_key == fingerprint,
            _ => software::verifies(self, public_key, PROBE, &Sha256::digest(PROBE), fingerprint),
        }
    }

    /// The SubjectPublicKeyInfo of a public key in the token.
    pub(crate) fn public_key(self, session: &TokenSession, object: ObjectHandle) -> Result<Vec<u8>, Trouble> {
        let read = session.attributes(
            object,
            &[AttributeType::Modulus, AttributeType::PublicExponent, AttributeType::EcPoint],
        )?;
        let (mut modulus, mut exponent, mut point) = (Vec::new(), Vec::new(), Vec::new());
        for attribute in read {
            match attribute {
                Attribute::Modulus(bytes) => modulus = bytes,
                Attribute::PublicExponent(bytes) => exponent = bytes,
                Attribute::EcPoint(bytes) => point = bytes,
                _ => {}
            }
        }
        let public_key = match self {
            Self::Rsa { .. } => software::rsa_public_key(&modulus, &exponent),
            Self::Ec(curve) => software::ec_public_key(curve, bare(&point, 2 * curve.bytes() + 1)),
            Self::Ed25519 => software::ed25519_public_key(bare(&point, 32)),
        };
        public_key.ok_or_else(|| unsound("C_GetAttributeValue", "a public key is none of its kind"))
    }
}

/// A point of this length: PKCS#11 wraps it in an octet string, which some modules leave out.
// PKCS#11 §6.3.3 (CKA_EC_POINT). The lengths here fit in one byte.
fn bare(point: &[u8], length: usize) -> &[u8] {
    match point {
        [0x04, told, bare @ ..] if bare.len() == length && usize::from(*told) == length => bare,
        whole => whole,
    }
}

pub(crate) fn unsound(function: &'static str, detail: &str) -> Trouble {
    HsmError::Unavailable { function, detail: detail.to_owned() }.into()
}

/// A private key that was wrapped and proved, with its public key.
pub(crate) struct WrappedPair {
    pub(crate) blob: Vec<u8>,
    pub(crate) public_key: Vec<u8>,
}

/// A pair that lies in the token for as long as a call takes.
pub(crate) struct NewPair<'a> {
    private: Brief<'a>,
    public_key: Vec<u8>,
}

/// Makes a key pair whose private key can be wrapped, or read if it is not sensitive.
pub(crate) fn generate(session: &TokenSession, pair: Pair, sensitive: bool) -> Result<NewPair<'_>, Trouble> {
    let templates = (&pair.public_attributes()[..], &pair.private_attributes(sensitive, true)[..]);
    let (public, private) = session.generate_key_pair(&pair.generation(), templates)?;
    let private = Brief { session, handle: private.into() };
    let _public = Brief { session, handle: public.into() };
    Ok(NewPair { private, public_key: pair.public_key(session, public)? })
}

/// Brings a private key in and wraps it under `root`. No object outlives this call.
pub(crate) fn import(
    session: &TokenSession,
    (form, pair): (Form, Pair),
    mechanism: WrapMechanism,
    root: Handle,
    parsed: Parsed,
) -> Result<WrappedPair, Trouble> {
    let mut template = form.attributes(true);
    template.extend(pair.curve());
    let handle = session.create_secret(&template, &parsed.components)?;
    let arrived = NewPair { private: Brief { session, handle }, public_key: parsed.public_key };
    seal_up(session, (form, pair), mechanism, root, arrived)
}

/// Wraps a private key, and proves that it loads and belongs to its public key. Its object goes.
pub(crate) fn seal_up(
    session: &TokenSession,
    (form, pair): (Form, Pair),
    mechanism: WrapMechanism,
    root: Handle,
    NewPair { private, public_key }: NewPair<'_>,
) -> Result<WrappedPair, Trouble> {
    let proved = wrap_proved(session, form, mechanism, root, private.handle)?;
    if pair.belongs(&public_key, &proved.fingerprint) {
        Ok(WrappedPair { blob: proved.blob, public_key })
    } else {
        Err(unsound("C_Sign", "a private key does not belong to its public key"))
    }
}

/// Makes a key pair and gives it out: the private key as PKCS#8, and the public key. Nothing of it stays.
pub(crate) fn give_out(session: &TokenSession, pair: Pair) -> Result<(SecretBytes, Vec<u8>), Trouble> {
    let NewPair { private, public_key } = generate(session, pair, false)?;
    let mut values = Vec::new();
    for component in software::component_types(pair) {
        let mut value = Zeroizing::new(vec![0; MAX_COMPONENT_BYTES]);
        let length = session.read_secret(private.handle, *component, &mut value)?;
        value.truncate(length);
        values.push(value);
    }
    let encoded = software::encode(pair, &values)
        .filter(|encoded| {
            software::parse(pair, encoded.expose_secret()).is_some_and(|key| key.public_key == public_key)
        })
        .ok_or_else(|| unsound("C_GetAttributeValue", "a private key is not that of its public key"))?;
    Ok((encoded, public_key))
}
