//! The intents that still wait for their outcome.

use std::collections::BTreeMap;

use kms_core::{OpenIntent, Phase, Record, RequestId};

use crate::line::{IntentEntry, RecordLine};

/// Intents without outcome, by request id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenIntents(BTreeMap<RequestId, OpenIntent>);

impl OpenIntents {
    /// Those that a header lists.
    pub(crate) fn from_header(entries: &[IntentEntry]) -> Self {
        Self(entries.iter().map(|entry| (entry.request_id, entry.into())).collect())
    }

    /// As a header lists them.
    pub(crate) fn to_header(&self) -> Vec<IntentEntry> {
        self.0.values().map(Into::into).collect()
    }

    /// All of them.
    pub(crate) fn to_vec(&self) -> Vec<OpenIntent> {
        self.0.values().cloned().collect()
    }

    /// Follows one durable record.
    pub(crate) fn note(&mut self, record: &Record) {
        let intent = || OpenIntent {
            request_id: record.request_id,
            operation: record.operation,
            key_id: record.key_id,
        };
        self.follow(record.phase, record.request_id, intent);
    }

    /// Follows one line that was read.
    pub(crate) fn note_line(&mut self, line: &RecordLine<'_>) {
        let intent =
            || OpenIntent { request_id: line.request_id, operation: line.operation, key_id: line.key_id };
        self.follow(line.phase, line.request_id, intent);
    }

    fn follow(&mut self, phase: Phase, request_id: RequestId, intent: impl FnOnce() -> OpenIntent) {
        match phase {
            Phase::Complete => {}
            Phase::Intent => {
                self.0.insert(request_id, intent());
            }
            Phase::Outcome | Phase::Recovery => {
                self.0.remove(&request_id);
            }
        }
    }
}
