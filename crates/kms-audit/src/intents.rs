//! The intents that still wait for their outcome.

use std::collections::BTreeMap;

use kms_core::{OpenIntent, Phase, Record, RequestId};

use crate::{line::IntentEntry, segment::LONGEST_LINE};

/// Intents without outcome, by request id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenIntents(BTreeMap<RequestId, OpenIntent>);

/// No header lists more, so that it is no longer than a line may be: each takes some 200 bytes.
const MOST_LISTED: usize = if cfg!(test) { 20 } else { LONGEST_LINE / 256 };

impl OpenIntents {
    /// Whether a header can list them all.
    pub(crate) fn fit_header(&self) -> bool {
        self.0.len() <= MOST_LISTED
    }

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
        let intent =
            OpenIntent { request_id: record.request_id, operation: record.operation, key_id: record.key_id };
        self.follow(record.phase, intent);
    }

    /// Follows one record: its phase, and the intent that it is or answers.
    pub(crate) fn follow(&mut self, phase: Phase, intent: OpenIntent) {
        match phase {
            Phase::Complete => {}
            Phase::Intent => {
                self.0.insert(intent.request_id, intent);
            }
            Phase::Outcome | Phase::Recovery => {
                self.0.remove(&intent.request_id);
            }
        }
    }
}
