//! The backing keys that are loaded: which they are, which was used last, and which have to go.

use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc};

use kms_core::key::{BackingKey, BackingKind, MaterialId, WrappedKey};
use lru::LruCache;
use parking_lot::Mutex;

use crate::direct::Handle;

/// A name under which a key is loaded: material and version.
type Name = (MaterialId, u32);

/// A loaded backing key. Whoever uses it holds it; when nobody does, its object is retired.
pub(crate) struct LoadedKey {
    handle: Handle,
    kind: BackingKind,
    /// What it was loaded from: the same name with another blob is another key.
    wrapped: WrappedKey,
    retired: Arc<Retired>,
}

impl LoadedKey {
    /// Valid as long as the loaded key is held.
    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for LoadedKey {
    fn drop(&mut self) {
        self.retired.objects.lock().push(self.handle);
    }
}

/// Objects that nobody uses any more and that are to be destroyed by a thread that may call the HSM.
#[derive(Default)]
struct Retired {
    objects: Mutex<Vec<Handle>>,
}

/// The loaded keys, at most as many as there is room for.
pub(crate) struct KeyCache {
    state: Mutex<State>,
    retired: Arc<Retired>,
}

struct State {
    keys: LruCache<Name, Arc<LoadedKey>>,
    /// The same names in order, so that all versions of a material are found at once.
    names: BTreeSet<Name>,
    /// How often keys were evicted by name: a key that was loading meanwhile must not be kept.
    evictions: u64,
}

/// What the cache says about a key.
pub(crate) enum Lookup {
    /// It is loaded.
    Loaded(Arc<LoadedKey>),
    /// It is not.
    Missing(Missing),
}

/// Proof of having looked a key up in vain, needed to put it in.
#[derive(Clone, Copy)]
pub(crate) struct Missing {
    evictions: u64,
}

impl KeyCache {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        let state = State { keys: LruCache::new(capacity), names: BTreeSet::new(), evictions: 0 };
        Self { state: Mutex::new(state), retired: Arc::default() }
    }

    pub(crate) fn look_up(&self, key: &BackingKey) -> Lookup {
        let mut state = self.state.lock();
        match state.keys.get(&name(key)) {
            Some(loaded) if loaded.wrapped == key.wrapped && loaded.kind == key.kind => {
                Lookup::Loaded(Arc::clone(loaded))
            }
            _ => Lookup::Missing(Missing { evictions: state.evictions }),
        }
    }

    /// Takes over the object that `key` was loaded as. It stays in the cache if it may, unless keys were
    /// evicted since `missing`, for it may be one of those.
    pub(crate) fn insert(
        &self,
        key: &BackingKey,
        handle: Handle,
        missing: Missing,
        may_stay: bool,
    ) -> Arc<LoadedKey> {
        let retired = Arc::clone(&self.retired);
        let loaded = Arc::new(LoadedKey { handle, kind: key.kind, wrapped: key.wrapped.clone(), retired });
        let mut state = self.state.lock();
        if may_stay && state.evictions == missing.evictions {
            state.keep(name(key), Arc::clone(&loaded));
        }
        loaded
    }

    /// Forgets all versions of `material`; says whether any was loaded.
    pub(crate) fn evict(&self, material: MaterialId) -> bool {
        let mut state = self.state.lock();
        state.evictions += 1;
        let names: Vec<_> = state.names.range((material, 0)..=(material, u32::MAX)).copied().collect();
        for name in &names {
            state.remove(name);
        }
        !names.is_empty()
    }

    /// Forgets all keys that the root key of this generation wrapped.
    pub(crate) fn evict_generation(&self, generation: u32) {
        let mut state = self.state.lock();
        state.evictions += 1;
        let of_generation = |loaded: &LoadedKey| loaded.wrapped.root_generation == generation;
        let names: Vec<_> =
            state.keys.iter().filter_map(|(name, loaded)| of_generation(loaded).then_some(*name)).collect();
        for name in &names {
            state.remove(name);
        }
    }

    /// Forgets one loaded key, because its object is gone.
    pub(crate) fn forget(&self, key: &BackingKey, loaded: &Arc<LoadedKey>) {
        let mut state = self.state.lock();
        if state.keys.peek(&name(key)).is_some_and(|kept| Arc::ptr_eq(kept, loaded)) {
            state.remove(&name(key));
        }
    }

    /// The objects to destroy, each given out once.
    pub(crate) fn take_retired(&self) -> Vec<Handle> {
        std::mem::take(&mut *self.retired.objects.lock())
    }

    /// How many keys are loaded.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().keys.len()
    }
}

impl State {
    fn keep(&mut self, name: Name, loaded: Arc<LoadedKey>) {
        if let Some((displaced, _)) = self.keys.push(name, loaded) {
            self.names.remove(&displaced);
        }
        self.names.insert(name);
    }

    fn remove(&mut self, name: &Name) {
        self.keys.pop(name);
        self.names.remove(name);
    }
}

fn name(key: &BackingKey) -> Name {
    (key.material, key.version)
}
