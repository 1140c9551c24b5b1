//! An audit log in memory, and the contract that it shares with every real one.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    Phase, Record, RequestId, Timestamp, Verdict,
    operation::OperationName,
    ports::{Acknowledge, AuditError, AuditLog, Receipt},
};

/// An [`AuditLog`] that keeps its records in memory and answers at once, unless told otherwise.
#[derive(Default)]
pub struct FakeAuditLog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    owed: Vec<Record>,
    failures: usize,
    holding: bool,
    held: Vec<(Record, Acknowledge)>,
}

impl State {
    fn settle(&mut self, record: Record) -> Result<Receipt, AuditError> {
        if self.failures > 0 {
            self.failures -= 1;
            if record.phase == Phase::Outcome {
                self.owed.push(record);
            }
            return Err(AuditError { detail: "told to fail".to_owned() });
        }
        self.records.append(&mut self.owed);
        self.records.push(record);
        Ok(Receipt::durable(self.records.len() as u64 - 1))
    }
}

impl FakeAuditLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The durable records, in order.
    pub fn records(&self) -> Vec<Record> {
        self.state().records.clone()
    }

    /// Lets the next `count` records fail. An outcome among them is owed: it is written before the
    /// next record that succeeds.
    pub fn fail_next(&self, count: usize) {
        self.state().failures = count;
    }

    /// Keeps records from now on without making them durable, until [`release`](Self::release).
    pub fn hold(&self) {
        self.state().holding = true;
    }

    /// How many records are held.
    pub fn held(&self) -> usize {
        self.state().held.len()
    }

    /// Makes the held records durable, acknowledges them, and holds no more.
    pub fn release(&self) {
        let held = {
            let mut state = self.state();
            state.holding = false;
            std::mem::take(&mut state.held)
        };
        for (record, acknowledge) in held {
            self.append(record, acknowledge);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuditLog for FakeAuditLog {
    fn append(&self, record: Record, acknowledge: Acknowledge) {
        let mut state = self.state();
        if state.holding {
            return state.held.push((record, acknowledge));
        }
        let answer = state.settle(record);
        drop(state); // the acknowledgement may append again
        acknowledge(answer);
    }
}

impl std::fmt::Debug for FakeAuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeAuditLog").field("records", &self.state().records.len()).finish_non_exhaustive()
    }
}

/// A log under test, with what the contract needs to see of it.
pub trait AuditSubject: Sync {
    /// The log.
    fn log(&self) -> &dyn AuditLog;

    /// Makes the next attempt to make records durable fail; the log must work again afterwards,
    /// at once or after a while.
    fn break_next_commit(&self);

    /// The durable records, in order.
    fn durable(&self) -> Vec<(RequestId, Phase)>;
}

impl AuditSubject for FakeAuditLog {
    fn log(&self) -> &dyn AuditLog {
        self
    }

    fn break_next_commit(&self) {
        self.fail_next(1);
    }

    fn durable(&self) -> Vec<(RequestId, Phase)> {
        self.records().iter().map(|record| (record.request_id, record.phase)).collect()
    }
}

/// A record of the service itself, without a caller.
pub fn sample_record(request: u128, phase: Phase) -> Record {
    let verdict = if phase == Phase::Intent { Verdict::Pending } else { Verdict::Succeeded };
    Record {
        time: Timestamp::from_micros(1_795_526_645_000_000),
        request_id: Uuid::from_u128(request),
        operation: OperationName::EnableKey,
        phase,
        verdict,
        caller: None,
        key_id: None,
        key_version: None,
        moved: None,
        bucket_key: None,
        reason: None,
        missing_action: None,
        grant_id: None,
        ruling: None,
        context: BTreeMap::new(),
        stranger: None,
        source_key_id: None,
        source_key_version: None,
        source_context: BTreeMap::new(),
        state_digest: None,
        archived_lines: None,
        made: None,
        latency: Duration::from_micros(250),
        count: 1,
    }
}

/// What every [`AuditLog`] has to do. `make` makes an empty one; panics where it falls short.
pub fn audit_log_contract<S: AuditSubject>(make: impl Fn() -> S) {
    every_record_is_acknowledged(&make());
    records_keep_their_order(&make());
    many_threads_may_append(&make());
    a_failure_is_answered_and_passes(&make());
    an_owed_outcome_is_written_first(&make());
}

type Answer = (u128, Result<Receipt, AuditError>);

/// Long enough for any log that works: a missing answer fails the test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(60);

fn append(log: &dyn AuditLog, request: u128, phase: Phase, answers: &Sender<Answer>) {
    let answers = answers.clone();
    let acknowledge = move |answer| {
        // A test that has failed no longer listens.
        let _ = answers.send((request, answer));
    };
    log.append(sample_record(request, phase), Box::new(acknowledge));
}

