//! The token: found, logged in to, its keys found and tried out; what all sessions share.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cryptoki::{
    error::{Error, RvError},
    object::ObjectHandle,
};
use kms_core::{
    key::{BackingKey, WrappedKey},
    ports::HsmError,
};
use parking_lot::Mutex;

use crate::{
    OpenError, Pkcs11Config,
    cache::{KeyCache, LoadedKey, Lookup},
    calls::Counters,
    door::Door,
    failure::Failure,
    inventory::{Inventory, RootKeys},
    keys,
    pin::read_pin,
    session::{TokenSession, WrapMechanism},
};

/// What all workers share.
///
/// The fields drop in this order: the anchor closes before the module is finalised.
pub(crate) struct Token {
    /// The session that keeps the login alive and that owns every loaded key: session objects die with
    /// the session that made them. All objects are made under its lock, one at a time, because
    /// SoftHSM2 was reported to crash when threads make objects at the same time.
    anchor: Mutex<TokenSession>,
    pub(crate) cache: KeyCache,
    roots: BTreeMap<u32, ObjectHandle>,
    authentication: ObjectHandle,
    strangers: Vec<String>,
    wrap: WrapMechanism,
    loads: AtomicU64,
    door: Door,
}

impl Token {
    /// Opens the token and finds its keys.
    pub(crate) fn open(config: &Pkcs11Config) -> Result<Self, OpenError> {
        let room = NonZeroUsize::new(config.loaded_keys).ok_or(OpenError::ZeroCapacity("loaded_keys"))?;
        let door = Door::open(config)?;
        let anchor = door.session()?;
        login(&anchor, config)?;
        let wrap = door.wrap_mechanism()?;
        let keys = Inventory::take(&anchor, wrap, config)?.sound_keys(config)?;
        Ok(Self {
            anchor: Mutex::new(anchor),
            cache: KeyCache::new(room),
            roots: keys.roots,
            authentication: keys.authentication,
            strangers: keys.strangers,
            wrap,
            loads: AtomicU64::new(0),
            door,
        })
    }

    /// A session for a worker.
    pub(crate) fn session(&self) -> Result<TokenSession, Failure> {
        self.door.session()
    }

    pub(crate) fn authentication(&self) -> ObjectHandle {
        self.authentication
    }

    pub(crate) fn strangers(&self) -> &[String] {
        &self.strangers
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.door.counters()
    }

    /// How many keys were unwrapped for use.
    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// The generation that wraps new keys: the newest one.
    pub(crate) fn root_generation(&self) -> u32 {
        self.roots.last_key_value().map_or(0, |(generation, _)| *generation)
    }

    fn root(&self, generation: u32) -> Result<ObjectHandle, HsmError> {
        self.roots.get(&generation).copied().ok_or(HsmError::RootMissing { generation })
    }

    /// Makes a backing key, wrapped under the newest root key and proved to load.
    pub(crate) fn make_wrapped_key(&self) -> Result<WrappedKey, HsmError> {
        let root_generation = self.root_generation();
        let root = self.root(root_generation)?;
        let blob = keys::make_wrapped(&self.anchor.lock(), self.wrap, root)?;
        Ok(WrappedKey { root_generation, blob })
    }

    /// The loaded form of `key`. Two workers that miss the same key load it once.
    pub(crate) fn loaded(&self, key: &BackingKey) -> Result<Arc<LoadedKey>, HsmError> {
        match self.cache.look_up(key) {
            Lookup::Loaded(loaded) => Ok(loaded),
            Lookup::Missing(_) => self.load(key),
        }
    }

    fn load(&self, key: &BackingKey) -> Result<Arc<LoadedKey>, HsmError> {
        let root = self.root(key.wrapped.root_generation)?;
        let anchor = self.anchor.lock();
        match self.cache.look_up(key) {
            Lookup::Loaded(loaded) => Ok(loaded), // another worker loaded it while this one waited
            Lookup::Missing(missing) => {
                let handle = keys::load(&anchor, self.wrap, root, &key.wrapped.blob)?;
                self.loads.fetch_add(1, Ordering::Relaxed);
                Ok(self.cache.insert(key, handle, missing))
            }
        }
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
                tracing::warn!(
                    function = failure.function(),
                    detail = failure.detail(),
                    "an unused key stays"
                );
            }
        }
    }
}

/// Makes the root key of generation 1 and the authentication key: once in a token's life.
///
/// The root key is made last. A ceremony that was interrupted can be run again: what it left half made
/// stays on the token as a stranger, and an authentication key without a root key was never used.
pub(crate) fn create_root_keys(config: &Pkcs11Config) -> Result<RootKeys, OpenError> {
    let door = Door::open(config)?;
    let session = door.writable_session()?;
    login(&session, config)?;
    let wrap = door.wrap_mechanism()?;
    let before = Inventory::take(&session, wrap, config)?;
    before.refuse_root_keys()?;
    let made = RootKeys {
        generation: 1,
        root_label: config.root_key_label(1),
        authentication_label: config.authentication_key_label(),
    };
    if !before.has_authentication() {
        keys::make_authentication(&session, &made.authentication_label)?;
    }
    keys::make_root(&session, &made.root_label, made.generation)?;
    // Both are tried out before anyone hears that they exist.
    Inventory::take(&session, wrap, config)?.sound_keys(config)?;
    // SoftHSM2 writes its files without fsync. Losing the root key would lose every key below it, so
    // all file systems are written out once; where the module keeps its files is not known here.
    rustix::fs::sync();
    Ok(made)
}

fn login(session: &TokenSession, config: &Pkcs11Config) -> Result<(), OpenError> {
    let pin = read_pin(&config.pin_file)?;
    session.login(&pin).map_err(|failure| match failure.error {
        Error::Pkcs11(
            RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked
            | RvError::UserPinNotInitialized,
            _,
        ) => OpenError::PinRefused { label: config.token_label.clone(), detail: failure.detail() },
        _ => failure.into(),
    })
}
