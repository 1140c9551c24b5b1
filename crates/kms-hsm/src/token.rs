//! The token while it is open: logged in to, its keys found and tried out; what all sessions share.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use cryptoki::error::{Error, RvError};
use kms_core::{
    SecretBytes,
    key::{BackingKey, BackingKind, MaterialId, WrappedKey},
    ports::{HsmError, LogKey, Mac},
};
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::{
    OpenError, Pkcs11Config,
    cache::{KeyCache, LoadedKey, Lookup},
    calls::{Call, Counters},
    direct::{Direct, Handle},
    door::{Door, Occupied, TokenState, load},
    evictions::Evictions,
    failure::{Damage, Failure, Place, Trouble, wrapped_key_refused},
    form::Form,
    inventory::{Inventory, RootKeys},
    keys,
    log_key::{self, HeldLogKey},
    mechanisms::Capabilities,
    offers::Offered,
    pairs::Curve,
    pin::read_pin,
    session::TokenSession,
    signing,
};

/// What is known of a token whenever it is open.
#[derive(Default)]
pub(crate) struct Lasting {
    pub(crate) evictions: Evictions,
    pub(crate) offered: Offered,
    /// A key pair is being made, which takes seconds: see `watch.rs`.
    pub(crate) gives_birth: AtomicBool,
    /// The generation of the newest root key that is known to be on the disk.
    on_disk: AtomicU32,
}

impl Lasting {
    /// Brings the newest root key to the disk, unless it is known to be there: nothing may be wrapped under it before.
    /// Who made it may have ended too early for that. Older ones beside it tell of that; one that is alone has
    /// outlived them, or its ceremony brought it there.
    fn settle(&self, roots: &BTreeMap<u32, Handle>) {
        let newest = roots.last_key_value().map_or(0, |(generation, _)| *generation);
        if roots.len() > 1 && self.on_disk.load(Ordering::Relaxed) < newest {
            write_out();
            self.on_disk.store(newest, Ordering::Relaxed);
        }
    }
}

/// What all workers share from one initialisation of the module to its end.
///
/// The fields drop in this order: the anchor closes before the module is finalised.
pub(crate) struct Token {
    /// The session that keeps the login alive and that owns every loaded key: session objects die with
    /// the session that made them. All objects are made under its lock, one at a time, because
    /// SoftHSM2 was reported to crash when threads make objects at the same time; key pairs alone are made
    /// beside it, because that takes seconds.
    anchor: Mutex<TokenSession>,
    /// Held while a key pair is made.
    pub(crate) birth: Mutex<()>,
    pub(crate) cache: KeyCache,
    pub(crate) lasting: Arc<Lasting>,
    /// By generation; never empty.
    roots: RwLock<BTreeMap<u32, Handle>>,
    newest_label: AtomicU32,
    authentication: Handle,
    /// Empty until one is made.
    pub(crate) log_key: OnceLock<HeldLogKey>,
    strangers: Vec<String>,
    capabilities: Capabilities,
    config: Arc<Pkcs11Config>,
    counters: Arc<Counters>,
    /// How many objects had been destroyed when this began.
    destroyed_before: u64,
    door: Door,
}

impl Token {
    /// Initialises the module, logs in and finds the token's keys. `may_log_in` is asked before the PIN is used.
    pub(crate) fn open(
        config: &Arc<Pkcs11Config>,
        direct: &Arc<Direct>,
        counters: &Arc<Counters>,
        lasting: &Arc<Lasting>,
        occupied: Occupied,
        may_log_in: impl FnOnce(&TokenState) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let room = NonZeroUsize::new(config.loaded_keys).ok_or(OpenError::ZeroCapacity("loaded_keys"))?;
        let door = Door::open(config, direct, counters, occupied)?;
        may_log_in(&door.token_state()?)?;
        let anchor = door.session()?;
        login(&anchor, config)?;
        let capabilities = door.capabilities(config.sm4.as_ref())?;
        let keys = Inventory::take(&anchor, capabilities.wrap(), config)?.sound_keys(config)?;
        let log_key = HeldLogKey::of(&anchor, keys.authentication, keys.log, capabilities.checkpoint)?;
        lasting.settle(&keys.roots);
        Ok(Self {
            anchor: Mutex::new(anchor),
            birth: Mutex::default(),
            cache: KeyCache::new(room),
            lasting: Arc::clone(lasting),
            roots: RwLock::new(keys.roots),
            newest_label: AtomicU32::new(keys.newest_label),
            authentication: keys.authentication,
            log_key: log_key.map_or_else(OnceLock::new, OnceLock::from),
            strangers: keys.strangers,
            capabilities,
            config: Arc::clone(config),
            counters: Arc::clone(counters),
            destroyed_before: counters.succeeded(Call::DestroyObject),
            door,
        })
    }

