//! Where records wait for the writer, and how long it waits for more of them.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::journal::{Pending, now};

/// The records that wait for the next commit.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    records: Vec<Pending>,
    /// How many records wake the writer; absent while it does not sleep.
    wake_at: Option<usize>,
    closed: bool,
}

/// What the writer waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How many records are worth a commit.
    pub(crate) wanted: usize,
    /// How long to wait for that many once there is one.
    pub(crate) at_most: Duration,
    /// How long to wait for the first; without end if absent.
    pub(crate) idle: Option<Duration>,
}

impl Queue {
    /// Puts a record in; gives it back if the log is closed.
    pub(crate) fn push(&self, pending: Pending) -> Option<Pending> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Some(pending);
        }
        waiting.records.push(pending);
        let wake = waiting.wake_at.is_some_and(|count| waiting.records.len() >= count);
        if wake {
            waiting.wake_at = None;
        }
        drop(waiting);
        if wake {
            self.arrived.notify_one();
        }
        None
    }

    /// Moves all waiting records into `batch`, which is empty. False: closed, and none are left.
    pub(crate) fn take(&self, patience: Patience, batch: &mut Vec<Pending>) -> bool {
        let mut waiting = self.waiting.lock();
        self.sleep(&mut waiting, 1, patience.idle);
        if !waiting.records.is_empty() {
            self.sleep(&mut waiting, patience.wanted, Some(patience.at_most));
        }
        std::mem::swap(&mut waiting.records, batch);
        !(batch.is_empty() && waiting.closed)
    }

    /// Waits until `count` records are there, the queue is closed, or the time is over.
    fn sleep(
        &self,
        waiting: &mut parking_lot::MutexGuard<'_, Waiting>,
        count: usize,
        at_most: Option<Duration>,
    ) {
        let deadline = at_most.map(|duration| now() + duration);
        while waiting.records.len() < count && !waiting.closed {
            waiting.wake_at = Some(count);
            match deadline {
                None => self.arrived.wait(waiting),
                Some(deadline) => {
                    if self.arrived.wait_until(waiting, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        waiting.wake_at = None;
    }

    /// Lets no more records in and wakes the writer.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }
}
