//! Keystores: further tokens that keys can live on, each bound to one account.
//!
//! A configured token becomes a keystore when an account takes it; its id is the token's configured name. Keys
//! that live on it are wrapped under that token's own root key, which the service never rotates: all that
//! concerns the root keys of the service's own token passes them by.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::{
    Timestamp,
    error::Error,
    identity::{AccountId, KeystoreId},
    ports::{HsmError, HsmSession},
};

/// What a token's authentication key computes of this tells it from every other token.
const IDENTITY: &[u8] = b"dewpoint/v1/keystore-identity";

/// A keystore, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeystoreRecord {
    /// Its id: the name of its token in the configuration.
    pub id: KeystoreId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// A name for people; when it was given, no other keystore of the account had it.
    pub alias: String,
    /// Whether keys can be made and used on it.
    pub state: KeystoreState,
    /// When it was taken.
    pub created: Timestamp,
    /// Tells the token that it was taken on from one that is configured in its place later.
    pub(crate) token: [u8; 32],
}

/// Whether keys can be made and used on a keystore. DEW: keystore_state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeystoreState {
    /// They can.
    Enabled,
    /// They cannot: all calls that need its token are refused.
    Disabled,
}

impl KeystoreRecord {
    /// Refuses what needs the token while the keystore is disabled.
    pub(crate) fn check_enabled(&self) -> Result<(), Error> {
        match self.state {
            KeystoreState::Enabled => Ok(()),
            KeystoreState::Disabled => Err(Error::KeystoreDisabled),
        }
    }

    /// Refuses another token than the one that the keystore was taken on.
    pub(crate) fn check_token(&self, session: &mut dyn HsmSession) -> Result<(), Error> {
        if bool::from(identity(session)?.ct_eq(&self.token)) {
            return Ok(());
        }
        let detail =
            format!("the token that is configured as keystore {} is another one than before", self.id);
        Err(HsmError::Unavailable { function: "C_Sign", detail }.into())
    }
}

/// What tells the token of `session` from others.
pub(crate) fn identity(session: &mut dyn HsmSession) -> Result<[u8; 32], Error> {
    Ok(*session.authentication_mac(IDENTITY)?)
}
