//! The one thread that changes the database: group commit, and recovery after I/O errors.

use std::{sync::Arc, time::Duration};

use kms_core::ports::{Mutation, Revision, StoreError};

use crate::{
    OpenError,
    engine::{Batch, Engine, Failure},
    queue::{Job, Work},
    store::Shared,
};

/// How often a closed database is tried again when no transaction asks for it.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// Owns the right to commit, to close and to reopen.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// The last revision that is known to be durable: a file that has less has lost commits.
    durable: Revision,
    /// Why the database is closed; `None` while it is open.
    closed: Option<String>,
}

impl Writer {
    /// A writer on `engine`.
    pub(crate) fn start(shared: Arc<Shared>, engine: Box<dyn Engine>) -> Result<Self, OpenError> {
        let mut writer = Self { shared, durable: 0, closed: None };
        writer.install(engine)?;
        Ok(writer)
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            let patience = self.closed.is_some().then_some(REOPEN_INTERVAL);
            match self.shared.queue.next(patience) {
                Work::Commit(jobs) => self.commit(jobs),
                Work::Reopen => self.close_and_reopen("a read failed".into()),
                Work::Idle => self.reopen(),
                Work::Finish => return,
            }
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if self.closed.is_some() {
            self.reopen();
        }
        let result = match self.shared.engine.read().as_ref() {
            // Stays open: the deleted file can still be read, and saved by an operator.
            Some(engine) if !engine.is_in_place(&self.shared.files) => {
                tracing::error!("the key store's file was deleted or replaced");
                return refuse(jobs, "the file was deleted or replaced");
            }
            Some(engine) => {
                let transactions: Vec<_> = jobs.iter().map(|job| &job.transaction).collect();
                engine.commit(&transactions)
            }
            None => return refuse(jobs, self.closed.as_deref().unwrap_or("closed")),
        };
        match result {
            Ok(batch) => self.acknowledge(jobs, batch),
            Err(Failure::Before(detail)) => {
                self.close_and_reopen(detail.clone());
                refuse(jobs, &detail);
            }
            Err(Failure::During(detail, batch)) => {
                self.close_and_reopen(detail.clone());
                self.resolve(jobs, batch, &detail);
            }
        }
    }

    fn acknowledge(&mut self, jobs: Vec<Job>, batch: Batch) {
        self.durable = batch.last;
        self.shared.cache.lock().advance(batch.last, changes(&jobs, &batch));
        answer(jobs, batch);
    }

    /// Answers a batch whose commit failed by what is in the file, now that it was opened again.
    fn resolve(&mut self, jobs: Vec<Job>, batch: Batch, detail: &str) {
        let stored = self.closed.is_none().then_some(self.durable);
        tracing::warn!(?stored, before = batch.previous, after = batch.last, "a commit had failed");
        if stored == Some(batch.last) {
            answer(jobs, batch);
        } else if stored == Some(batch.previous) {
            refuse(jobs, detail);
        } else {
            for job in jobs {
                job.answer(Err(StoreError::Unknown { detail: detail.into() }));
            }
        }
    }

    fn close_and_reopen(&mut self, reason: String) {
        tracing::error!(%reason, "closing the key store, to open it again");
        // Readers are gone once this lock is held, so none can put a value back into the cache.
        let mut engine = self.shared.engine.write();
        *engine = None;
        self.shared.cache.lock().reset(None);
        drop(engine);
        self.closed = Some(reason);
        self.reopen();
    }

    fn reopen(&mut self) {
        match self.try_reopen() {
            Ok(()) => tracing::info!(revision = self.durable, "the key store is open again"),
            Err(error) => {
                let reason = error.to_string();
                if self.closed.as_ref() != Some(&reason) {
                    tracing::error!(%reason, "the key store cannot be opened again");
                }
                self.closed = Some(reason);
            }
        }
    }

    fn try_reopen(&mut self) -> Result<(), OpenError> {
        self.shared.files.settle()?;
        let engine = self.shared.kind.open(&self.shared.files)?;
        self.install(engine)
    }

    fn install(&mut self, engine: Box<dyn Engine>) -> Result<(), OpenError> {
        let path = self.shared.files.path();
        let revision = engine.last_revision().map_err(|fault| fault.at(path))?;
        if revision < self.durable {
            let detail = format!("it ends at revision {revision}, after {} was acknowledged", self.durable);
            return Err(OpenError::Damaged { path: path.into(), detail });
        }
        let mut place = self.shared.engine.write();
        self.shared.cache.lock().reset(Some(revision));
        *place = Some(engine);
        drop(place);
        self.durable = revision;
        self.closed = None;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // However the thread ends, nobody may wait for it in vain.
        self.shared.queue.abandon();
    }
}

fn changes<'a>(jobs: &'a [Job], batch: &'a Batch) -> impl Iterator<Item = (Revision, &'a Mutation)> {
    jobs.iter().zip(&batch.outcomes).flat_map(|(job, outcome)| {
        let revision = outcome.as_ref().ok().copied();
        revision
            .into_iter()
            .flat_map(|revision| job.transaction.mutations.iter().map(move |mutation| (revision, mutation)))
    })
}

fn answer(jobs: Vec<Job>, batch: Batch) {
    for (job, outcome) in jobs.into_iter().zip(batch.outcomes) {
        job.answer(outcome);
    }
}

fn refuse(jobs: Vec<Job>, detail: &str) {
    for job in jobs {
        job.answer(Err(StoreError::Unavailable { detail: detail.into() }));
    }
}
