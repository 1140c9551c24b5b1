//! The condition that the token is in, and the workers' seats at it.
//!
//! A worker sits at the token with a session of its own. When the token is lost, or its module has to be
//! renewed, the medic (`medic.rs`) takes every seat away, closes everything, finalises the module and
//! opens it anew: the one cure that helps against every loss. Then the workers take new seats.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use kms_core::ports::{HsmError, LogKey, Mac};
use parking_lot::{Condvar, Mutex, MutexGuard};
use subtle::ConstantTimeEq as _;

use crate::{
    OpenError, Pkcs11Config,
    calls::Counters,
    direct::Direct,
    door::{self, Occupied, TokenState},
    failure::Damage,
    random::RandomPool,
    session::TokenSession,
    token::{Lasting, Token},
};

/// How long a worker waits for a renewal that is under way. It takes some 20 ms.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(5);
/// How many doubtful answers in a row make the device prove itself.
const DOUBTS: u32 = 8;
/// What a token's authentication key computes of this tells it from every other token.
const IDENTITY: &[u8] = b"dewpoint: which token is this";

/// What a worker works with. The session drops, and so closes, before the token does.
pub(crate) struct Seat {
    pub(crate) session: TokenSession,
    pub(crate) random: RandomPool,
    pub(crate) token: Arc<Token>,
}

/// Where a worker sits.
#[derive(Default)]
pub(crate) struct Place {
    /// Held while a job runs.
    pub(crate) seat: Mutex<Option<Seat>>,
    /// Counts the beginnings and the ends of jobs: odd while one runs.
    activity: AtomicU64,
}

impl Place {
    /// Marks that a job begins or ends.
    pub(crate) fn mark(&self) {
        self.activity.fetch_add(1, Ordering::Relaxed);
    }

    /// Which job runs, if one does.
    pub(crate) fn job(&self) -> Option<u64> {
        let activity = self.activity.load(Ordering::Relaxed);
        (activity % 2 == 1).then_some(activity)
    }
}

/// What state the token is in.
pub(crate) enum Condition {
    Working(Arc<Token>),
    /// All is well, but the module has to be finalised and initialised again; the token until then.
    Renewing(Option<Arc<Token>>),
    /// The token cannot be used, and why; the token until the medic has closed it.
    Lost(HsmError, Option<Arc<Token>>),
    /// For good.
    Closed,
}

/// What workers and medic share.
pub(crate) struct Ward {
    pub(crate) config: Arc<Pkcs11Config>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) lasting: Arc<Lasting>,
    direct: Arc<Direct>,
    pub(crate) places: Vec<Place>,
    condition: Mutex<Condition>,
    changed: Condvar,
    identity: Mac,
    strangers: Vec<String>,
    newest_root: AtomicU32,
    /// Doubtful answers since the last good one.
    doubts: AtomicU32,
    /// The condition is [`Condition::Working`].
    pub(crate) works: AtomicBool,
    /// Calls do not return, and keep the pool from working: see `watch.rs`.
    pub(crate) stuck: AtomicBool,
    /// The medic's calls, as a worker's.
    pub(crate) medic: Place,
    /// At how many destroyed objects the next renewal is due.
    next_renewal: AtomicU64,
    /// The root keys that worked, and that nobody wanted destroyed since.
    roots: Mutex<BTreeSet<u32>>,
    /// The public key of the log's key, once the token has one.
    log_key: Mutex<Option<[u8; 32]>>,
    pub(crate) heals: AtomicU64,
    pub(crate) renewals: AtomicU64,
}

impl Ward {
    /// Opens the token for the first time.
    pub(crate) fn open(config: &Pkcs11Config) -> Result<Self, OpenError> {
        if config.workers == 0 {
            return Err(OpenError::ZeroCapacity("workers"));
        }
        let (config, counters, lasting) = (Arc::new(config.clone()), Arc::default(), Arc::default());
        let direct = door::load(&config)?;
        let token = Token::open(&config, &direct, &counters, &lasting, Occupied::Refuse, |_| Ok(()))?;
        let token_roots = token.root_generations().into_iter().collect();
        let missing = token.capabilities().missing();
        if !missing.is_empty() {
            tracing::info!(lacks = missing.join(", "), "the token does not offer everything");
        }
        Ok(Self {
            places: (0..config.workers).map(|_| Place::default()).collect(),
            identity: identity(&token)?,
            strangers: token.strangers().to_vec(),
            newest_root: AtomicU32::new(newest(&token)),
            log_key: Mutex::new(public_log_key(&token)),
            condition: Mutex::new(Condition::Working(Arc::new(token))),
            changed: Condvar::new(),
            doubts: AtomicU32::new(0),
            works: AtomicBool::new(true),
            stuck: AtomicBool::new(false),
            medic: Place::default(),
            next_renewal: AtomicU64::new(config.renew_after),
            roots: Mutex::new(token_roots),
            heals: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
            config,
            direct,
            counters,
            lasting,
        })
    }

