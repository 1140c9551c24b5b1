//! How keys come to be in the token: key pairs are made, and keys are brought that were made elsewhere.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use kms_core::{
    SecretBytes,
    key::{BackingKind, WrappedKey},
    ports::{HsmError, KeyPair},
};
use parking_lot::MutexGuard;

use crate::{
    direct::Handle,
    failure::{Trouble, refused_material},
    keys,
    pairs::{self, WrappedPair},
    session::TokenSession,
    software,
    token::{Token, at_anchor},
};

/// How long a worker waits while another one makes a key pair: RSA keys take seconds, and workers that all wait
/// for one would be taken to hang.
const PATIENCE: Duration = Duration::from_secs(1);

/// A session on which a key pair is made; only one at a time.
pub(crate) struct Birth<'a> {
    /// It closes, and with it goes what it made, before another begins.
    pub(crate) session: TokenSession,
    under_way: &'a AtomicBool,
    _one: MutexGuard<'a, ()>,
}

impl Drop for Birth<'_> {
    fn drop(&mut self) {
        self.under_way.store(false, Ordering::Relaxed);
    }
}

impl Token {
    /// Begins to make a key pair, beside the anchor: meanwhile keys go on being loaded.
    pub(crate) fn birth(&self) -> Result<Birth<'_>, Trouble> {
        let one = self.birth.try_lock_for(PATIENCE).ok_or(HsmError::Busy)?;
        let (session, under_way) = (self.session()?, &self.lasting.gives_birth);
        under_way.store(true, Ordering::Relaxed);
        Ok(Birth { session, under_way, _one: one })
    }

    /// Makes a key pair, its private key wrapped under the newest root key and proved.
    pub(crate) fn make_pair(&self, kind: BackingKind) -> Result<KeyPair, Trouble> {
        self.require(kind)?;
        let form = self.form(kind)?;
        let pair = form.pair()?;
        let birth = self.birth()?;
        let newborn = pairs::generate(&birth.session, pair, true)?;
        self.under_root(|_, root| {
            pairs::seal_up(&birth.session, (form, pair), form.wrap(self.capabilities()), root, newborn)
        })
    }

    /// Makes a key pair that is given out and of which nothing stays.
    pub(crate) fn make_data_pair(&self, kind: BackingKind) -> Result<(SecretBytes, Vec<u8>), Trouble> {
        self.require(kind)?;
        let pair = self.form(kind)?.pair()?;
        pairs::give_out(&self.birth()?.session, pair)
    }

    /// Brings a secret key in, wrapped under the newest root key and proved.
    pub(crate) fn import(&self, kind: BackingKind, material: &SecretBytes) -> Result<WrappedKey, Trouble> {
        self.require(kind)?;
        let form = self.form(kind)?;
        let anchor = self.anchor();
        let (root_generation, root) = self.newest_root()?;
        let brought = keys::import_wrapped(&anchor, form, form.wrap(self.capabilities()), root, material);
        Ok(WrappedKey { root_generation, blob: brought.map_err(refused_material).map_err(at_anchor)? })
    }

    /// Brings a private key in, wrapped under the newest root key and proved.
    pub(crate) fn import_pair(
        &self,
        kind: BackingKind,
        private_key: &SecretBytes,
    ) -> Result<KeyPair, Trouble> {
        self.require(kind)?;
        let form = self.form(kind)?;
        let pair = form.pair()?;
        let parsed = software::parse(pair, private_key.expose_secret())
            .ok_or(HsmError::InvalidMaterial { problem: "no PKCS#8 of such a key" })?;
        self.under_root(|anchor, root| {
            pairs::import(anchor, (form, pair), form.wrap(self.capabilities()), root, parsed)
                .map_err(refused_material)
                .map_err(at_anchor)
        })
    }

    /// Wraps a private key under the newest root key, which stays the newest meanwhile.
    fn under_root(
        &self,
        wrap: impl FnOnce(&TokenSession, Handle) -> Result<WrappedPair, Trouble>,
    ) -> Result<KeyPair, Trouble> {
        let anchor = self.anchor();
        let (root_generation, root) = self.newest_root()?;
        let WrappedPair { blob, public_key } = wrap(&anchor, root)?;
        Ok(KeyPair { wrapped: WrappedKey { root_generation, blob }, public_key })
    }
}