fn append_and_wait(log: &dyn AuditLog, request: u128, phase: Phase) -> Result<Receipt, AuditError> {
    let (sender, answers) = channel();
    append(log, request, phase, &sender);
    answers.recv_timeout(PATIENCE).expect("an answer").1
}

fn collect(answers: &Receiver<Answer>, count: usize) -> Vec<(u128, u64)> {
    let mut found = Vec::new();
    for _ in 0..count {
        let (request, answer) = answers.recv_timeout(PATIENCE).expect("an answer for each record");
        found.push((request, answer.expect("a receipt").sequence()));
    }
    found
}

fn every_record_is_acknowledged(subject: &impl AuditSubject) {
    let (sender, answers) = channel();
    for request in 0..100 {
        append(subject.log(), request, Phase::Complete, &sender);
    }
    drop(sender);
    let mut found = collect(&answers, 100);
    assert!(answers.recv().is_err(), "no record is acknowledged twice");
    found.sort_unstable();
    assert!(found.iter().map(|(request, _)| *request).eq(0..100), "each one is acknowledged");
    assert_eq!(subject.durable().len(), 100, "what is acknowledged is durable");
}

fn records_keep_their_order(subject: &impl AuditSubject) {
    let (sender, answers) = channel();
    for request in 0..100 {
        append(subject.log(), request, Phase::Complete, &sender);
    }
    let mut found = collect(&answers, 100);
    found.sort_unstable();
    assert!(found.is_sorted_by(|left, right| left.1 < right.1), "sequence numbers follow the appends");
    let requests = subject.durable().into_iter().map(|(request, _)| request.as_u128());
    assert!(requests.eq(0..100), "the log keeps the order of the appends");
}

fn many_threads_may_append(subject: &impl AuditSubject) {
    const THREADS: u128 = 8;
    const EACH: u128 = 50;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let receipts = (0..EACH).map(|index| {
                    append_and_wait(subject.log(), thread * EACH + index, Phase::Complete).expect("a receipt")
                });
                let sequences: Vec<u64> = receipts.map(Receipt::sequence).collect();
                assert!(sequences.is_sorted_by(|left, right| left < right));
            });
        }
    });
    let mut requests: Vec<u128> =
        subject.durable().into_iter().map(|(request, _)| request.as_u128()).collect();
    requests.sort_unstable();
    assert!(requests.into_iter().eq(0..THREADS * EACH), "each record is there once");
}

/// Appends until the log works again.
fn append_until_durable(subject: &impl AuditSubject, first_request: u128) -> u128 {
    for request in first_request.. {
        if append_and_wait(subject.log(), request, Phase::Complete).is_ok() {
            return request;
        }
        thread::sleep(Duration::from_millis(1));
    }
    unreachable!("the numbers do not end")
}

fn a_failure_is_answered_and_passes(subject: &impl AuditSubject) {
    let before = append_and_wait(subject.log(), 0, Phase::Complete).expect("works at first");
    subject.break_next_commit();
    append_and_wait(subject.log(), 1, Phase::Complete).expect_err("was told to fail");
    let request = append_until_durable(subject, 2);
    let after = append_and_wait(subject.log(), request + 1, Phase::Complete).expect("works again");
    assert_eq!(after.sequence(), before.sequence() + 2, "a failure leaves no gap");
    let requests: Vec<u128> = subject.durable().into_iter().map(|(request, _)| request.as_u128()).collect();
    assert_eq!(requests, [0, request, request + 1], "a refused record is not written later");
}

fn an_owed_outcome_is_written_first(subject: &impl AuditSubject) {
    append_and_wait(subject.log(), 0, Phase::Intent).expect("works at first");
    subject.break_next_commit();
    append_and_wait(subject.log(), 0, Phase::Outcome).expect_err("was told to fail");
    let request = append_until_durable(subject, 1);
    let expected = [
        (Uuid::from_u128(0), Phase::Intent),
        (Uuid::from_u128(0), Phase::Outcome),
        (Uuid::from_u128(request), Phase::Complete),
    ];
    assert_eq!(subject.durable(), expected);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fake_keeps_the_contract() {
        audit_log_contract(FakeAuditLog::new);
    }

    #[test]
    fn a_held_record_is_not_durable_until_its_release() {
        let log = FakeAuditLog::new();
        let (sender, answers) = channel();
        log.hold();
        append(&log, 7, Phase::Complete, &sender);
        assert!(answers.try_recv().is_err() && log.records().is_empty());
        assert_eq!(log.held(), 1);
        log.release();
        assert_eq!(answers.try_recv().expect("an answer").1, Ok(Receipt::durable(0)));
        assert_eq!(log.records().len(), 1);
    }
}
