//! Which keys were evicted lately: a use that was under way may load them once more, but not keep them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kms_core::key::MaterialId;
use parking_lot::Mutex;

/// Longer than any call waits for the HSM: what read the key's record before the eviction has ended then.
const MEMORY: Duration = Duration::from_secs(30);
/// When so many are remembered, those that are old enough are forgotten.
const MANY: usize = 1024;

/// Materials by the time at which they were evicted last.
#[derive(Default)]
pub(crate) struct Evictions {
    times: Mutex<HashMap<MaterialId, Instant>>,
}

#[allow(
    clippy::disallowed_methods,
    reason = "how long ago something happened inside this adapter; no domain time"
)]
impl Evictions {
    pub(crate) fn note(&self, material: MaterialId) {
        let mut times = self.times.lock();
        if times.len() >= MANY {
            times.retain(|_, time| time.elapsed() < MEMORY);
        }
        times.insert(material, Instant::now());
    }

    /// Whether a key that is loaded now may be kept.
    pub(crate) fn may_stay(&self, material: MaterialId) -> bool {
        self.times.lock().get(&material).is_none_or(|time| time.elapsed() >= MEMORY)
    }
}