    /// A session for a worker.
    pub(crate) fn session(&self) -> Result<TokenSession, Failure> {
        self.door.session()
    }

    /// A session that can make and destroy token objects.
    pub(crate) fn writable_session(&self) -> Result<TokenSession, Failure> {
        self.door.writable_session()
    }

    /// The session that objects are made in, one at a time.
    pub(crate) fn anchor(&self) -> MutexGuard<'_, TokenSession> {
        self.anchor.lock()
    }

    /// The token's serial number.
    pub(crate) fn serial(&self) -> Result<String, OpenError> {
        Ok(self.door.token_state()?.serial)
    }

    /// The token's authentication key.
    pub(crate) fn authentication(&self) -> Handle {
        self.authentication
    }

    pub(crate) fn config(&self) -> &Pkcs11Config {
        &self.config
    }

    pub(crate) fn strangers(&self) -> &[String] {
        &self.strangers
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// How many objects were destroyed since the module was initialised: as many leak a little in SoftHSM2.
    pub(crate) fn destroyed(&self) -> u64 {
        self.counters.succeeded(Call::DestroyObject).saturating_sub(self.destroyed_before)
    }

    /// The generations of the root keys, rising.
    pub(crate) fn root_generations(&self) -> Vec<u32> {
        self.roots.read().keys().copied().collect()
    }

    pub(crate) fn root(&self, generation: u32) -> Result<Handle, HsmError> {
        self.roots.read().get(&generation).copied().ok_or(HsmError::RootMissing { generation })
    }

    /// The root key that wraps new keys, and its generation.
    pub(crate) fn newest_root(&self) -> Result<(u32, Handle), HsmError> {
        let roots = self.roots.read();
        let newest = roots.last_key_value().map(|(generation, root)| (*generation, *root));
        newest.ok_or(HsmError::RootMissing { generation: 1 })
    }

    pub(crate) fn form(&self, kind: BackingKind) -> Result<Form, HsmError> {
        Form::of(kind, &self.capabilities, self.config.sm4.as_ref())
    }

    /// HMAC-SHA256 under the token's authentication key.
    pub(crate) fn authentication_mac(&self, session: &TokenSession, input: &[u8]) -> Result<Mac, Failure> {
        session.sign(self.authentication, input).map_err(|failure| failure.at(Place::TokenKey))
    }

    /// The log's key, if one was made.
    pub(crate) fn log_key(&self) -> Option<&LogKey> {
        self.log_key.get().map(|held| &held.public_side)
    }

    /// Makes a backing key, wrapped under the newest root key and proved to load.
    pub(crate) fn make_wrapped_key(&self, kind: BackingKind) -> Result<WrappedKey, Trouble> {
        let form = self.form(kind)?;
        let anchor = self.anchor.lock();
        let (root_generation, root) = self.newest_root()?;
        let made = keys::make_wrapped(&anchor, form, form.wrap(&self.capabilities), root);
        Ok(WrappedKey { root_generation, blob: made.map_err(at_anchor)? })
    }

    /// The x coordinate that a loaded key agrees on with a checked point: an object is made for it.
    pub(crate) fn agree(&self, curve: Curve, key: Handle, peer: &[u8]) -> Result<SecretBytes, Trouble> {
        signing::agree(&self.anchor.lock(), curve, key, peer).map_err(|trouble| match trouble {
            // The session is everyone's; the object is only this key's.
            Trouble::Call(failure) if failure.damage() == Damage::Session => failure.at(Place::Anchor).into(),
            other => other,
        })
    }

    /// The same key wrapped under the newest root key.
    pub(crate) fn rewrap(&self, key: &BackingKey) -> Result<WrappedKey, Trouble> {
        let form = self.form(key.kind)?;
        let anchor = self.anchor.lock();
        let old_root = self.root(key.wrapped.root_generation)?;
        let (root_generation, root) = self.newest_root()?;
        let old = (old_root, &key.wrapped.blob[..]);
        let rewrap = || keys::rewrap(&anchor, form, form.wrap(&self.capabilities), old, root);
        let moved = self.unwrapping(&anchor, rewrap)?;
        Ok(WrappedKey { root_generation, blob: moved.blob })
    }

    /// The loaded form of `key`. Two workers that miss the same key load it once.
    pub(crate) fn loaded(&self, key: &BackingKey) -> Result<Arc<LoadedKey>, Trouble> {
        match self.cache.look_up(key) {
            Lookup::Loaded(loaded) => Ok(loaded),
            Lookup::Missing(_) => self.load(key),
        }
    }

    fn load(&self, key: &BackingKey) -> Result<Arc<LoadedKey>, Trouble> {
        let form = self.form(key.kind)?;
        let anchor = self.anchor.lock();
        let root = self.root(key.wrapped.root_generation)?; // under the lock: it may be destroyed
        match self.cache.look_up(key) {
            Lookup::Loaded(loaded) => Ok(loaded), // another worker loaded it while this one waited
            Lookup::Missing(missing) => {
                let load = || keys::load(&anchor, form, root, &key.wrapped.blob);
                let handle = self.unwrapping(&anchor, load)?;
                self.counters.count_load();
                Ok(self.cache.insert(key, handle, missing, self.lasting.evictions.may_stay(key.material)))
            }
        }
    }

    /// Unwraps a key, and finds out whose fault it is if that fails: if the device unwraps a key of its
    /// own but fails with this one twice, the wrapped key's.
    pub(crate) fn unwrapping<T>(
        &self,
        anchor: &TokenSession,
        unwrap: impl Fn() -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        match unwrap() {
            Err(Trouble::Call(failure)) if failure.may_blame_input() => self.prove(anchor)?,
            answer => return answer.map_err(at_anchor),
        }
        unwrap().map_err(|trouble| match trouble {
            Trouble::Call(failure) if failure.may_blame_input() => wrapped_key_refused(&failure).into(),
            other => at_anchor(other),
        })
    }

    /// Makes, wraps, unwraps and computes with a key of no other use.
    pub(crate) fn self_test(&self) -> Result<(), Trouble> {
        self.prove(&self.anchor.lock())
    }

    fn prove(&self, anchor: &TokenSession) -> Result<(), Trouble> {
        let (_, root) = self.newest_root()?;
        let made = keys::make_wrapped(anchor, Form::MAC, self.capabilities.wrap(), root);
        made.map(drop).map_err(at_anchor)
    }

    /// Makes the root key of the next generation; from then on it wraps new keys.
    pub(crate) fn create_root(&self) -> Result<u32, Trouble> {
        let anchor = self.anchor.lock(); // nothing else makes objects meanwhile
        let newest = self.newest_label.load(Ordering::Acquire);
        let generation = newest.checked_add(1).ok_or(HsmError::NotOffered { feature: "more root keys" })?;
        let label = self.config.root_key_label(generation);
        let writable = self.door.writable_session()?;
        // Also if it fails: what it left half made keeps the label.
        self.newest_label.store(generation, Ordering::Release);
        let root = keys::make_root(&writable, &label, generation)?;
        keys::make_wrapped(&anchor, Form::MAC, self.capabilities.wrap(), root).map_err(at_anchor)?;
        drop(anchor); // keys go on being loaded while the disks are written
        write_out();
        self.lasting.on_disk.fetch_max(generation, Ordering::Relaxed);
        self.roots.write().insert(generation, root);
        tracing::info!(label, "a root key was made");
        Ok(generation)
    }

    /// Destroys the root key of `generation`, and every loaded key that it wrapped.
    pub(crate) fn retire_root(&self, generation: u32) -> Result<(), Trouble> {
        let anchor = self.anchor.lock();
        if self.newest_root()?.0 == generation {
            return Err(HsmError::NotOffered { feature: "retiring the newest root key" }.into());
        }
        let Some(root) = self.roots.read().get(&generation).copied() else { return Ok(()) };
        let writable = self.door.writable_session()?;
        writable.destroy(root).map_err(|failure| failure.at(Place::TokenKey))?;
        self.roots.write().remove(&generation);
        self.cache.evict_generation(generation);
        drop(anchor);
        write_out();
        tracing::info!(label = self.config.root_key_label(generation), "a root key was destroyed");
        Ok(())
    }

    /// Forgets the loaded versions of `material`; says whether any was loaded.
    pub(crate) fn evict(&self, material: MaterialId) -> bool {
        self.cache.evict(material)
    }

    /// Destroys the objects that nobody uses any more.
    pub(crate) fn sweep(&self) {
        let retired = self.cache.take_retired();
        if retired.is_empty() {
            return;
        }
        let anchor = self.anchor.lock();
        for object in retired {
            if let Err(failure) = anchor.destroy(object) {
                let (function, detail) = (failure.function(), failure.detail());
                tracing::warn!(function, detail, "an unused key stays");
            }
        }
    }
}

