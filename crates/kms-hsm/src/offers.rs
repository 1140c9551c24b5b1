//! Which kinds of keys the token really works with: found out by working with one, and remembered.

use std::collections::HashMap;

use kms_core::{
    key::BackingKind,
    ports::{DigestAlgorithm, HsmError, SigningMechanism},
};
use parking_lot::Mutex;

use crate::{
    direct::Handle,
    failure::{Damage, Trouble},
    form::{Form, Task},
    keys::{self, Brief},
    mechanisms::WrapMechanism,
    pairs::{self, Pair, WrappedPair},
    session::TokenSession,
    signing::{self, SignatureRequest},
    token::Token,
};

/// What was found out, as long as the process works with this token.
#[derive(Default)]
pub(crate) struct Offered {
    kinds: Mutex<HashMap<BackingKind, bool>>,
}

impl Token {
    /// Whether the token makes, wraps, loads and uses keys of this kind.
    ///
    /// A mechanism does not say which curves it knows, nor whether its keys can be wrapped. RSA is tried with
    /// short keys only: its mechanism tells the longest.
    pub(crate) fn offers(&self, kind: BackingKind) -> Result<bool, Trouble> {
        let form = match self.form(kind) {
            Ok(form) => form,
            Err(HsmError::NotOffered { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let tried = match (kind, form.task) {
            (BackingKind::HmacSha384 | BackingKind::HmacSha512, _) => kind,
            (_, Task::Pair(Pair::Rsa { .. })) => BackingKind::Rsa2048,
            (_, Task::Pair(_)) => kind,
            _ => return Ok(true), // its mechanism says all
        };
        let known = |token: &Self| token.lasting.offered.kinds.lock().get(&tried).copied();
        if let Some(known) = known(self) {
            return Ok(known);
        }
        let birth = self.birth()?;
        if let Some(known) = known(self) {
            return Ok(known); // another worker has just found it out
        }
        let form = self.form(tried)?;
        let works = match try_out(&birth.session, form, form.wrap(self.capabilities())) {
            Ok(()) => true,
            Err(trouble) => {
                self.is_refusal(kind, trouble)?;
                false
            }
        };
        self.lasting.offered.kinds.lock().insert(tried, works);
        Ok(works)
    }

    /// Fails unless a trial failed because the token cannot do it: the device works otherwise.
    fn is_refusal(&self, kind: BackingKind, trouble: Trouble) -> Result<(), Trouble> {
        let error = match trouble {
            Trouble::Call(failure) => match failure.damage() {
                Damage::None | Damage::Doubt => HsmError::from(failure),
                Damage::Object | Damage::Session | Damage::Token => return Err(failure.into()),
            },
            Trouble::Refusal(error) => error,
        };
        self.self_test()?;
        tracing::info!(?kind, %error, "the token does not work with keys of a kind whose mechanisms it has");
        Ok(())
    }

    /// Fails if the token does not offer keys of this kind.
    pub(crate) fn require(&self, kind: BackingKind) -> Result<(), Trouble> {
        if self.offers(kind)? {
            Ok(())
        } else {
            self.form(kind)?; // says what is missing, if that is known
            Err(HsmError::NotOffered { feature: "keys of this kind" }.into())
        }
    }
}

/// Makes, wraps, loads and uses a key of no other use.
pub(crate) fn try_out(session: &TokenSession, form: Form, wrap: WrapMechanism) -> Result<(), Trouble> {
    let Task::Pair(pair) = form.task else { return keys::prove_device(session, form, wrap) };
    let root = Brief { session, handle: keys::make_passing_root(session)? };
    let newborn = pairs::generate(session, pair, true)?;
    let made = pairs::seal_up(session, (form, pair), wrap, root.handle, newborn)?;
    let loaded = Brief { session, handle: keys::load(session, form, root.handle, &made.blob)? };
    use_it(session, pair, loaded.handle, &made)
}

/// Everything that a key does besides the signature that proves it.
fn use_it(session: &TokenSession, pair: Pair, key: Handle, made: &WrappedPair) -> Result<(), Trouble> {
    match pair {
        Pair::Rsa { modulus_bytes } => {
            signing::prove_decryption(session, key, modulus_bytes)?;
            let mechanism = SigningMechanism::RsaPss(DigestAlgorithm::Sha256);
            SignatureRequest::new(pair, mechanism, &[0; 32])?.sign(session, key).map(drop)
        }
        Pair::Ec(curve) => {
            let point = 2 * curve.bytes() + 1; // the public key ends with it
            let peer = &made.public_key[made.public_key.len().saturating_sub(point)..];
            signing::agree(session, curve, key, peer).map(drop)
        }
        Pair::Ed25519 => Ok(()),
    }
}
