//! Carries rotations of the root key out in the background: moves the keys, then retires the old root keys.
//!
//! What is to be done stands in the store, so a rotation goes on by itself after a kill.

use std::{mem, sync::Arc, time::Duration};

use kms_core::{
    Error, OldKeys, Refused, Service,
    key::KeyId,
    ports::{Clock, HsmError},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::{JoinSet, yield_now},
    time::sleep,
};

use crate::server::stopped;

/// How many keys are moved at the same time, so that they share commits of store and log.
const IN_FLIGHT: usize = 16;
/// How many keys one read of the store takes.
const PAGE: usize = 256;
/// How often the store is asked for a rotation that nobody told of.
const IDLE_LOOK: Duration = Duration::from_secs(5);
/// How soon it is tried again after a fault, at first and at last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How often it is looked whether slow calls have ended.
const SLOW_CALLS_LOOK: Duration = Duration::from_millis(100);
/// How soon it is tried again with keys that could not be moved.
const BLOCKED_LOOK: Duration = Duration::from_secs(60);

/// How far the rotation has come, as far as this process knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// The generation that keys move under.
    generation: u32,
    /// Keys that were moved.
    pub moved: usize,
    /// Keys that are to be moved, those that cannot be among them.
    pub left: usize,
    /// Keys that cannot be moved.
    pub blocked: usize,
    /// Whether all keys are moved.
    pub all_moved: bool,
    /// What keeps it from going on.
    pub problem: Option<String>,
}

/// The rotation of this process's service.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// How long a call may be on its way to the HSM.
    patience: Duration,
    /// Held by every call under way that may be on its way for longer.
    slow_calls: Mutex<Arc<()>>,
    changed: Notify,
    progress: Mutex<Progress>,
    moved_in_all: Mutex<u64>,
}

/// A call that may be on its way to the HSM for longer than others: the root keys that it began with stay until it has ended.
#[derive(Debug)]
pub(crate) struct SlowCall {
    _counted: Arc<()>,
}

impl Rotation {
    /// No call waits longer than `patience` for the HSM, but for [slow](Self::slow_call) ones.
    pub(crate) fn new(patience: Duration) -> Self {
        let (slow_calls, changed, progress, moved_in_all) = Default::default();
        Self { patience, slow_calls, changed, progress, moved_in_all }
    }

    /// To be kept by a call that may wait longer, from before it reads a key's record to its end.
    pub(crate) fn slow_call(&self) -> SlowCall {
        SlowCall { _counted: self.slow_calls.lock().clone() }
    }

    /// Tells it that the store's record of the root keys has changed.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }

    /// How far the rotation to this generation has come.
    pub(crate) fn progress_to(&self, generation: u32) -> Progress {
        Some(self.progress()).filter(|known| known.generation == generation).unwrap_or_default()
    }

    /// Keys that were moved since the process started.
    pub(crate) fn moved_in_all(&self) -> u64 {
        *self.moved_in_all.lock()
    }

    fn set_problem(&self, problem: Option<String>) {
        self.progress.lock().problem = problem;
    }

    fn all_moved(&self) {
        let mut progress = self.progress.lock();
        (progress.all_moved, progress.problem) = (true, None);
    }

    fn moved_one(&self) {
        *self.moved_in_all.lock() += 1;
        let mut progress = self.progress.lock();
        progress.moved += 1;
        progress.left = progress.left.saturating_sub(1);
    }
}

/// How far one look at the store led.
#[derive(Debug, PartialEq, Eq)]
enum Led {
    /// There is nothing to do, until somebody asks for something.
    Nowhere,
    /// To keys that cannot be moved: the old root keys stay.
    ToBlockedKeys,
    /// The service is to stop.
    ToTheEnd,
}

/// Looks for rotations and carries them out until the service stops. A change that it has begun is driven to
/// its end: it stops between changes only.
pub(crate) async fn drive(
    rotation: Arc<Rotation>,
    service: Arc<Service>,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) {
    let mut driver = Driver { rotation, service, clock, stop };
    let mut backoff = BACKOFF.0;
    loop {
        let wait = match driver.carry_on().await {
            Ok(Led::ToTheEnd) => return,
            Ok(led) => {
                backoff = BACKOFF.0;
                if led == Led::ToBlockedKeys { BLOCKED_LOOK } else { IDLE_LOOK }
            }
            Err(error) => {
                let detail = error.operator_detail().unwrap_or_else(|| error.to_string());
                tracing::warn!(reason = error.code(), detail, "the rotation of the root key is held up");
                driver.rotation.set_problem(Some(detail));
                let wait = backoff;
                backoff = (backoff * 2).min(BACKOFF.1);
                wait
            }
        };
        tokio::select! {
            () = stopped(&mut driver.stop) => return,
            () = driver.rotation.changed.notified() => backoff = BACKOFF.0,
            () = sleep(wait) => {}
        }
    }
}

struct Driver {
    rotation: Arc<Rotation>,
    service: Arc<Service>,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
}