pub(crate) fn at_anchor(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Call(failure) => Trouble::Call(failure.at(Place::Anchor)),
        refusal @ Trouble::Refusal(_) => refusal,
    }
}

/// Brings the token's files to the disk.
///
/// SoftHSM2 writes its files without fsync. Losing a root key would lose every key below it, so all file
/// systems are written out; where the module keeps its files is not known here.
pub(crate) fn write_out() {
    rustix::fs::sync();
}

/// Makes the root key of generation 1, the authentication key and the log's key: once in a token's life.
///
/// The root key is made last. A ceremony that was interrupted can be run again: what it left half made
/// stays on the token as a stranger, and the other keys were never used without a root key.
pub(crate) fn create_root_keys(config: &Pkcs11Config) -> Result<RootKeys, OpenError> {
    let door = Door::open(config, &load(config)?, &Arc::default(), Occupied::Refuse)?;
    let session = door.writable_session()?;
    login(&session, config)?;
    let capabilities = door.capabilities(config.sm4.as_ref())?;
    let (wrap, log_signature) = (capabilities.wrap(), capabilities.checkpoint);
    let before = Inventory::take(&session, wrap, config)?;
    before.refuse_root_keys()?;
    let (generation, root_label) = (1, config.root_key_label(1));
    let (authentication_label, log_label) = (config.authentication_key_label(), config.log_key_label());
    if !before.has_authentication() {
        keys::make_authentication(&session, &authentication_label)?;
    }
    if let (Some(signature), None) = (log_signature, before.log_key()?) {
        log_key::make(&session, signature, &log_label)?;
    }
    keys::make_root(&session, &root_label, generation)?;
    // All are tried out before anyone hears that they exist.
    let keys = Inventory::take(&session, wrap, config)?.sound_keys(config)?;
    let held = HeldLogKey::of(&session, keys.authentication, keys.log, log_signature)?;
    let log_key = held.ok_or(OpenError::RootKeysMissing { label: log_label.clone() })?.public_side;
    write_out();
    Ok(RootKeys { generation, root_label, authentication_label, log_label, log_signature, log_key })
}

pub(crate) fn login(session: &TokenSession, config: &Pkcs11Config) -> Result<(), OpenError> {
    let pin = read_pin(&config.pin_file)?;
    session.login(&pin).map_err(|failure| match failure.error {
        Error::Pkcs11(
            RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked,
            _,
        ) => OpenError::PinRefused { label: config.token_label.clone(), detail: failure.detail() },
        _ => failure.into(),
    })
}
