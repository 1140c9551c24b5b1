//! The key that signs the log's checkpoints: an Ed25519 key of the token, or one that is derived from the token for
//! each signature and that a P-256 key of the token vouches for.

use cryptoki::{
    error::Error,
    object::{Attribute, KeyType, ObjectHandle},
};
use cryptoki_sys::CKM_EDDSA;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use kms_core::ports::{LogKey, LogKeyCertificate, SigningMechanism};
use sha2::{Digest as _, Sha256};

use crate::{
    calls::Call,
    direct::Handle,
    failure::{Damage, Failure, Place, Trouble},
    keys::Brief,
    mechanisms::CheckpointSignature,
    pairs::{Curve, Pair, unsound},
    parameters::Signing,
    session::TokenSession,
    signing::SignatureRequest,
    software,
};

/// What the token's authentication key computes of this is the seed of a log key outside of it, and nothing else.
const SEED: &[u8] = b"dewpoint/v1/log-key";

impl CheckpointSignature {
    /// The key pair that lies on the token.
    pub(crate) const fn pair(self) -> Pair {
        match self {
            Self::EdDsa => Pair::Ed25519,
            Self::Ecdsa => Pair::Ec(Curve::P256),
        }
    }
}

/// A key pair on the token, whose private key was seen to sign what its public key verifies.
pub(crate) struct LogPair {
    pub(crate) private: Handle,
    pub(crate) public: ObjectHandle,
    pair: Pair,
    /// A SubjectPublicKeyInfo.
    public_key: Vec<u8>,
}

/// What the private key has to be: it signs, it does nothing else, and it never leaves.
pub(crate) fn private_attributes(pair: Pair) -> Vec<Attribute> {
    let mut attributes = pair.private_attributes(true, false);
    attributes.retain(|attribute| !matches!(attribute, Attribute::Token(_) | Attribute::Derive(_)));
    attributes.extend([Attribute::Token(true), Attribute::Derive(false)]);
    attributes
}

fn public_attributes(pair: Pair) -> Vec<Attribute> {
    let mut attributes = pair.public_attributes();
    attributes.retain(|attribute| !matches!(attribute, Attribute::Token(_)));
    attributes.push(Attribute::Token(true));
    attributes
}

/// What a private key under the log key's label should be, by its type.
pub(crate) fn pair_of(attributes: &[Attribute]) -> Pair {
    let is_of_curve = attributes.contains(&Attribute::KeyType(KeyType::EC));
    let signature = if is_of_curve { CheckpointSignature::Ecdsa } else { CheckpointSignature::EdDsa };
    signature.pair()
}

/// Makes the key pair as token objects; answers the public and the private key.
pub(crate) fn make(
    session: &TokenSession,
    signature: CheckpointSignature,
    label: &str,
) -> Result<[Handle; 2], Failure> {
    let pair = signature.pair();
    let label = Attribute::Label(label.as_bytes().to_vec());
    let (mut public, mut private) = (public_attributes(pair), private_attributes(pair));
    public.push(label.clone());
    private.push(label);
    let (public, private) = session.generate_key_pair(&pair.generation(), (&public, &private))?;
    Ok([public.into(), private.into()])
}

/// Makes a pair that is no token object and of no use but to see that the device signs so.
pub(crate) fn prove_device(session: &TokenSession, pair: Pair) -> Result<(), Trouble> {
    let mut private = private_attributes(pair);
    private.retain(|attribute| *attribute != Attribute::Token(true));
    private.push(Attribute::Token(false));
    let (public, private) =
        session.generate_key_pair(&pair.generation(), (&pair.public_attributes(), &private))?;
    let _brief = [public, private].map(|object| Brief { session, handle: object.into() });
    match tried(session, pair, private, &[public])? {
        Some(_) => Ok(()),
        None => Err(unsound("C_Sign", "a private key does not belong to its public key")),
    }
}

/// Lets a private key sign; answers it with the one of the public keys that verifies it.
pub(crate) fn tried(
    session: &TokenSession,
    pair: Pair,
    private: ObjectHandle,
    publics: &[ObjectHandle],
) -> Result<Option<LogPair>, Trouble> {
    let fingerprint = pair.fingerprint(session, private.into())?;
    for public in publics {
        match pair.public_key(session, *public) {
            Ok(public_key) if pair.belongs(&public_key, &fingerprint) => {
                return Ok(Some(LogPair { private: private.into(), public: *public, pair, public_key }));
            }
            Err(Trouble::Call(failure)) if matches!(failure.damage(), Damage::Session | Damage::Token) => {
                return Err(failure.into());
            }
            Ok(_) | Err(_) => {} // another one's, or none at all
        }
    }
    Ok(None)
}

/// The log key as it is used.
pub(crate) struct HeldLogKey {
    signer: LogSigner,
    verifying: VerifyingKey,
    pub(crate) public_side: LogKey,
}