    /// Opens the same token again.
    pub(crate) fn open_again(
        &self,
        may_log_in: impl FnOnce(&TokenState) -> Result<(), OpenError>,
    ) -> Result<Token, OpenError> {
        let token = Token::open(
            &self.config,
            &self.direct,
            &self.counters,
            &self.lasting,
            Occupied::Finalise,
            may_log_in,
        )?;
        let same_token = bool::from(identity(&token)?[..].ct_eq(&self.identity[..]));
        let known = *self.log_key.lock();
        let same_log_key = known.is_none() || known == public_log_key(&token);
        if !same_token || !same_log_key {
            return Err(OpenError::AnotherToken { label: self.config.token_label.clone() });
        }
        // A token of before a rotation, or one whose key failed its trial: keys would be missing.
        let found = token.root_generations();
        match self.roots.lock().iter().find(|known| !found.contains(known)) {
            Some(lost) => Err(OpenError::RootKeysMissing { label: self.config.root_key_label(*lost) }),
            None => Ok(token),
        }
    }

    /// The labels of the token's objects that are not this service's, as found at first.
    pub(crate) fn strangers(&self) -> &[String] {
        &self.strangers
    }

    /// The generation of the root key that wraps new keys.
    pub(crate) fn newest_root(&self) -> u32 {
        self.newest_root.load(Ordering::Relaxed)
    }

    /// Takes note of a new root key.
    pub(crate) fn root_made(&self, generation: u32) {
        self.newest_root.fetch_max(generation, Ordering::Relaxed);
        self.roots.lock().insert(generation);
    }

    /// Takes note of the log's key.
    pub(crate) fn log_key_made(&self, log_key: &LogKey) {
        *self.log_key.lock() = Some(log_key.public_key);
    }

    /// Takes note that an old one is to be destroyed. If it is there when the token is opened anew, it counts again.
    pub(crate) fn root_destroyed(&self, generation: u32) {
        self.roots.lock().remove(&generation);
    }

    /// The token, if it works now.
    pub(crate) fn token(&self) -> Option<Arc<Token>> {
        match &*self.condition.lock() {
            Condition::Working(token) => Some(Arc::clone(token)),
            _ => None,
        }
    }

    /// Why the token cannot be used, if it cannot.
    pub(crate) fn loss(&self) -> Option<HsmError> {
        match &*self.condition.lock() {
            Condition::Lost(error, _) => Some(error.clone()),
            _ => None,
        }
    }

    /// Gives the worker of `place` a seat. Waits for a renewal, not for a token that is lost.
    pub(crate) fn sit(&self, place: &Place) -> Result<(), HsmError> {
        loop {
            let token = self.token_to_sit_at()?;
            // Nothing is locked while the module is called: it may not return.
            let session = token.session().map_err(|failure| {
                let lost = matches!(failure.damage(), Damage::Token | Damage::Doubt);
                let error = HsmError::from(failure);
                if lost {
                    self.report(&token, &error);
                }
                error
            })?;
            let condition = self.condition.lock();
            if matches!(&*condition, Condition::Working(working) if Arc::ptr_eq(working, &token)) {
                // The medic takes seats only after it has changed the condition, which is locked.
                *place.seat.lock() = Some(Seat { session, random: RandomPool::new(), token });
                return Ok(());
            }
        }
    }

    /// Whether a worker of another place has a seat.
    pub(crate) fn another_sits(&self, place: &Place) -> bool {
        let others = self.places.iter().filter(|other| !std::ptr::eq(*other, place));
        // A seat that is locked is being worked at.
        others.map(|other| other.seat.try_lock()).any(|seat| seat.is_none_or(|seat| seat.is_some()))
    }

    fn token_to_sit_at(&self) -> Result<Arc<Token>, HsmError> {
        let mut condition = self.condition.lock();
        while matches!(&*condition, Condition::Renewing(_)) {
            if self.changed.wait_for(&mut condition, RENEWAL_PATIENCE).timed_out() {
                return Err(unavailable("C_Initialize", "the module is being renewed"));
            }
        }
        match &*condition {
            Condition::Working(token) => Ok(Arc::clone(token)),
            Condition::Lost(error, _) => Err(error.clone()),
            Condition::Renewing(_) | Condition::Closed => Err(shut_down()),
        }
    }

