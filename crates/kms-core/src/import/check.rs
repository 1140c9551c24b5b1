//! By what imported material is recognised when it is imported again.
//!
//! A key keeps a digest of its material, wrapped: whoever reads the store cannot try guesses. The wrapping key is
//! derived by the token, so a store that moves to another token takes the digest along under a key of the move. A MAC
//! under the token's key could not go along: nobody could compute it anew while the material is not there.

use aes_kw::{KeyInit as _, KwAes256};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::material::identity;
use crate::{
    error::Error,
    key::{KeyRecord, MaterialId},
    ports::{HsmSession, Mac},
    secret::SecretBytes,
};

const DIGEST_LABEL: &[u8] = b"dewpoint/v1/import-digest";
/// What earlier builds kept is a MAC that begins with this.
const EARLIER_LABEL: &[u8] = b"dewpoint/v1/import-check";
/// Half of its bits, 96, are the work of who makes two materials that are taken for the same: both his own.
const DIGEST_BYTES: usize = 24;
/// RFC 3394 adds eight bytes.
const CHECK_BYTES: usize = 32;
const CANNOT_WRAP: Error = Error::Internal { detail: "a digest of imported material could not be wrapped" };

/// What the digests of imported material are wrapped under: in a store, or in a backup for another token.
#[allow(missing_debug_implementations, reason = "is a key, nothing to show")]
pub struct CheckKey(KwAes256);

impl CheckKey {
    /// What the key is the HMAC-SHA256 of: in a store under the token's authentication key, in a backup under the key
    /// that seals it.
    pub const LABEL: &'static [u8] = b"dewpoint/v1/import-check-key";

    /// The key that this HMAC of [`LABEL`](Self::LABEL) is.
    pub fn new(mac: &Mac) -> Self {
        Self(KwAes256::new((&**mac).into()))
    }

    /// The one of the stores of this token.
    pub(crate) fn of_token(session: &mut dyn HsmSession) -> Result<Self, Error> {
        Ok(Self::new(&session.authentication_mac(Self::LABEL)?))
    }

    fn wrap(&self, digest: &[u8; DIGEST_BYTES]) -> Result<[u8; CHECK_BYTES], Error> {
        let mut check = [0; CHECK_BYTES];
        self.0.wrap_key(digest, &mut check).map_err(|_| CANNOT_WRAP)?;
        Ok(check)
    }

    /// The same digest under another key. `None`: it does not open under this one.
    pub(crate) fn rewrap(&self, check: &[u8; CHECK_BYTES], to: &Self) -> Option<[u8; CHECK_BYTES]> {
        let mut digest = Zeroizing::new([0; DIGEST_BYTES]);
        self.0.unwrap_key(check, &mut *digest).ok()?;
        to.wrap(&digest).ok()
    }
}

/// What `key` keeps of this material from now on. Refuses material that does not fit the key, and other material than
/// the key had before.
pub(crate) fn bind(
    session: &mut dyn HsmSession,
    key: &KeyRecord,
    material: &SecretBytes,
) -> Result<[u8; CHECK_BYTES], Error> {
    let identity = identity(key.spec, material).ok_or(Error::MaterialInvalid)?;
    let check = CheckKey::of_token(session)?.wrap(&*digest(key.material, &identity)?)?;
    let Some(before) = &key.import else { return Ok(check) };
    // DEW: KMS.2606
    let same = bool::from(before.check.ct_eq(&check))
        || is_earlier_check(session, &before.check, key.material, &identity)?;
    if same { Ok(check) } else { Err(Error::MaterialMismatch) }
}

/// Bound to its key, so that equal material of two keys is not seen to be equal.
fn digest(material: MaterialId, identity: &[u8]) -> Result<Zeroizing<[u8; DIGEST_BYTES]>, Error> {
    let keyed = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(material.as_bytes());
    let keyed = keyed.map_err(|_| Error::Internal { detail: "HMAC takes keys of any length" })?;
    let whole = Zeroizing::new(<[u8; 32]>::from(
        keyed.chain_update(DIGEST_LABEL).chain_update(identity).finalize().into_bytes(),
    ));
    let mut digest = Zeroizing::new([0; DIGEST_BYTES]);
    digest.copy_from_slice(&whole[..DIGEST_BYTES]);
    Ok(digest)
}

/// Whether an earlier build kept this of it: good on the token that made it only.
fn is_earlier_check(
    session: &mut dyn HsmSession,
    check: &[u8; CHECK_BYTES],
    material: MaterialId,
    identity: &[u8],
) -> Result<bool, Error> {
    let mut input = SecretBytes::zeroed(EARLIER_LABEL.len() + 16 + identity.len());
    let (label, rest) = input.expose_secret_mut().split_at_mut(EARLIER_LABEL.len());
    label.copy_from_slice(EARLIER_LABEL);
    rest[..16].copy_from_slice(material.as_bytes());
    rest[16..].copy_from_slice(identity);
    Ok(session.authentication_mac(input.expose_secret())?.ct_eq(check).into())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        key::KeyId,
        testing::hsm::{FakeHsm, on_session},
    };

    fn key(byte: u8) -> CheckKey {
        CheckKey::new(&Zeroizing::new([byte; 32]))
    }

    #[test]
    fn a_digest_is_the_same_under_another_key_and_does_not_open_under_a_wrong_one() {
        let digest = [7; DIGEST_BYTES];
        let [source, passage, target] = [1, 2, 3].map(key);
        let kept = source.wrap(&digest).expect("wraps");
        let moved = source.rewrap(&kept, &passage).expect("its own");
        assert_ne!(moved, kept);
        assert_eq!(passage.rewrap(&moved, &target), Some(target.wrap(&digest).expect("wraps")));
        assert_eq!(target.rewrap(&kept, &passage), None);
        for byte in 0..CHECK_BYTES {
            let mut altered = kept;
            altered[byte] ^= 1;
            assert_eq!(source.rewrap(&altered, &passage), None, "byte {byte}");
        }
    }

    #[test]
    fn what_an_earlier_build_kept_recognises_its_material_and_no_other() {
        let material = MaterialId::of(KeyId::from_uuid(Uuid::from_u128(7)));
        let kept = [EARLIER_LABEL, &material.as_bytes()[..], &[9; 32]].concat();
        let recognised = on_session(&FakeHsm::new(), move |session| {
            let kept = *session.authentication_mac(&kept).expect("the fake works");
            [[9; 32], [8; 32]].map(|identity| is_earlier_check(session, &kept, material, &identity))
        });
        assert_eq!(recognised, [Ok(true), Ok(false)]);
    }
}
