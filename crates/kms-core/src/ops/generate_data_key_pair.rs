//! GenerateDataKeyPair: a key pair whose private half is sealed under a key.

use sm2::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use zeroize::Zeroizing;

use crate::{
    ciphertext::Purpose,
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::{BackingKind, KeyClass, KeyId, KeySpec, Scheme},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, sealing::seal_as},
    ports::{Birth, HsmError, HsmSession},
    secret::SecretBytes,
    service::Scope,
};

/// How many random scalars are tried. One of 2^32 is none of the curve's.
const MAX_SCALARS: usize = 8;

/// The kind of a data key pair: RSA, EC or SM2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataKeyPairSpec(KeySpec);

impl DataKeyPairSpec {
    /// Takes the kinds that DEW has.
    pub const fn of(spec: KeySpec) -> Option<Self> {
        match spec {
            KeySpec::Rsa2048
            | KeySpec::Rsa3072
            | KeySpec::Rsa4096
            | KeySpec::EcP256
            | KeySpec::EcP384
            | KeySpec::Secp256k1
            | KeySpec::Sm2 => Some(Self(spec)),
            _ => None,
        }
    }
}

/// A data key pair.
#[derive(Debug)]
pub struct DataKeyPair {
    /// The key that sealed the private half.
    pub key_id: KeyId,
    /// The version that sealed it.
    pub key_version: u32,
    /// The public half: a SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// The private half, sealed.
    pub ciphertext: Vec<u8>,
    /// The private half as PKCS#8 in DER, if it was asked for.
    pub private_key: Option<SecretBytes>,
}

/// Makes a key pair; answers its private half sealed, and in plain if asked for.
#[derive(Debug, Clone)]
pub struct GenerateDataKeyPair {
    /// The key to seal the private half with.
    pub key: KeySelector,
    /// The kind of the pair.
    pub spec: DataKeyPairSpec,
    /// Whether to answer the private half in plain, too.
    pub with_plaintext: bool,
    /// What the ciphertext is bound to.
    pub encryption_context: EncryptionContext,
}

impl Operation for GenerateDataKeyPair {
    const NAME: OperationName = OperationName::GenerateDataKeyPair;
    type Output = DataKeyPair;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.encryption_context)
    }

    fn may_change(&self) -> bool {
        self.key.may_make()
    }

    fn birth(&self) -> Option<Birth> {
        match self.spec.0.class() {
            KeyClass::Rsa => Some(Birth::Slow),
            KeyClass::EllipticCurve => Some(Birth::Quick),
            _ => None, // made of random numbers
        }
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<DataKeyPair>, Error> {
        let key = scope.key_or_default(&self.key, None, draft).await?;
        key.check_cipher(Self::NAME, scope.now)?;
        let Some(key) = scope.counted(key, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let (spec, context, with_plaintext) =
            (self.spec.0, self.encryption_context.clone(), self.with_plaintext);
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            let (private_key, public_key) = make_pair(session, spec)?;
            let (key_version, ciphertext) =
                seal_as(Purpose::DataKeyPair, session, draft, &key, &context, &private_key)?;
            let private_key = Some(private_key).filter(|_| with_plaintext);
            Ok(DataKeyPair { key_id: key.id, key_version, public_key, ciphertext, private_key })
        }))
    }
}

/// Both halves, made in the HSM where it can, and else of its random numbers.
fn make_pair(session: &mut dyn HsmSession, spec: KeySpec) -> Result<(SecretBytes, Vec<u8>), Error> {
    let kind = BackingKind::of(spec, Scheme::InHsm);
    match spec {
        KeySpec::Sm2 => of_scalar(session, sm2_pair),
        KeySpec::Secp256k1 if !session.offers(kind)? => of_scalar(session, secp256k1_pair),
        _ => match session.generate_data_key_pair(kind) {
            Err(HsmError::NotOffered { feature }) => Err(Error::NotOffered { feature }),
            made => Ok(made?),
        },
    }
}

/// Draws scalars until one is a private key.
// NIST SP 800-186 and FIPS 186-5 §A.2.2: key pair generation by rejection sampling.
fn of_scalar(
    session: &mut dyn HsmSession,
    pair: impl Fn(&[u8; 32]) -> Result<Option<(SecretBytes, Vec<u8>)>, Error>,
) -> Result<(SecretBytes, Vec<u8>), Error> {
    let mut scalar = Zeroizing::new([0; 32]);
    for _ in 0..MAX_SCALARS {
        session.fill_random(&mut scalar[..])?;
        if let Some(made) = pair(&scalar)? {
            return Ok(made);
        }
    }
    Err(Error::Internal { detail: "the HSM's random numbers are no scalars of a curve" })
}

fn sm2_pair(scalar: &[u8; 32]) -> Result<Option<(SecretBytes, Vec<u8>)>, Error> {
    // GB/T 32918.1 §6.1 leaves n - 1 out, too; nobody will ever draw it.
    let Ok(key) = sm2::SecretKey::from_slice(scalar) else { return Ok(None) };
    encode(key.to_pkcs8_der().ok(), key.public_key().to_public_key_der().ok()).map(Some)
}

fn secp256k1_pair(scalar: &[u8; 32]) -> Result<Option<(SecretBytes, Vec<u8>)>, Error> {
    let Ok(key) = k256::SecretKey::from_slice(scalar) else { return Ok(None) };
    encode(key.to_pkcs8_der().ok(), key.public_key().to_public_key_der().ok()).map(Some)
}

fn encode(
    private_key: Option<sm2::pkcs8::SecretDocument>,
    public_key: Option<sm2::pkcs8::Document>,
) -> Result<(SecretBytes, Vec<u8>), Error> {
    match (private_key, public_key) {
        (Some(private_key), Some(public_key)) => {
            Ok((SecretBytes::new(private_key.as_bytes().to_vec()), public_key.into_vec()))
        }
        _ => Err(Error::Internal { detail: "a key pair has no DER form" }),
    }
}
