//! Import of key material: the token that a wrapping key travels in, and what becomes of the material.
//!
//! The wrapping key is a key pair that is made for one import: RSA's by the HSM; SM2's by the service, sealed under a
//! key that the HSM derives. Its private half goes along in the import token, wrapped by the root key, so nothing of it
//! is stored. The token is authenticated by the HSM.

mod check;
mod material;
mod private_key;
mod token;

pub use check::CheckKey;
pub(crate) use check::bind;
pub(crate) use material::bring;
pub(crate) use private_key::unwrap as unwrap_private_key;
pub(crate) use token::ImportToken;

use crate::{
    error::Error,
    key::{KeyOrigin, KeyRecord},
};

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
