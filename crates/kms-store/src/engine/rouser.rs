//! Makes every wait in sled end.
//!
//! sled 0.34 writes full buffers on threads of its own. One that fails there is noted, but whoever waits for
//! it is not told (`Log::exit_reservation`): `flush` would wait for good, and all who write to the store
//! with it. A flush that begins after the failure sees the note and wakes the others. So while a call takes
//! long, a flush is begun beside it from time to time.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use sled::Db;

/// How often calls are looked after. One is seen to take long after one to two of these.
const INTERVAL: Duration = Duration::from_millis(500);

/// Looks after the calls that may wait, one at a time, until it is dropped.
pub(super) struct Rouser {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    database: Db,
    state: Mutex<State>,
    /// Told only of the end: calls are many and short.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// The call that is being made now, by its number.
    call: Option<u64>,
    calls: u64,
    ended: bool,
}

/// A call that is looked after, until this is dropped.
pub(super) struct Attended<'a>(&'a Shared);

impl Rouser {
    pub(super) fn new(database: &Db) -> std::io::Result<Self> {
        let (database, state, ended) = (database.clone(), Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { database, state, ended });
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new().name("store-rouser".into()).spawn(move || watched.watch())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Looks after what the caller does next with the database.
    pub(super) fn attend(&self) -> Attended<'_> {
        let mut state = self.shared.state.lock();
        state.calls += 1;
        state.call = Some(state.calls);
        drop(state);
        Attended(&self.shared)
    }
}

impl Drop for Rouser {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        self.0.state.lock().call = None;
    }
}

impl Shared {
    fn watch(&self) {
        let (mut seen, mut age) = (None, 0_u32);
        let mut flushes = Vec::new();
        let mut state = self.state.lock();
        while !state.ended {
            self.ended.wait_for(&mut state, INTERVAL);
            age = if state.call.is_some() && state.call == seen { age.saturating_add(1) } else { 0 };
            seen = state.call;
            // Each waits itself if nothing has failed yet, so they become rarer: a slow disk gets few.
            if age.is_power_of_two() {
                let database = self.database.clone();
                let flush = thread::Builder::new().name("store-rouser".into());
                // What it answers, the call that it wakes answers too.
                flushes.extend(flush.spawn(move || drop(database.flush())));
            }
        }
        drop(state);
        for flush in flushes {
            drop(flush.join());
        }
    }
}
