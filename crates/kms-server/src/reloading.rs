//! How what the service was started with comes to hold anew: it is read, recorded, and then put in the place of the old.

use std::sync::Arc;

use kms_core::ops::Loader;
use parking_lot::Mutex;
use tokio::{sync::OwnedMutexGuard, task::spawn_blocking};

use crate::config::FileError;

/// What was read and is not recorded yet, with the turn.
struct Read<T> {
    value: T,
    _turn: OwnedMutexGuard<()>,
}

/// A source that `read` reads, as a part of the call that is recorded, and what lets hold what it read by then. Nobody
/// waits for his `turn` before it is known that he may call; one at a time, so that what was read last holds.
pub(crate) fn prepare<T: Send + 'static>(
    turn: &Arc<tokio::sync::Mutex<()>>,
    read: impl Fn() -> Result<(T, [u8; 32]), FileError> + Send + Sync + 'static,
    replace: impl FnOnce(T) + Send + 'static,
) -> (Loader, impl FnOnce() + Send + 'static) {
    let found: Arc<Mutex<Option<Read<T>>>> = Arc::default();
    let (kept, turn, read) = (found.clone(), turn.clone(), Arc::new(read));
    let load: Loader = Arc::new(move || {
        let (kept, turn, read) = (kept.clone(), turn.clone(), read.clone());
        Box::pin(async move {
            let turn = turn.lock_owned().await;
            let read = spawn_blocking(move || read().map_err(|error| error.to_string()));
            let (value, digest) = read.await.unwrap_or_else(|_| Err("the task died".to_owned()))?;
            kept.lock().replace(Read { value, _turn: turn });
            Ok(digest)
        })
    });
    // Nothing is recorded as done that was not read.
    let take_effect = move || {
        let read = found.lock().take();
        if let Some(Read { value, _turn }) = read {
            replace(value);
        }
    };
    (load, take_effect)
}