impl Driver {
    /// Does all that the store says is to be done.
    async fn carry_on(&mut self) -> Result<Led, Error> {
        let root = self.service.root().await?;
        let Some(rotation) = &root.rotation else {
            *self.rotation.progress.lock() = Progress::default();
            return Ok(Led::Nowhere);
        };
        if !root.all_moved() {
            if rotation.keep_old_root && self.rotation.progress_to(root.generation).all_moved {
                return Ok(Led::Nowhere);
            }
            match self.move_keys(root.generation).await? {
                None => return Ok(Led::ToTheEnd),
                Some(0) => {}
                Some(blocked) => {
                    let problem = format!("{blocked} keys cannot be moved; the service's log names them");
                    self.rotation.set_problem(Some(problem));
                    return Ok(Led::ToBlockedKeys);
                }
            }
            self.rotation.all_moved();
            if rotation.keep_old_root {
                tracing::info!(root.generation, "all keys are under the new root key; the old one is kept");
                return Ok(Led::Nowhere);
            }
            ended(self.service.forget_roots().await)?;
        }
        if !self.earlier_calls_end().await {
            return Ok(Led::ToTheEnd);
        }
        ended(self.service.destroy_roots().await)?;
        *self.rotation.progress.lock() = Progress::default();
        tracing::info!(
            root.generation,
            "the root key is rotated: all keys moved, the old root key destroyed"
        );
        Ok(Led::Nowhere)
    }

    /// Waits until no call is left that read a key's record before the key was moved, and may still be on its way to the
    /// HSM. `false`: it was told to stop.
    async fn earlier_calls_end(&mut self) -> bool {
        let slow = mem::take(&mut *self.rotation.slow_calls.lock());
        if !self.pause(self.rotation.patience).await {
            return false;
        }
        while Arc::strong_count(&slow) > 1 {
            if !self.pause(SLOW_CALLS_LOOK).await {
                return false;
            }
        }
        true
    }

    /// Moves all keys; answers how many cannot be moved, or `None` if it was told to stop.
    async fn move_keys(&mut self, generation: u32) -> Result<Option<usize>, Error> {
        self.count(generation).await?;
        let (mut after, mut blocked) = (None, 0);
        loop {
            let started = self.clock.monotonic();
            let page = self.service.keys_under_old_roots(after, PAGE).await?;
            for error in &page.unreadable {
                tracing::error!(detail = error.operator_detail(), "a key's record cannot be trusted");
            }
            blocked += page.unreadable.len();
            blocked += self.move_page(page.keys).await?;
            self.rotation.progress.lock().blocked = blocked;
            after = page.next;
            if after.is_none() {
                return Ok(Some(blocked));
            }
            // Half of the time belongs to the callers: the HSM's workers and the log rest from this.
            if !self.pause(self.clock.monotonic().saturating_sub(started)).await {
                return Ok(None);
            }
        }
    }

    /// Finds out how much there is to do.
    async fn count(&self, generation: u32) -> Result<(), Error> {
        let (mut after, mut left) = (None, 0);
        loop {
            let OldKeys { keys, unreadable, next } = self.service.keys_under_old_roots(after, PAGE).await?;
            left += keys.len() + unreadable.len();
            after = next;
            if after.is_none() {
                break;
            }
            yield_now().await;
        }
        let mut progress = self.rotation.progress.lock();
        let moved = if progress.generation == generation { progress.moved } else { 0 };
        *progress = Progress { generation, moved, left, ..Progress::default() };
        Ok(())
    }

    /// Moves these keys, several at a time; answers how many cannot be moved. A fault that concerns all of
    /// them ends it, after those that were begun.
    async fn move_page(&self, keys: Vec<KeyId>) -> Result<usize, Error> {
        let (mut keys, mut running) = (keys.into_iter(), JoinSet::new());
        let (mut blocked, mut fault) = (0, None);
        loop {
            while fault.is_none() && running.len() < IN_FLIGHT {
                let Some(key) = keys.next() else { break };
                let service = self.service.clone();
                running.spawn(async move { (key, service.rewrap_key(key).await) });
            }
            match running.join_next().await {
                None => return fault.map_or(Ok(blocked), Err),
                Some(Ok((_, Ok(_)))) => self.rotation.moved_one(),
                // It was deleted meanwhile: nothing is left to move.
                Some(Ok((_, Err(refused)))) if *refused.error() == Error::KeyNotFound => {
                    self.rotation.moved_one();
                }
                Some(Ok((key, Err(refused)))) if concerns_one_key(refused.error()) => {
                    let detail = refused.error().operator_detail();
                    tracing::error!(key_id = %key, reason = refused.error().code(), detail, "a key cannot be moved");
                    blocked += 1;
                }
                Some(Ok((_, Err(refused)))) => fault = Some(refused.error().clone()),
                Some(Err(_)) => fault = Some(Refused::task_died().error().clone()),
            }
        }
    }

    /// Rests; `false` if the service is to stop.
    async fn pause(&mut self, duration: Duration) -> bool {
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => false,
            () = sleep(duration) => true,
        }
    }
}

fn ended<T>(result: Result<T, Refused>) -> Result<T, Error> {
    result.map_err(|refused| refused.error().clone())
}

/// Whether the error is about this key alone: others may still be moved, and to try again helps nothing.
pub(crate) fn concerns_one_key(error: &Error) -> bool {
    match error {
        Error::RecordTampered { .. } => true,
        Error::HsmUnavailable(error) => {
            use HsmError::{NotOffered, RootMissing, WrappedKeyRefused};
            matches!(error, WrappedKeyRefused { .. } | RootMissing { .. } | NotOffered { .. })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
