//! A call that stands for several: one record for each, then its own, and one answer after all of them.

use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::oneshot;

use super::part_id;
use crate::{
    answer::{Held, Recorded, Refused},
    draft::Draft,
    ports::{AuditError, AuditLog, Receipt},
    record::Phase,
    usage::{Usage, Use},
};

/// The number of the first call that a batch stands for: higher than those of the changes that a call makes first.
const FIRST_PART: u32 = 1 << 16;

type Answer<T> = oneshot::Sender<Result<Recorded<T>, Refused>>;

/// What waits until the last record is durable.
struct Waiting<T> {
    left: usize,
    failed: Option<AuditError>,
    held: Option<(Held<T>, Answer<T>)>,
}

impl<T> Waiting<T> {
    /// One record more is durable or lost. If one of them is lost, nothing is answered, and all of it is wiped here.
    fn acknowledge(&mut self, receipt: Result<Receipt, AuditError>) {
        self.left -= 1;
        let receipt = match receipt {
            Ok(receipt) => receipt,
            Err(error) => return self.fail(error),
        };
        if self.left == 0
            && self.failed.is_none()
            && let Some((held, answer)) = self.held.take()
        {
            drop(answer.send(held.release(receipt)));
        }
    }

    fn fail(&mut self, error: AuditError) {
        self.failed.get_or_insert(error);
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        if let Some((_, answer)) = self.held.take() {
            let lost = || AuditError { detail: "the log dropped a record".to_owned() };
            drop(answer.send(Err(Refused::unrecorded(self.failed.take().unwrap_or_else(lost)))));
        }
    }
}

/// Queues all records of a success at once: the log makes them durable together.
pub(super) fn append<T: Send + 'static>(
    audit: &dyn AuditLog,
    usage: &Arc<Usage>,
    draft: Draft,
    phase: Phase,
    held: Held<T>,
    answer: Answer<T>,
) {
    let name =
        |call, number| part_id(call, FIRST_PART.saturating_add(u32::try_from(number).unwrap_or(u32::MAX)));
    let records = draft.into_records(phase, name);
    let waiting = Waiting { left: records.len(), failed: None, held: Some((held, answer)) };
    let waiting = Arc::new(Mutex::new(waiting));
    for record in records {
        let (waiting, usage, counted) = (waiting.clone(), usage.clone(), Use::of(&record));
        let acknowledge = move |receipt: Result<Receipt, AuditError>| {
            // The log holds this one, whatever becomes of the others.
            if let Ok(receipt) = &receipt {
                usage.note(receipt.sequence(), &counted);
            }
            waiting.lock().unwrap_or_else(PoisonError::into_inner).acknowledge(receipt);
        };
        audit.append(record, Box::new(acknowledge));
    }
}
