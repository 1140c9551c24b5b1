//! The token that a wrapping key travels in.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::{
    Timestamp,
    crypto::{SecretKey, oaep_decode},
    error::Error,
    key::{BackingKey, BackingKind, KeyId, KeySpec, MaterialId, WrappedKey},
    ops::{
        WrappingAlgorithm,
        version_key::{Place, VersionKey, seal_key},
    },
    ports::{HsmError, HsmSession},
    secret::SecretBytes,
};

const TOKEN_LABEL: &[u8] = b"dewpoint/v1/import-token";
const TOKEN_VERSION: u8 = 2;
const HEAD_BYTES: usize = 1 + 1 + 16 + 16 + 8 + 4 + 2;
const MAC_BYTES: usize = 32;
/// DEW: import_token, at most 6144 characters of base64.
const MAX_TOKEN_BYTES: usize = 4608;
/// More than any algorithm gives: RSA-2048 gives 256 bytes, and SM2 about 110 more than it is given.
const MAX_WRAPPED_BYTES: usize = 512;

/// What an import token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportToken {
    /// The key that material is to be imported for.
    key_id: KeyId,
    /// Names the wrapping key among the loaded ones.
    pub(crate) wrapping_id: MaterialId,
    algorithm: WrappingAlgorithm,
    expires: Timestamp,
    /// RSA's private key; for SM2, what `sealed` is sealed under.
    wrapped: WrappedKey,
    /// SM2's private key; else empty.
    sealed: Vec<u8>,
}

impl ImportToken {
    /// Makes a wrapping key for an import; answers its public half, too.
    pub(crate) fn make(
        session: &mut dyn HsmSession,
        key_id: KeyId,
        algorithm: WrappingAlgorithm,
        expires: Timestamp,
    ) -> Result<(Self, Vec<u8>), Error> {
        let mut name = [0; 16];
        session.fill_random(&mut name)?;
        let wrapping_id = MaterialId::of(KeyId::from_uuid(Uuid::from_bytes(name)));
        let token = |wrapped| Self { key_id, wrapping_id, algorithm, expires, wrapped, sealed: Vec::new() };
        let kind = algorithm.kind();
        if kind != BackingKind::Mac {
            let pair = session.generate_key_pair(kind)?;
            return Ok((token(pair.wrapped), pair.public_key));
        }
        let mut token = token(session.generate_backing_key(kind)?);
        let secret = SecretKey::generate(KeySpec::Sm2, session)?;
        token.sealed = seal_key(session, &token.backing_key(), &secret)?;
        Ok((token, secret.public_key_der()))
    }

    /// As it is handed out.
    pub(crate) fn seal(&self, session: &mut dyn HsmSession) -> Result<Vec<u8>, Error> {
        let wrapped_bytes = u16::try_from(self.wrapped.blob.len());
        let wrapped_bytes =
            wrapped_bytes.map_err(|_| Error::Internal { detail: "a wrapped key is too long for a token" })?;
        let mut token = [
            &[TOKEN_VERSION, self.algorithm.code()],
            &self.key_id.as_bytes()[..],
            self.wrapping_id.as_bytes(),
            &self.expires.as_micros().to_be_bytes(),
            &self.wrapped.root_generation.to_be_bytes(),
            &wrapped_bytes.to_be_bytes(),
            &self.wrapped.blob,
            &self.sealed,
        ]
        .concat();
        let mac = authenticate(session, &token)?;
        token.extend_from_slice(&mac);
        Ok(token)
    }

    /// Reads a token that is for this key and has not expired.
    pub(crate) fn open(
        session: &mut dyn HsmSession,
        token: &[u8],
        key_id: KeyId,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let parsed = Self::parse(token).ok_or(Error::ImportTokenInvalid)?;
        let (said, mac) = token.split_at(token.len() - MAC_BYTES); // as parsed
        if !bool::from(authenticate(session, said)?.ct_eq(mac)) {
            return Err(Error::ImportTokenInvalid);
        }
        match parsed {
            parsed if parsed.key_id != key_id => Err(Error::ImportTokenMismatch),
            parsed if parsed.expires <= now => Err(Error::ImportTokenExpired),
            parsed => Ok(parsed),
        }
    }

