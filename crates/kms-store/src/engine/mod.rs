//! What a store needs of an embedded database, which two of them give.

mod apply;
mod redb;
mod rouser;
mod sled;

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use kms_core::ports::{Revision, Snapshot, StoreError, StoreKey, Transaction, Versioned};

use crate::{
    OpenError,
    files::{Files, Identity},
};

/// The layout that this version writes and reads, whatever the database.
const FORMAT: u64 = 1;
const REVISION_BYTES: usize = size_of::<Revision>();

/// An embedded database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// redb: the default.
    Redb,
    /// sled, with the sync that it leaves out.
    Sled,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Redb, Self::Sled];

    /// As it is named in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
        }
    }

    /// Opens the database, making it first if there is none.
    pub(crate) fn create_or_open(self, files: &Files) -> Result<Box<dyn Engine>, OpenError> {
        files.create_if_missing(|path| match self {
            Self::Redb => redb::initialize(path),
            Self::Sled => guarded(|| sled::initialize(path)),
        })?;
        self.open(files)
    }

    /// Opens the database, which must exist: it is never replaced by an empty one.
    pub(crate) fn open(self, files: &Files) -> Result<Box<dyn Engine>, OpenError> {
        let identity = files.identity()?;
        let (path, failed) = (files.path(), |fault: Fault| fault.at(files.path()));
        let engine: Box<dyn Engine> = match self {
            Self::Redb => Box::new(guarded(|| redb::Redb::open(path, identity)).map_err(failed)?),
            Self::Sled => Box::new(guarded(|| sled::Sled::open(path, identity)).map_err(failed)?),
        };
        let found = engine.format().map_err(failed)?;
        if found != FORMAT {
            return Err(OpenError::Format { path: path.into(), found, expected: FORMAT });
        }
        engine.last_revision().map_err(failed)?;
        Ok(engine)
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An open database. What its reads show was committed durably.
pub(crate) trait Engine: fmt::Debug + Send + Sync {
    /// The file that was opened.
    fn identity(&self) -> Identity;

    /// The number of the layout in it.
    fn format(&self) -> Result<u64, Fault>;

    /// The revision of the last commit.
    fn last_revision(&self) -> Result<Revision, Fault>;

    /// The values of `keys`, all at one revision, which is answered too.
    fn read_many(&self, keys: &[StoreKey]) -> Result<(Revision, Vec<Option<Versioned>>), Fault>;

    /// At most `limit` entries of `prefix` after `after`, in key order.
    fn read_range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(StoreKey, Versioned)>, Fault>;

    /// Commits `transactions` one after the other in one durable step: each sees those before it,
    /// and one whose conditions do not hold changes nothing.
    fn commit(&self, transactions: &[&Transaction]) -> Result<Batch, Failure>;

    /// All entries as they are now.
    fn snapshot(&self, files: &Files) -> Result<Box<dyn Snapshot>, Fault>;

    /// Whether the open file still is the one that has its name: what is written to a file that
    /// was deleted or replaced is lost with this process.
    fn is_in_place(&self, files: &Files) -> bool {
        files.identity().is_ok_and(|identity| identity == self.identity())
    }
}

/// What happened to each transaction of a commit.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The last revision before the commit.
    pub(crate) previous: Revision,
    /// The last revision after it; the same if nothing was changed.
    pub(crate) last: Revision,
    /// In the order of the transactions.
    pub(crate) outcomes: Vec<Result<Revision, StoreError>>,
}

/// Why a batch was not committed; the text is for the operator.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The commit was not begun: nothing is changed.
    Before(String),
    /// The commit failed: all of it happened, or nothing.
    During(String, Batch),
}

/// What a database met.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Somebody else has it open.
    #[error("it is in use")]
    InUse,
    /// The disk, the directory or the permissions.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The content is not what a store wrote: opening it again does not help.
    #[error("{0}")]
    Damaged(String),
    /// It gave up, or what it says is of no kind above.
    #[error("{0}")]
    GaveUp(String),
}

impl Fault {
    /// The same, met when the database at `path` was to be opened.
    pub(crate) fn at(self, path: &std::path::Path) -> OpenError {
        let path = path.into();
        match self {
            Self::InUse => OpenError::InUse { path },
            Self::Io(source) => OpenError::Io { path, source },
            Self::Damaged(detail) | Self::GaveUp(detail) => OpenError::Damaged { path, detail },
        }
    }
}

/// Runs what may panic on a file that something else has altered. The caller must not use the database
/// after a panic.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // Nothing that the call worked on outlives it, or the database is closed next: unwinding is safe.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(Fault::GaveUp(words_of(&*panic))))
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref().copied()).unwrap_or("without a word");
    format!("the engine gave up: {words}")
}

/// A value as it is stored: its revision (8 bytes, big-endian) goes first.
fn decode(stored: &[u8]) -> Option<Versioned> {
    let (revision, value) = stored.split_first_chunk()?;
    Some(Versioned { revision: Revision::from_be_bytes(*revision), value: value.into() })
}

/// What [`decode`] says `None` of.
const TOO_SHORT: &str = "a record is shorter than its revision";
