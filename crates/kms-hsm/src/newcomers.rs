//! How keys come to be in the token: key pairs are made, the log's key among them, and keys are brought that were made
//! elsewhere.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use kms_core::{
    SecretBytes,
    key::{BackingKind, WrappedKey},
    ports::{HsmError, KeyPair, LogKey},
};
use parking_lot::MutexGuard;

use crate::{
    direct::Handle,
    failure::{Trouble, refused_material},
    inventory::Inventory,
    keys::{self, Brief},
    log_key::{self, HeldLogKey, LogPair},
    pairs::{self, WrappedPair},
    session::TokenSession,
    software,
    token::{Token, at_anchor, write_out},
};

/// How long a worker waits, once in a token's life, to make the log's key while another one makes a key pair.
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
    ///
    /// Waits for no other one: `intake.rs` lets one at a time come to the workers, which have other things to do.
    pub(crate) fn birth(&self) -> Result<Birth<'_>, Trouble> {
        self.birth_within(Duration::ZERO)
    }

    fn birth_within(&self, patience: Duration) -> Result<Birth<'_>, Trouble> {
        let one = self.birth.try_lock_for(patience).ok_or(HsmError::Busy)?;
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

    /// The log's key, on stable storage; made if the token has none yet.
    pub(crate) fn create_log_key(&self) -> Result<LogKey, Trouble> {
        let held = match self.log_key.get() {
            Some(held) => held,
            None => self.make_log_key()?,
        };
        write_out(); // also one that was found: who made it may have ended before
        Ok(held.public_side.clone())
    }

    fn make_log_key(&self) -> Result<&HeldLogKey, Trouble> {
        let _one = self.birth_within(PATIENCE)?;
        let anchor = self.anchor(); // nothing else makes objects meanwhile
        if let Some(held) = self.log_key.get() {
            return Ok(held); // another worker made it while this one waited
        }
        let offered = self.capabilities().checkpoint;
        let pair = match (self.look_for_log_key(&anchor)?, offered) {
            (Some(found), _) => Some(found), // another process made it since the token was opened
            (None, Some(signature)) => {
                let label = self.config().log_key_label();
                let writable = self.writable_session()?;
                let made = log_key::make(&writable, signature, &label)?;
                // Two processes that make one at the same time both see two, and both give theirs up again.
                let made = made.map(|handle| Brief { session: &writable, handle });
                let pair = self.look_for_log_key(&anchor)?;
                if pair.is_some() {
                    let _kept = made.map(Brief::keep);
                    tracing::info!(label, "the key that signs the log's checkpoints was made");
                }
                pair
            }
            (None, None) => None,
        };
        let held = HeldLogKey::of(&anchor, self.authentication(), pair, offered).map_err(at_anchor)?;
        let held =
            held.ok_or_else(|| pairs::unsound("C_GenerateKeyPair", "the log's key is only half made"))?;
        Ok(self.log_key.get_or_init(|| held))
    }

    fn look_for_log_key(&self, anchor: &TokenSession) -> Result<Option<LogPair>, Trouble> {
        let inventory = Inventory::take(anchor, self.capabilities().wrap(), self.config());
        let inventory = inventory.map_err(Trouble::from).map_err(at_anchor)?;
        inventory.log_key().map_err(|error| pairs::unsound("C_FindObjects", &error.to_string()))
    }
}
