//! A copy of the store for the same token: made while the service runs (`dewctl backup`), put back or tried out
//! by `dewpoint restore`.
//!
//! What the file holds is in `format.rs`, what its values are in [`kms_core::Content`].

mod format;
mod restore;
mod stream;

use kms_core::Content;
use serde::{Deserialize, Serialize};

pub(super) use format::MAGIC;
pub(super) use restore::run as restore;
pub(crate) use stream::{Part, produce};

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counts {
    /// Stored values of all kinds.
    pub(crate) values: u64,
    /// Keys that have not been destroyed.
    pub(crate) keys: u64,
    /// Their versions.
    pub(crate) key_versions: u64,
    /// What remains of destroyed keys.
    pub(crate) tombstones: u64,
    pub(crate) grants: u64,
    /// Values that the token did not write, or that this version cannot read.
    pub(crate) unreadable: u64,
}

impl Counts {
    fn add(&mut self, content: Option<&Content>) {
        self.values += 1;
        match content {
            None => self.unreadable += 1,
            Some(Content::Key(record)) if record.is_destroyed() => self.tombstones += 1,
            Some(Content::Key(record)) => {
                self.keys += 1;
                self.key_versions += u64::try_from(record.versions.len()).unwrap_or(u64::MAX);
            }
            Some(Content::Grant) => self.grants += 1,
            Some(Content::Other) => {}
        }
    }
}
