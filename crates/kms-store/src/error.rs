//! Why a store cannot be opened.

use std::{io, path::PathBuf};

use crate::EngineKind;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or the file cannot be used: missing, not permitted, or the disk fails.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The directory or the file.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// Another store, of this process or another, has the directory open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file is not what a store wrote: truncated, altered, or something else.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file was written by a version of this program that stores in another format.
    #[error("{} has format {found}; this version reads format {expected}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format number in the file.
        found: u64,
        /// The format number that this version reads.
        expected: u64,
    },
    /// The directory holds a database of another engine: the configuration names the wrong one.
    #[error("{} is a database of {found}, and the store is to be {expected}", path.display())]
    OtherEngine {
        /// The database.
        path: PathBuf,
        /// Its engine.
        found: EngineKind,
        /// The engine that was asked for.
        expected: EngineKind,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the store's writer: {source}")]
    Thread {
        /// What the operating system answered.
        source: io::Error,
    },
}
