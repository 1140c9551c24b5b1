//! The audit log: canonical JSON lines in preallocated segments, made durable by group commit.
//!
//! [`FileLog`] writes it, [`read`] walks it, [`verify`] checks it without any state of the writer.
//! The format is described for outsiders in `docs/audit-format.md`.

mod archive;
mod cosignature;
mod cosigning;
mod counters;
mod fields;
mod file_log;
mod glance;
mod intents;
mod journal;
mod line;
mod memory;
pub mod merkle;
pub mod metering;
mod notary;
mod note;
mod parts;
mod proofs;
mod queue;
mod reader;
mod recovery;
mod retrace;
mod scan;
mod search;
mod segment;
mod storage;
#[cfg(feature = "testing")]
#[allow(clippy::expect_used, clippy::missing_panics_doc, reason = "for tests only")]
pub mod testing;
mod tiles;
mod tiles_ahead;
mod verify;
mod witness;

#[cfg(test)]
mod archive_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod memory_storage;
#[cfg(test)]
mod notary_tests;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod tree_tests;

pub use archive::{Archive, ArchiveError};
pub use cosignature::{CosignerKey, cosigned_message};
pub use cosigning::Cosigning;
pub use counters::{Coverage, Health, Statistics};
pub use file_log::{FileLog, LogConfig};
pub use line::{FORMAT_VERSION, IntentEntry, Line, ParseError, RecordLine, SegmentHeader};
pub use memory::is_signed;
pub use notary::{CheckpointSigner, Notarization, SignatureDone};
pub use note::{Checkpoint, NoteError, SignedCheckpoint, VerifierKey};
pub use proofs::{Inclusion, ProofError, newest_checkpoint, prove_consistency, prove_inclusion};
pub use reader::{Entry, ReadError, Reader, first_sequence, read, read_from};
pub use recovery::{OpenError, Opened, Repaired};
pub use scan::{Fault, Problem};
pub use search::{Found, Order, Search, end, search};
pub use verify::{Expected, Summary, VerifyError, bytes_to_read, verify, verify_against};
pub use witness::{Offer, Refusal, judge};