enum LogSigner {
    /// The token signs.
    Inside(Handle),
    /// The service signs, with a seed that this key of the token computes each time.
    Derived(Handle),
}

impl HeldLogKey {
    /// The log key of a token with this `pair` under its label; `None` if one has to be made first. A token that signs
    /// in neither way needs none.
    pub(crate) fn of(
        session: &TokenSession,
        authentication: Handle,
        pair: Option<LogPair>,
        offered: Option<CheckpointSignature>,
    ) -> Result<Option<Self>, Trouble> {
        let held = match (pair, offered) {
            (Some(inside), _) if inside.pair == Pair::Ed25519 => Self::inside(&inside)?,
            (Some(certifier), _) => Self::derived(session, authentication, Some(&certifier))?,
            (None, None) => Self::derived(session, authentication, None)?,
            (None, Some(_)) => return Ok(None),
        };
        Ok(Some(held))
    }

    fn inside(pair: &LogPair) -> Result<Self, Trouble> {
        let verifying = software::ed25519_key(&pair.public_key)
            .ok_or_else(|| unsound("C_GetAttributeValue", "a public key is none of its kind"))?;
        let public_side = LogKey { public_key: verifying.to_bytes(), certificate: None };
        Ok(Self { signer: LogSigner::Inside(pair.private), verifying, public_side })
    }

    fn derived(
        session: &TokenSession,
        authentication: Handle,
        certifier: Option<&LogPair>,
    ) -> Result<Self, Trouble> {
        let verifying = derive(session, authentication)?.verifying_key();
        let public_key = verifying.to_bytes();
        let certificate = certifier.map(|certifier| certify(session, certifier, &public_key)).transpose()?;
        let public_side = LogKey { public_key, certificate };
        Ok(Self { signer: LogSigner::Derived(authentication), verifying, public_side })
    }

    /// An Ed25519 signature over exactly these bytes, seen to verify.
    pub(crate) fn sign(&self, session: &TokenSession, text: &[u8]) -> Result<[u8; 64], Failure> {
        let signature = match self.signer {
            LogSigner::Inside(private) => sign_inside(session, private, text)?,
            LogSigner::Derived(authentication) => derive(session, authentication)?.sign(text),
        };
        // A signature of which something went wrong could tell the key.
        self.verifying.verify_strict(text, &signature).map_err(|_| wrong_signature())?;
        Ok(signature.to_bytes())
    }
}

fn sign_inside(session: &TokenSession, private: Handle, text: &[u8]) -> Result<Signature, Failure> {
    let signature = session.sign_with(Signing::Plain(CKM_EDDSA), private, text, Signature::BYTE_SIZE);
    let signature = signature.map_err(|failure| failure.at(Place::TokenKey))?;
    Signature::from_slice(&signature).map_err(|_| wrong_signature())
}

/// The log key outside of the token. It is wiped when it drops.
fn derive(session: &TokenSession, authentication: Handle) -> Result<SigningKey, Failure> {
    let seed = session.sign(authentication, SEED).map_err(|failure| failure.at(Place::TokenKey))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// The module said yes and gave a signature of another key or text.
fn wrong_signature() -> Failure {
    Failure::new(Call::Sign, Error::InvalidValue)
}

/// Lets the token's P-256 key vouch for a log key.
fn certify(
    session: &TokenSession,
    certifier: &LogPair,
    public_key: &[u8; 32],
) -> Result<LogKeyCertificate, Trouble> {
    let statement = LogKeyCertificate::statement(public_key);
    let digest = Sha256::digest(&statement);
    let request = SignatureRequest::new(certifier.pair, SigningMechanism::Ecdsa, &digest)?;
    let signature = request.sign(session, certifier.private)?;
    let signature_der = software::p256_signature_der(&certifier.public_key, &statement, &signature)
        .ok_or_else(wrong_signature)?;
    Ok(LogKeyCertificate { public_key_der: certifier.public_key.clone(), signature_der })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    #[test]
    fn a_log_key_signs_and_does_nothing_else() {
        for signature in [CheckpointSignature::EdDsa, CheckpointSignature::Ecdsa] {
            let attributes = private_attributes(signature.pair());
            for stated in [Attribute::Token(true), Attribute::Sensitive(true), Attribute::Extractable(false)]
            {
                assert!(attributes.contains(&stated), "{stated:?}");
            }
            let may = |attribute: &&Attribute| {
                keys::uses(&[]).iter().any(|none| none.attribute_type() == attribute.attribute_type())
                    && !keys::uses(&[]).contains(attribute)
            };
            let uses: Vec<_> = attributes.iter().filter(may).collect();
            assert_eq!(uses, [&Attribute::Sign(true)], "{signature:?}");
        }
    }
}