    /// The token of a seat is lost.
    pub(crate) fn report(&self, token: &Arc<Token>, error: &HsmError) {
        let mut condition = self.condition.lock();
        match &*condition {
            Condition::Working(working) if Arc::ptr_eq(working, token) => {
                tracing::error!(%error, "the token is lost; it is opened anew");
                *condition = Condition::Lost(error.clone(), Some(Arc::clone(token)));
                self.works.store(false, Ordering::Relaxed);
                self.changed.notify_all();
            }
            _ => {} // it was reported before
        }
    }

    /// Has the module renewed, if it has destroyed so many objects that what leaks of them is a burden.
    pub(crate) fn renew_if_due(&self, token: &Arc<Token>) {
        if token.destroyed() < self.next_renewal.load(Ordering::Relaxed) {
            return;
        }
        let mut condition = self.condition.lock();
        if matches!(&*condition, Condition::Working(working) if Arc::ptr_eq(working, token)) {
            *condition = Condition::Renewing(Some(Arc::clone(token)));
            self.works.store(false, Ordering::Relaxed);
            self.changed.notify_all();
        }
    }

    /// A renewal could not be done now: it is due again when a good part more has leaked.
    pub(crate) fn postpone_renewal(&self, token: &Token) {
        let more = (self.config.renew_after / 4).max(1);
        self.next_renewal.store(token.destroyed().saturating_add(more), Ordering::Relaxed);
    }

    /// An answer was good.
    pub(crate) fn trust(&self) {
        if self.doubts.load(Ordering::Relaxed) != 0 {
            self.doubts.store(0, Ordering::Relaxed);
        }
    }

    /// An answer was doubtful; says whether the device has to prove itself now.
    pub(crate) fn doubt(&self) -> bool {
        self.doubts.fetch_add(1, Ordering::Relaxed) + 1 >= DOUBTS
    }

    /// Puts `condition` in the place of the present one.
    pub(crate) fn set(&self, new: Condition) {
        if let Condition::Working(token) = &new {
            self.newest_root.store(newest(token), Ordering::Relaxed);
            self.roots.lock().extend(token.root_generations());
            *self.log_key.lock() = public_log_key(token);
            self.next_renewal.store(self.config.renew_after, Ordering::Relaxed);
            self.doubts.store(0, Ordering::Relaxed);
            self.works.store(true, Ordering::Relaxed);
        } else {
            self.works.store(false, Ordering::Relaxed);
        }
        let mut condition = self.condition.lock();
        if !matches!(&*condition, Condition::Closed) {
            *condition = new;
        }
        self.changed.notify_all();
    }

    /// The present condition, when `until` holds or `patience` is over, whatever else changes meanwhile.
    pub(crate) fn wait_for(
        &self,
        patience: Duration,
        until: impl Fn(&Condition) -> bool,
    ) -> MutexGuard<'_, Condition> {
        let mut condition = self.condition.lock();
        self.changed.wait_while_for(&mut condition, |condition| !until(condition), patience);
        condition
    }

    /// The present condition; waits for a change of it for at most `patience`, unless `until` holds already.
    pub(crate) fn wait(
        &self,
        patience: Duration,
        until: impl Fn(&Condition) -> bool,
    ) -> MutexGuard<'_, Condition> {
        let mut condition = self.condition.lock();
        if !until(&condition) {
            self.changed.wait_for(&mut condition, patience);
        }
        condition
    }

    /// Closes the token for good; gives it, if it was open, to be dropped when all seats are gone.
    pub(crate) fn close(&self) -> Option<Arc<Token>> {
        let closed = std::mem::replace(&mut *self.condition.lock(), Condition::Closed);
        self.changed.notify_all();
        match closed {
            Condition::Working(token) => Some(token),
            Condition::Renewing(token) | Condition::Lost(_, token) => token,
            Condition::Closed => None,
        }
    }
}

fn identity(token: &Token) -> Result<Mac, OpenError> {
    Ok(token.authentication_mac(&token.session()?, IDENTITY)?)
}

fn public_log_key(token: &Token) -> Option<[u8; 32]> {
    token.log_key().map(|log_key| log_key.public_key)
}

fn newest(token: &Token) -> u32 {
    token.root_generations().last().copied().unwrap_or_default()
}

pub(crate) fn shut_down() -> HsmError {
    unavailable("C_Finalize", "the HSM was shut down")
}

pub(crate) fn unavailable(function: &'static str, detail: &str) -> HsmError {
    HsmError::Unavailable { function, detail: detail.to_owned() }
}
