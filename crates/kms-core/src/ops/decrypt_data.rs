//! DecryptData: opens small data.

use sha1::Sha1;
use sha2::Sha256;

use crate::{
    ciphertext::Purpose,
    context::EncryptionContext,
    crypto::oaep_decode,
    draft::Draft,
    error::{Error, Field},
    key::{BackingKey, KeyId, KeyRecord, KeyUsage},
    operation::OperationName,
    ops::{
        EncryptionAlgorithm, KeySelector, Operation, Prepared,
        sealed::Sealed,
        version_key::{Place, VersionKey},
    },
    ports::HsmSession,
    secret::SecretBytes,
    service::Scope,
};

/// The longest ciphertext of an asymmetric key: SM2's of 4096 bytes.
const MAX_BARE_BYTES: usize = 4096 + 4 + 4 + 34 + 2 * 35;

/// Opened small data.
#[derive(Debug)]
pub struct DecryptedData {
    /// The key that encrypted it.
    pub key_id: KeyId,
    /// The version that encrypted it.
    pub key_version: u32,
    /// The data itself.
    pub plaintext: SecretBytes,
}

/// Opens small data.
#[derive(Debug, Clone)]
pub struct DecryptData {
    source: Source,
    algorithm: EncryptionAlgorithm,
}

#[derive(Debug, Clone)]
enum Source {
    /// Of a symmetric key, which its header names.
    Sealed(Sealed),
    /// Of an asymmetric key: it says nothing about itself, and has no context.
    Bare { ciphertext: Vec<u8>, key: KeySelector, context: EncryptionContext },
}

impl DecryptData {
    /// Takes a whole ciphertext. A symmetric key need not be named, and must have sealed it if it is; every other
    /// key has to be named.
    pub fn new(
        ciphertext: &[u8],
        key: Option<KeySelector>,
        algorithm: EncryptionAlgorithm,
        encryption_context: EncryptionContext,
    ) -> Result<Self, Error> {
        let source = if algorithm == EncryptionAlgorithm::SymmetricDefault {
            Source::Sealed(Sealed::parse(ciphertext, key, encryption_context)?)
        } else {
            algorithm.check_context(&encryption_context)?;
            if !(1..=MAX_BARE_BYTES).contains(&ciphertext.len()) {
                return Err(Error::invalid(Field::CiphertextBlob, "must be 1 to 4208 bytes long"));
            }
            let key =
                key.ok_or(Error::invalid(Field::Key, "must be given: the ciphertext does not name it"))?;
            Source::Bare { ciphertext: ciphertext.to_vec(), key, context: encryption_context }
        };
        Ok(Self { source, algorithm })
    }
}

impl Operation for DecryptData {
    const NAME: OperationName = OperationName::DecryptData;
    type Output = DecryptedData;

    fn context(&self) -> Option<&EncryptionContext> {
        match &self.source {
            Source::Sealed(sealed) => Some(&sealed.context),
            Source::Bare { context, .. } => Some(context),
        }
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<DecryptedData>, Error> {
        let key = match &self.source {
            Source::Sealed(sealed) => sealed.key(scope, draft).await?,
            Source::Bare { key, .. } => scope.key(key, draft).await?,
        };
        key.check(Self::NAME, scope.now)?;
        key.check_encryption(self.algorithm)?;
        match &self.source {
            Source::Sealed(sealed) => unseal(&key, sealed, draft),
            Source::Bare { ciphertext, .. } => self.decrypt(&key, ciphertext.clone(), draft),
        }
    }
}

impl DecryptData {
    fn decrypt(
        &self,
        key: &KeyRecord,
        ciphertext: Vec<u8>,
        draft: &mut Draft,
    ) -> Result<Prepared<DecryptedData>, Error> {
        let version = key.check_use(Self::NAME, KeyUsage::EncryptDecrypt, draft.time())?;
        draft.key(key.id, Some(version.number));
        let (key_id, key_version, algorithm) = (key.id, version.number, self.algorithm);
        let own = VersionKey::of(key, version);
        Ok(Prepared::by_use(key.keystore.clone(), move |session, _| {
            let plaintext = match own.place(session)? {
                Place::Hsm(backing) => decrypt_rsa(session, backing, algorithm, &ciphertext)?,
                Place::Opened(secret) => secret.decrypt_sm2(&ciphertext)?,
            };
            Ok(DecryptedData { key_id, key_version, plaintext })
        }))
    }
}

fn unseal(key: &KeyRecord, sealed: &Sealed, draft: &mut Draft) -> Result<Prepared<DecryptedData>, Error> {
    let opener = sealed.opener(key, &[Purpose::SmallData])?;
    let (key_id, key_version) = (key.id, opener.header.version);
    draft.key(key_id, Some(key_version));
    Ok(Prepared::by_use(key.keystore.clone(), move |session, _| {
        Ok(DecryptedData { key_id, key_version, plaintext: opener.open(session)? })
    }))
}

/// Whatever is wrong with the ciphertext is one error.
// RFC 8017 §7.1.2
fn decrypt_rsa(
    session: &mut dyn HsmSession,
    key: &BackingKey,
    algorithm: EncryptionAlgorithm,
    ciphertext: &[u8],
) -> Result<SecretBytes, Error> {
    let block = session.decrypt_rsa(key, ciphertext)?;
    let plaintext = match algorithm {
        EncryptionAlgorithm::RsaesOaepSha256 => oaep_decode::<Sha256>(&block),
        EncryptionAlgorithm::RsaesOaepSha1 => oaep_decode::<Sha1>(&block),
        _ => None,
    };
    plaintext.ok_or(Error::CannotDecrypt)
}
