//! The queue between callers and the writer's thread.

use std::{collections::VecDeque, time::Duration};

use futures_channel::oneshot;
use kms_core::ports::{Mutation, Revision, StoreError, Transaction};
use parking_lot::{Condvar, Mutex};

/// The most transactions in one commit: bounds how long the first of them waits.
const BATCH_COUNT: usize = 1024;
/// The most bytes in one commit, give or take one transaction. sled's recovery rests on a bound: space that a commit
/// frees must not be used again by the same one, and it is not before three segments (24 MiB) are written.
const BATCH_BYTES: usize = 1024 * 1024;
/// The most bytes that may wait: beyond it callers are refused instead of filling the memory.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// What a queued transaction costs beyond the bytes of its keys and values.
const JOB_OVERHEAD: usize = 256;

/// One transaction and the caller who waits for its answer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) transaction: Transaction,
    answer: oneshot::Sender<Result<Revision, StoreError>>,
}

impl Job {
    pub(crate) fn new(transaction: Transaction) -> (Self, oneshot::Receiver<Result<Revision, StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { transaction, answer }, receiver)
    }

    /// Answers the caller, who may have gone away.
    pub(crate) fn answer(self, result: Result<Revision, StoreError>) {
        drop(self.answer.send(result));
    }

    fn bytes(&self) -> usize {
        let mutations = self.transaction.mutations.iter().map(|mutation| match mutation {
            Mutation::Put(key, value) => key.len() + value.len(),
            Mutation::Delete(key) => key.len(),
        });
        JOB_OVERHEAD + mutations.sum::<usize>()
    }
}

/// What the writer is to do next.
#[derive(Debug)]
pub(crate) enum Work {
    /// Commit these, in this order.
    Commit(Vec<Job>),
    /// A read met a failing disk: close and reopen.
    Reopen,
    /// Nothing came in the time that the writer was ready to wait.
    Idle,
    /// The store is being dropped and all is done.
    Finish,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    reopen: bool,
    closed: bool,
}

/// Transactions in the order of their arrival.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    /// Queues `job`, or refuses it when too much waits or the writer is gone.
    pub(crate) fn push(&self, job: Job) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(StoreError::Unavailable { detail: "the writer has stopped".into() });
        }
        if state.bytes >= QUEUE_BYTES {
            return Err(StoreError::Unavailable { detail: "the writer's queue is full".into() });
        }
        state.bytes += job.bytes();
        state.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Asks the writer to close and reopen the database.
    pub(crate) fn request_reopen(&self) {
        self.state.lock().reopen = true;
        self.changed.notify_one();
    }

    /// Takes no more jobs; those that are queued are still handed out.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// Drops all queued jobs, so that their callers stop waiting.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let abandoned = std::mem::take(&mut state.jobs);
        drop(state);
        for job in abandoned {
            job.answer(Err(StoreError::Unavailable { detail: "the writer has stopped".into() }));
        }
    }

    /// Waits for work; no longer than `patience`, if given.
    pub(crate) fn next(&self, patience: Option<Duration>) -> Work {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.reopen) {
                return Work::Reopen;
            }
            if !state.jobs.is_empty() {
                return Work::Commit(take_batch(&mut state));
            }
            if state.closed {
                return Work::Finish;
            }
            match patience {
                None => self.changed.wait(&mut state),
                Some(patience) if self.changed.wait_for(&mut state, patience).timed_out() => {
                    return Work::Idle;
                }
                Some(_) => {}
            }
        }
    }
}

fn take_batch(state: &mut State) -> Vec<Job> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < BATCH_COUNT && bytes < BATCH_BYTES {
        let Some(job) = state.jobs.pop_front() else { break };
        bytes += job.bytes();
        batch.push(job);
    }
    state.bytes -= bytes;
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(bytes: usize) -> Job {
        let mutations = vec![Mutation::Put(vec![], vec![0; bytes])];
        Job::new(Transaction { conditions: vec![], mutations }).0
    }

    fn batch_length(queue: &Queue) -> usize {
        match queue.next(Some(Duration::ZERO)) {
            Work::Commit(batch) => batch.len(),
            other => panic!("expected a batch, got {other:?}"),
        }
    }

    #[test]
    fn a_batch_is_bounded_by_count() {
        let queue = Queue::default();
        for _ in 0..=BATCH_COUNT {
            queue.push(job(1)).expect("there is room");
        }
        assert_eq!(batch_length(&queue), BATCH_COUNT);
        assert_eq!(batch_length(&queue), 1);
        assert_eq!(queue.state.lock().bytes, 0);
    }

    #[test]
    fn a_batch_is_bounded_by_bytes() {
        let queue = Queue::default();
        for _ in 0..3 {
            queue.push(job(BATCH_BYTES / 2)).expect("there is room");
        }
        assert_eq!(batch_length(&queue), 2);
    }

    #[test]
    fn a_full_queue_refuses_and_takes_again_once_drained() {
        let queue = Queue::default();
        queue.push(job(QUEUE_BYTES)).expect("there is room");
        assert!(matches!(queue.push(job(1)), Err(StoreError::Unavailable { .. })));
        assert_eq!(batch_length(&queue), 1);
        queue.push(job(1)).expect("there is room again");
    }

    #[test]
    fn closing_hands_out_what_is_queued_and_then_finishes() {
        let queue = Queue::default();
        queue.push(job(1)).expect("there is room");
        queue.close();
        assert!(matches!(queue.push(job(1)), Err(StoreError::Unavailable { .. })));
        assert_eq!(batch_length(&queue), 1);
        assert!(matches!(queue.next(None), Work::Finish));
    }

    #[test]
    fn requests_to_reopen_count_once() {
        let queue = Queue::default();
        queue.request_reopen();
        queue.request_reopen();
        assert!(matches!(queue.next(None), Work::Reopen));
        assert!(matches!(queue.next(Some(Duration::ZERO)), Work::Idle));
    }

    #[test]
    fn abandoned_jobs_are_answered() {
        let queue = Queue::default();
        let (job, receiver) = Job::new(Transaction::default());
        queue.push(job).expect("there is room");
        queue.abandon();
        let answer = futures_executor::block_on(receiver).expect("answered");
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })));
    }
}
