//! Import of key material: the token that a wrapping key travels in, and what becomes of the material.
//!
//! The wrapping key is a key pair that the HSM makes for one import. Its private half goes along in the import token,
//! wrapped by the root key, so nothing of it is stored. The token is authenticated by the HSM.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    Timestamp,
    crypto::oaep_decode,
    error::Error,
    key::{
        BackingKey, BackingKind, KeyClass, KeyId, KeyOrigin, KeyRecord, KeySpec, MaterialId, Scheme,
        WrappedKey,
    },
    ports::{HsmError, HsmSession},
    secret::SecretBytes,
};

/// What wraps imported material.
const WRAPPING_KIND: BackingKind = BackingKind::Rsa2048;
const TOKEN_LABEL: &[u8] = b"dewpoint/v1/import-token";
const CHECK_LABEL: &[u8] = b"dewpoint/v1/import-check";
const EXPANSION_LABEL: &[u8] = b"dewpoint/v1/imported-backing-key";
const TOKEN_VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 16 + 16 + 8 + 4;
const MAC_BYTES: usize = 32;
/// DEW: import_token, at most 6144 characters of base64.
const MAX_TOKEN_BYTES: usize = 4608;

/// What an import token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportToken {
    /// The key that material is to be imported for.
    key_id: KeyId,
    /// Names the wrapping key among the loaded ones.
    pub(crate) wrapping_id: MaterialId,
    expires: Timestamp,
    wrapped: WrappedKey,
}

impl ImportToken {
    /// Makes a wrapping key for an import; answers its public half, too.
    pub(crate) fn make(
        session: &mut dyn HsmSession,
        key_id: KeyId,
        expires: Timestamp,
    ) -> Result<(Self, Vec<u8>), Error> {
        let mut name = [0; 16];
        session.fill_random(&mut name)?;
        let wrapping_id = MaterialId::of(KeyId::from_uuid(Uuid::from_bytes(name)));
        let pair = session.generate_key_pair(WRAPPING_KIND)?;
        Ok((Self { key_id, wrapping_id, expires, wrapped: pair.wrapped }, pair.public_key))
    }

    /// As it is handed out.
    pub(crate) fn seal(&self, session: &mut dyn HsmSession) -> Result<Vec<u8>, Error> {
        let mut token = [
            &[TOKEN_VERSION],
            &self.key_id.as_bytes()[..],
            self.wrapping_id.as_bytes(),
            &self.expires.as_micros().to_be_bytes(),
            &self.wrapped.root_generation.to_be_bytes(),
            &self.wrapped.blob,
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
        if token.len() > MAX_TOKEN_BYTES || token.len() <= HEAD_BYTES + MAC_BYTES {
            return None;
        }
        let (head, rest) = token.split_at(HEAD_BYTES);
        let id = |from: usize| Uuid::from_slice(head.get(from..from + 16)?).ok().map(KeyId::from_uuid);
        let expires = i64::from_be_bytes(head[33..41].try_into().ok()?);
        let root_generation = u32::from_be_bytes(head[41..45].try_into().ok()?);
        (head[0] == TOKEN_VERSION).then_some(())?;
        Some(Self {
            key_id: id(1)?,
            wrapping_id: MaterialId::of(id(17)?),
            expires: Timestamp::from_micros(expires),
            wrapped: WrappedKey { root_generation, blob: rest[..rest.len() - MAC_BYTES].to_vec() },
        })
    }

    /// Opens material that the importing party has wrapped. Every way in which it does not open is one error.
    // RFC 8017 §7.1.2
    pub(crate) fn unwrap(&self, session: &mut dyn HsmSession, wrapped: &[u8]) -> Result<SecretBytes, Error> {
        let key = BackingKey {
            material: self.wrapping_id,
            version: 1,
            kind: WRAPPING_KIND,
            wrapped: self.wrapped.clone(),
        };
        let block = session.decrypt_rsa(&key, wrapped).map_err(|error| match error {
            HsmError::NotAuthentic | HsmError::InvalidMaterial { .. } => Error::MaterialInvalid,
            // A rotation has destroyed the root key that the token needs.
            HsmError::RootMissing { .. } => Error::ImportTokenExpired,
            error => error.into(),
        })?;
        oaep_decode::<Sha256>(&block).ok_or(Error::MaterialInvalid)
    }
}

fn authenticate(session: &mut dyn HsmSession, token: &[u8]) -> Result<[u8; 32], Error> {
    Ok(*session.authentication_mac(&[TOKEN_LABEL, &Sha256::digest(token)].concat())?)
}

/// By what the same material is recognised when it is imported again: a MAC, so that nobody can try guesses.
pub(crate) fn check(
    session: &mut dyn HsmSession,
    of: MaterialId,
    material: &SecretBytes,
) -> Result<[u8; 32], Error> {
    let mut input = SecretBytes::zeroed(CHECK_LABEL.len() + 16 + material.len());
    let (label, rest) = input.expose_secret_mut().split_at_mut(CHECK_LABEL.len());
    label.copy_from_slice(CHECK_LABEL);
    rest[..16].copy_from_slice(of.as_bytes());
    rest[16..].copy_from_slice(material.expose_secret());
    Ok(*session.authentication_mac(input.expose_secret())?)
}

/// What imported material of this length becomes in the HSM: where it works, as what, and of which bytes.
///
/// A symmetric key never seals in the HSM: its uses would be counted, and to import the same material again would
/// begin the count anew. NIST SP 800-38D §8.3.
pub(crate) fn backing(
    spec: KeySpec,
    material: SecretBytes,
) -> Result<(Scheme, BackingKind, SecretBytes), Error> {
    let expected = match spec {
        KeySpec::Aes256 | KeySpec::Hmac256 => 32,
        KeySpec::Sm4 => 16,
        KeySpec::Hmac384 => 48,
        KeySpec::Hmac512 => 64,
        _ => return Err(Error::NotOffered { feature: "the import of keys of this kind" }),
    };
    if material.len() != expected {
        return Err(Error::MaterialInvalid);
    }
    Ok(match spec.class() {
        KeyClass::Symmetric => (Scheme::DerivedKey, BackingKind::Mac, expand(spec, &material)?),
        _ => (Scheme::InHsm, BackingKind::of(spec, Scheme::InHsm), material),
    })
}

/// The backing key of imported material: always 32 bytes, and not the material itself.
// NIST SP 800-108 §4.1: counter mode, HMAC-SHA256, one block.
fn expand(spec: KeySpec, material: &SecretBytes) -> Result<SecretBytes, Error> {
    let keyed = Hmac::<Sha256>::new_from_slice(material.expose_secret());
    let keyed = keyed.map_err(|_| Error::Internal { detail: "HMAC takes keys of any length" })?;
    let block = keyed
        .chain_update(1u32.to_be_bytes())
        .chain_update(EXPANSION_LABEL)
        .chain_update([0])
        .chain_update(spec.name())
        .chain_update(256u32.to_be_bytes());
    let expanded = Zeroizing::new(<[u8; 32]>::from(block.finalize().into_bytes()));
    Ok(SecretBytes::new(expanded.to_vec()))
}

impl KeyRecord {
    /// Refuses keys whose material is not imported here.
    // DEW: KMS.0309, KMS.0339, KMS.1404
    pub(crate) fn check_imported(&self) -> Result<(), Error> {
        if self.origin != KeyOrigin::External {
            return Err(Error::ExternalKeyRequired);
        }
        if self.keystore.is_some() {
            return Err(Error::KeystoreUnsupported);
        }
        Ok(())
    }
}
