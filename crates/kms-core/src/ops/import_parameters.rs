//! GetParametersForImport: a wrapping key for one import, and the token that names it.

use std::time::Duration;

use crate::{
    Timestamp,
    draft::Draft,
    error::{Error, Field},
    import::ImportToken,
    key::KeyId,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared},
    ports::Birth,
    service::Scope,
};

/// How long a wrapping key is valid. DEW: §3.
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

/// How material is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrappingAlgorithm {
    /// RSA-2048 with OAEP, SHA-256 and MGF1 with SHA-256, and an empty label.
    RsaesOaepSha256,
    /// The same with SHA-1 in both places.
    RsaesOaepSha1,
    /// SM2, its ciphertext in DER.
    // GB/T 32918.4 §6.1, GM/T 0009 §7.2
    Sm2Encrypt,
}

impl WrappingAlgorithm {
    /// The one with this name in DEW's API.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "RSAES_OAEP_SHA_256" => Ok(Self::RsaesOaepSha256),
            "RSAES_OAEP_SHA_1" => Ok(Self::RsaesOaepSha1),
            "SM2_ENCRYPT" => Ok(Self::Sm2Encrypt),
            _ => {
                let problem = "must be RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1 or SM2_ENCRYPT";
                Err(Error::invalid(Field::WrappingAlgorithm, problem))
            }
        }
    }
}

/// Answers what is needed to import material.
#[derive(Debug, Clone)]
pub struct GetParametersForImport {
    /// The key that waits for its material.
    pub key: KeySelector,
    /// How the material will be wrapped.
    pub algorithm: WrappingAlgorithm,
}

/// What is needed to import material.
#[derive(Debug, Clone)]
pub struct ImportParameters {
    /// The key.
    pub key_id: KeyId,
    /// Goes along with the material.
    pub token: Vec<u8>,
    /// What the material is to be wrapped under: a SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// Until when both can be used.
    pub expires: Timestamp,
}

impl Operation for GetParametersForImport {
    const NAME: OperationName = OperationName::GetParametersForImport;
    type Output = ImportParameters;

    fn birth(&self) -> Option<Birth> {
        match self.algorithm {
            // What the material is wrapped under.
            WrappingAlgorithm::RsaesOaepSha256 | WrappingAlgorithm::RsaesOaepSha1 => Some(Birth::Slow),
            WrappingAlgorithm::Sm2Encrypt => None,
        }
    }

    async fn prepare(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Prepared<ImportParameters>, Error> {
        let record = scope.key(&self.key, draft).await?;
        record.check_imported()?;
        record.check(Self::NAME, scope.now)?;
        let (key_id, expires, algorithm) = (record.id, scope.now.plus(VALIDITY), self.algorithm);
        Ok(Prepared::by_use(None, move |session, _| {
            let (token, public_key) = ImportToken::make(session, key_id, algorithm, expires)?;
            Ok(ImportParameters { key_id, token: token.seal(session)?, public_key, expires })
        }))
    }
}
