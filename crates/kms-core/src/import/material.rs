//! What becomes of imported material.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::private_key::public_half;
use crate::{
    Timestamp,
    directory::Stored,
    error::Error,
    key::{KeyClass, KeyRecord, KeySpec, Scheme},
    ops::version_key::bring_version,
    ports::HsmSession,
    root::RootRecord,
    secret::SecretBytes,
    settings::Settings,
};

const EXPANSION_LABEL: &[u8] = b"dewpoint/v1/imported-backing-key";

/// What tells material that fits from other material: itself; of a key pair, whose encoding is not the only one, its
/// public half.
pub(super) fn identity(spec: KeySpec, material: &SecretBytes) -> Option<Cow<'_, [u8]>> {
    let length = match spec {
        KeySpec::Aes256 | KeySpec::Hmac256 | KeySpec::HmacSm3 => 32,
        KeySpec::Sm4 => 16,
        KeySpec::Hmac384 => 48,
        KeySpec::Hmac512 => 64,
        _ => return public_half(spec, material).map(Cow::Owned),
    };
    (material.len() == length).then(|| Cow::Borrowed(material.expose_secret()))
}

/// Makes the first version of material that [`bind`](super::bind) found to fit.
///
/// A symmetric key never seals in the HSM: its uses would be counted, and to import the same material again would
/// begin the count anew. NIST SP 800-38D §8.3.
pub(crate) fn bring(
    session: &mut dyn HsmSession,
    root: &Stored<RootRecord>,
    record: &mut KeyRecord,
    now: Timestamp,
    settings: &Settings,
    material: &SecretBytes,
) -> Result<(), Error> {
    if record.spec.class() == KeyClass::Symmetric {
        let expanded = expand(record.spec, material)?;
        return bring_version(session, root, record, now, Scheme::DerivedKey, &expanded);
    }
    bring_version(session, root, record, now, settings.scheme(record.spec), material)
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
