//! What the log acknowledges, told to its readers and released to its callers a batch at a time.
//!
//! The log's writer is no thread of the runtime: each caller that it woke by itself would cost a wake-up from one thread
//! to another. So it only hands over, and one task of the runtime at a time releases, in the order of the log, all that
//! has been handed over by then; whom that task wakes is woken on its own thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use kms_core::{
    Record,
    ports::{Acknowledge, AuditError, AuditLog, Receipt},
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};

/// A log that tells its readers what became durable.
pub(crate) struct AnnouncedLog {
    log: Arc<dyn AuditLog>,
    announcer: Arc<Announcer>,
}

struct Announcer {
    /// The place behind the last durable line.
    durable: watch::Sender<u64>,
    runtime: Handle,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// What the log has acknowledged and nobody has released yet, in its order.
    acknowledged: Vec<Acknowledged>,
    /// Somebody is about to release it.
    is_under_way: bool,
}

struct Acknowledged {
    acknowledge: Acknowledge,
    answer: Result<Receipt, AuditError>,
}

impl AnnouncedLog {
    /// Tells by `durable` of what `log` makes durable, and acknowledges on `runtime`.
    pub(crate) fn new(log: Arc<dyn AuditLog>, durable: watch::Sender<u64>, runtime: Handle) -> Self {
        Self { log, announcer: Arc::new(Announcer { durable, runtime, waiting: Mutex::default() }) }
    }
}

impl AuditLog for AnnouncedLog {
    fn append(&self, record: Record, acknowledge: Acknowledge) {
        let announcer = self.announcer.clone();
        self.log.append(
            record,
            Box::new(move |answer| announcer.hand_over(Acknowledged { acknowledge, answer })),
        );
    }
}

impl Announcer {
    fn hand_over(self: Arc<Self>, acknowledged: Acknowledged) {
        let mut waiting = self.waiting.lock();
        waiting.acknowledged.push(acknowledged);
        let is_first = !waiting.is_under_way;
        waiting.is_under_way = true;
        drop(waiting);
        if is_first {
            let runtime = self.runtime.clone();
            let round = Round(self);
            runtime.spawn(async move { drop(round) });
        }
    }

    /// Releases what waits until nothing does.
    fn release(&self) {
        let mut batch = Vec::new();
        while self.take(&mut batch) {
            // Records become durable in the order of the log: with one, all before it.
            let last = batch.iter().rev().find_map(|one: &Acknowledged| one.answer.as_ref().ok());
            if let Some(receipt) = last {
                self.announce(receipt.sequence() + 1);
            }
            for Acknowledged { acknowledge, answer } in batch.drain(..) {
                // One that panics must not keep the others waiting for ever.
                if catch_unwind(AssertUnwindSafe(|| acknowledge(answer))).is_err() {
                    tracing::error!("an acknowledgement of the log panicked");
                }
            }
        }
    }

    /// Moves what waits into `batch`, which is empty. False: there was nothing, and nobody is under way any more.
    fn take(&self, batch: &mut Vec<Acknowledged>) -> bool {
        let mut waiting = self.waiting.lock();
        std::mem::swap(&mut waiting.acknowledged, batch);
        waiting.is_under_way = !batch.is_empty();
        waiting.is_under_way
    }

    fn announce(&self, end: u64) {
        self.durable.send_if_modified(|known| {
            let is_news = end > *known;
            *known = end.max(*known);
            is_news
        });
    }
}

/// Releases when it is dropped: by its task, or by a runtime that ends and drops its tasks instead of running them.
struct Round(Arc<Announcer>);

impl Drop for Round {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use kms_core::{
        Phase,
        testing::audit::{FakeAuditLog, sample_record},
    };
    use tokio::{runtime::Builder, sync::oneshot};

    use super::*;

    type Answer = Result<Receipt, AuditError>;

    fn announced(fake: &Arc<FakeAuditLog>) -> (AnnouncedLog, watch::Receiver<u64>) {
        let (announce, durable) = watch::channel(0);
        (AnnouncedLog::new(fake.clone(), announce, Handle::current()), durable)
    }

    /// Appends a record; gives what the log will say of it.
    fn append(log: &AnnouncedLog, request: u128) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        let acknowledge = Box::new(move |receipt| drop(answer.send(receipt)));
        log.append(sample_record(request, Phase::Complete), acknowledge);
        answered
    }

    #[tokio::test]
    async fn only_what_is_durable_is_told_to_readers_and_before_its_answer() {
        let fake = Arc::new(FakeAuditLog::new());
        let (log, mut durable) = announced(&fake);
        let mut end = || (durable.has_changed().expect("the log is open"), *durable.borrow_and_update());
        assert_eq!(end(), (false, 0));
        assert!(append(&log, 1).await.expect("answered").is_ok());
        assert_eq!(end(), (true, 1));
        fake.fail_next(1);
        assert!(append(&log, 2).await.expect("answered").is_err());
        assert_eq!(end(), (false, 1), "not durable");
        fake.hold();
        let held = append(&log, 3);
        assert_eq!(end(), (false, 1), "not durable yet");
        fake.release();
        assert!(held.await.expect("answered").is_ok());
        assert_eq!(end(), (true, 2));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_is_acknowledged_once_and_in_the_order_of_the_log() {
        const THREADS: u128 = 4;
        const RECORDS: u128 = 500;
        let fake = Arc::new(FakeAuditLog::new());
        let (log, _durable) = announced(&fake);
        let (told, answers) = mpsc::channel();
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (log, told) = (&log, told.clone());
                scope.spawn(move || {
                    for record in 0..RECORDS {
                        let (told, request) = (told.clone(), number * RECORDS + record);
                        let acknowledge =
                            Box::new(move |_: Answer| told.send(request).expect("somebody counts"));
                        log.append(sample_record(request, Phase::Complete), acknowledge);
                    }
                });
            }
        });
        drop(told);
        let all: Vec<u128> =
            tokio::task::spawn_blocking(move || answers.iter().collect()).await.expect("it ends");
        for number in 0..THREADS {
            let own = number * RECORDS..(number + 1) * RECORDS;
            assert!(all.iter().filter(|request| own.contains(request)).copied().eq(own.clone()));
        }
        assert_eq!(all.len(), usize::try_from(THREADS * RECORDS).expect("few"));
    }

    #[tokio::test]
    async fn one_that_panics_holds_up_nobody() {
        let fake = Arc::new(FakeAuditLog::new());
        let (log, _durable) = announced(&fake);
        fake.hold();
        log.append(sample_record(1, Phase::Complete), Box::new(|_| panic!("an acknowledgement must not")));
        let after = append(&log, 2);
        fake.release();
        assert!(after.await.expect("answered").is_ok());
        assert!(append(&log, 3).await.expect("answered").is_ok());
    }

    #[test]
    fn what_comes_after_the_runtime_is_acknowledged_too() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let fake = Arc::new(FakeAuditLog::new());
        let (log, _durable) = runtime.block_on(async { announced(&fake) });
        let before = append(&log, 1);
        drop(runtime);
        let after = append(&log, 2);
        for answered in [before, after] {
            assert!(answered.blocking_recv().expect("answered").is_ok());
        }
    }
}
