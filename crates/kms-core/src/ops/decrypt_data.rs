//! DecryptData: opens small data.

use sha1::Sha1;
use sha2::Sha256;

use crate::{
    ciphertext::{Header, Purpose},
    context::EncryptionContext,
    crypto::oaep_decode,
    draft::Draft,
    error::{Error, Field},
    key::{BackingKey, KeyId, KeyRecord, KeyUsage},
    operation::OperationName,
    ops::{
        EncryptionAlgorithm, KeySelector, Operation, Prepared,
        sealing::{open, opener},
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
    encryption_context: EncryptionContext,
}

#[derive(Debug, Clone)]
enum Source {
    /// Of a symmetric key, which its header names; and the key that must have sealed it, if the caller says so.
    Sealed { header: Header, sealed: Vec<u8>, key: Option<KeySelector> },
    /// Of an asymmetric key: it says nothing about itself.
    Bare { ciphertext: Vec<u8>, key: KeySelector },
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
            let (header, sealed) = Header::parse(ciphertext)?;
            Source::Sealed { header, sealed: sealed.to_vec(), key }
        } else {
            algorithm.check_context(&encryption_context)?;
            if !(1..=MAX_BARE_BYTES).contains(&ciphertext.len()) {
                return Err(Error::invalid(Field::CiphertextBlob, "must be 1 to 4208 bytes long"));
            }
            let key =
                key.ok_or(Error::invalid(Field::Key, "must be given: the ciphertext does not name it"))?;
            Source::Bare { ciphertext: ciphertext.to_vec(), key }
        };
        Ok(Self { source, algorithm, encryption_context })
    }
}

impl Operation for DecryptData {
    const NAME: OperationName = OperationName::DecryptData;
    type Output = DecryptedData;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.encryption_context)
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<DecryptedData>, Error> {
        let key = match &self.source {
            Source::Sealed { key: Some(key), .. } | Source::Bare { key, .. } => scope.key(key, draft).await?,
            Source::Sealed { header, .. } => scope.key_of_material(header.material, draft).await?,
        };
        key.check(Self::NAME)?;
        key.check_encryption(self.algorithm)?;
        match &self.source {
            Source::Sealed { header, sealed, .. } => self.unseal(&key, *header, sealed.clone(), draft),
            Source::Bare { ciphertext, .. } => self.decrypt(&key, ciphertext.clone(), draft),
        }
    }
}

impl DecryptData {
    fn unseal(
        &self,
        key: &KeyRecord,
        header: Header,
        sealed: Vec<u8>,
        draft: &mut Draft,
    ) -> Result<Prepared<DecryptedData>, Error> {
        let backing_key = opener(key, &header, &[Purpose::SmallData])?;
        draft.key(key.id, Some(header.version));
        let (context, key_id) = (self.encryption_context.clone(), key.id);
        Ok(Prepared::by_use(key.keystore.clone(), move |session, _| {
            let plaintext = open(session, &header, &backing_key, &context, &sealed)?;
            Ok(DecryptedData { key_id, key_version: header.version, plaintext })
        }))
    }

    fn decrypt(
        &self,
        key: &KeyRecord,
        ciphertext: Vec<u8>,
        draft: &mut Draft,
    ) -> Result<Prepared<DecryptedData>, Error> {
        let version = key.check_use(Self::NAME, KeyUsage::EncryptDecrypt)?;
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