    fn parse(token: &[u8]) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (said, _) = token.split_at_checked(token.len().checked_sub(MAC_BYTES)?)?;
        let (head, keys) = said.split_at_checked(HEAD_BYTES)?;
        let id = |from: usize| Uuid::from_slice(head.get(from..from + 16)?).ok().map(KeyId::from_uuid);
        let expires = i64::from_be_bytes(head[34..42].try_into().ok()?);
        let root_generation = u32::from_be_bytes(head[42..46].try_into().ok()?);
        let wrapped_bytes = u16::from_be_bytes(head[46..48].try_into().ok()?);
        let (blob, sealed) = keys.split_at_checked(usize::from(wrapped_bytes))?;
        (head[0] == TOKEN_VERSION).then_some(())?;
        Some(Self {
            key_id: id(2)?,
            wrapping_id: MaterialId::of(id(18)?),
            algorithm: WrappingAlgorithm::from_code(head[1])?,
            expires: Timestamp::from_micros(expires),
            wrapped: WrappedKey { root_generation, blob: blob.to_vec() },
            sealed: sealed.to_vec(),
        })
    }

    /// Opens what the importing party has wrapped. Every way in which it does not open is one error.
    // RFC 8017 §7.1.2; GB/T 32918.4 §7.1
    pub(crate) fn unwrap(&self, session: &mut dyn HsmSession, wrapped: &[u8]) -> Result<SecretBytes, Error> {
        if wrapped.len() > MAX_WRAPPED_BYTES {
            return Err(Error::MaterialInvalid);
        }
        self.decrypt(session, wrapped).map_err(|error| match error {
            Error::CannotDecrypt => Error::MaterialInvalid,
            // A rotation has destroyed the root key that the token needs.
            Error::HsmUnavailable(HsmError::RootMissing { .. }) => Error::ImportTokenExpired,
            error => error,
        })
    }

    fn decrypt(&self, session: &mut dyn HsmSession, wrapped: &[u8]) -> Result<SecretBytes, Error> {
        let sealed = (self.algorithm.kind() == BackingKind::Mac).then(|| self.sealed.clone());
        let opened = match VersionKey::new(KeySpec::Sm2, self.backing_key(), sealed).place(session)? {
            Place::Opened(secret) => return secret.decrypt_sm2(wrapped),
            Place::Hsm(key) => session.decrypt_rsa(key, wrapped)?,
        };
        let material = match self.algorithm {
            WrappingAlgorithm::RsaesOaepSha1 => oaep_decode::<Sha1>(&opened),
            _ => oaep_decode::<Sha256>(&opened),
        };
        material.ok_or(Error::CannotDecrypt)
    }

    fn backing_key(&self) -> BackingKey {
        BackingKey {
            material: self.wrapping_id,
            version: 1,
            kind: self.algorithm.kind(),
            wrapped: self.wrapped.clone(),
        }
    }
}

fn authenticate(session: &mut dyn HsmSession, token: &[u8]) -> Result<[u8; 32], Error> {
    Ok(*session.authentication_mac(&[TOKEN_LABEL, &Sha256::digest(token)].concat())?)
}

impl WrappingAlgorithm {
    /// What the wrapping key is in the HSM. For SM2, a key that seals: its own rests in the token.
    const fn kind(self) -> BackingKind {
        match self {
            Self::RsaesOaepSha256 | Self::RsaesOaepSha1 => BackingKind::Rsa2048,
            Self::Sm2Encrypt => BackingKind::Mac,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::RsaesOaepSha256 => 1,
            Self::RsaesOaepSha1 => 2,
            Self::Sm2Encrypt => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        let all = [Self::RsaesOaepSha256, Self::RsaesOaepSha1, Self::Sm2Encrypt];
        all.into_iter().find(|algorithm| algorithm.code() == code)
    }
}
