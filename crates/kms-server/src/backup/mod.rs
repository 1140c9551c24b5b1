//! Backups of two kinds. One for the same token is made while the service runs: `copy/`. By the other a store moves
//! from one token to another: `dewpoint transfer-key`, `dewpoint backup`. `dewpoint restore` takes both.
//!
//! For a move the service is stopped. What the file holds is in `format.rs`, what moves in
//! [`kms_core::Carried`], how keys pass from token to token in [`kms_hsm::Passage`].

pub(crate) mod copy;
mod create;
mod files;
mod format;
mod frames;
mod restore;
mod site;
mod transfer_key;

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use kms_core::ports::HsmError;

pub use format::FormatError;
use site::Site;

use crate::{config::FileError, opening::store_exists, server::ServeError};

/// How many stored values are worked on at a time.
const VALUES_AT_A_TIME: usize = 1_000;
/// From how many key versions on progress is told.
const MANY_KEY_VERSIONS: u64 = 1_000;
/// How often it is told.
const PROGRESS_STEPS: u64 = 20;

/// What `dewpoint transfer-key` is told.
#[derive(Debug, clap::Args)]
pub struct TransferKeyOptions {
    /// The configuration of the deployment that takes the keys over
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where the public key goes
    #[arg(long, value_name = "FILE", required_unless_present = "destroy")]
    out: Option<PathBuf>,
    /// Make another key pair in place of the one that the token has
    #[arg(long)]
    replace: bool,
    /// Destroy the token's key pair instead: no backup that was made for it opens again
    #[arg(long, conflicts_with_all = ["out", "replace"])]
    destroy: bool,
}

/// What `dewpoint backup` is told.
#[derive(Debug, clap::Args)]
pub struct BackupOptions {
    /// The configuration of the deployment whose keys leave
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The file that `dewpoint transfer-key` wrote on the other side
    #[arg(long = "for", value_name = "FILE")]
    transfer_key: PathBuf,
    /// The fingerprint that it printed there, told by another way than the file
    #[arg(long, value_name = "HEX", value_parser = parse_digest)]
    fingerprint: format::Digest,
    /// Where the backup goes; must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What `dewpoint restore` is told.
#[derive(Debug, clap::Args)]
pub struct RestoreOptions {
    /// The configuration of the deployment that takes the keys over
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The digest that was printed when the backup was made, told by another way than the file; a backup for
    /// another token (`dewpoint backup`) needs it
    #[arg(long, value_name = "HEX", value_parser = parse_digest)]
    digest: Option<format::Digest>,
    /// Keep the token's key pair, so that the backup of `dewpoint backup` can be restored once more
    #[arg(long)]
    keep_transfer_key: bool,
    /// Prove that the backup of `dewctl backup` can be restored on this token, and leave nothing behind; the service
    /// may be running
    ///
    /// Needs as much room in the directory for temporary files (TMPDIR) as the restored store.
    #[arg(long, conflicts_with = "keep_transfer_key")]
    drill: bool,
    /// Restore what is whole of the backup of `dewctl backup`, and leave out the values that are named as faulty
    #[arg(long, conflicts_with_all = ["keep_transfer_key", "drill"])]
    leave_out_faulty: bool,
}

fn parse_digest(text: &str) -> Result<format::Digest, &'static str> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| "must be SHA-256 in hex: 64 digits")?;
    Ok(digest)
}

/// Why a step of a move was not done: one clear line.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BackupError(Box<Problem>);

impl<T: Into<Problem>> From<T> for BackupError {
    fn from(problem: T) -> Self {
        Self(Box::new(problem.into()))
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Config(#[from] FileError),
    #[error(transparent)]
    Open(ServeError),
    #[error("the service runs on this deployment: stop it first")]
    ServiceRuns,
    #[error(transparent)]
    Token(#[from] kms_hsm::OpenError),
    #[error(transparent)]
    Hsm(#[from] HsmError),
    #[error("{}", .0.operator_detail().unwrap_or_else(|| .0.to_string()))]
    Core(#[from] kms_core::Error),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{}: {error}", path.display())]
    Format { path: PathBuf, error: FormatError },
    #[error("{} exists; name another file", .0.display())]
    FileExists(PathBuf),
    #[error("data_dir {}: there is no key store to back up", .0.display())]
    NoStore(PathBuf),
    #[error("data_dir {}: there is a key store already; a backup is restored only where none is", .0.display())]
    StoreExists(PathBuf),
    #[error("data_dir {}: `store` holds no key store, but something else; move it away", .0.display())]
    StoreInTheWay(PathBuf),
    #[error(
        "data_dir {}: there is the audit log of a deployment whose store is gone; restore into an empty directory",
        .0.display()
    )]
    LogExists(PathBuf),
    #[error(
        "data_dir {}: the audit log begins with line {first}, and keys of whose destruction the lines before tell \
         would come back; copy the segments from the log's archive into it first",
        data_dir.display()
    )]
    LogArchived { data_dir: PathBuf, first: u64 },
    #[error("{} is no transfer key of this version", .0.display())]
    NoTransferKey(PathBuf),
    #[error(
        "{} has the fingerprint {found} and not the one that was given: it is another file than the one that the \
         other side wrote",
        path.display()
    )]
    OtherFingerprint { path: PathBuf, found: String },
    #[error("the token has no transfer key: the backup was made for another token, or the key was destroyed")]
    TransferKeyMissing,
    #[error("{} was made for another transfer key than the one that this token has", .0.display())]
    OtherTransferKey(PathBuf),
    #[error("{} has the digest {found} and not the one that was given: it is another file", path.display())]
    OtherDigest { path: PathBuf, found: String },
    #[error("a backup for another token needs --digest: what `dewpoint backup` printed")]
    DigestNeeded,
    #[error(
        "--drill and --leave-out-faulty are for backups of `dewctl backup`; this one is for another token"
    )]
    NotForMoves,
    #[error("{} is a backup of a deployment on another token", .0.display())]
    OtherToken(PathBuf),
    #[error("{}: {faults} of its values are faulty", path.display())]
    Faulty { path: PathBuf, faults: u64 },
    #[error(
        "key {key}, version {version} can be neither proved nor called faulty now, so nothing is restored: {detail}"
    )]
    Unproved { key: kms_core::key::KeyId, version: u32, detail: String },
    #[error("{}: its seal is wrong: it was altered, or its keys are others than it says", .0.display())]
    WrongSeal(PathBuf),
    #[error("this token does not take the backup's keys: {0}")]
    NotTaken(String),
    #[error("key {key}, version {version}: {error}")]
    Key { key: kms_core::key::KeyId, version: u32, error: HsmError },
    #[error("{0}")]
    Internal(String),
}

impl From<ServeError> for Problem {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Store(kms_store::OpenError::InUse { .. })
            | ServeError::Log(kms_audit::OpenError::InUse) => Self::ServiceRuns,
            error => Self::Open(error),
        }
    }
}

/// Makes the key pair on the target's token.
pub fn transfer_key(options: &TransferKeyOptions) -> Result<(), BackupError> {
    transfer_key::run(options)
}

/// Writes a backup of the source.
pub async fn create(options: &BackupOptions) -> Result<(), BackupError> {
    create::run(options).await
}

/// Makes a store of a backup of either kind.
pub async fn restore(options: &RestoreOptions) -> Result<(), BackupError> {
    if is_copy(&options.from)? {
        return copy::restore(options).await;
    }
    if options.drill || options.leave_out_faulty {
        return Err(Problem::NotForMoves.into());
    }
    restore::run(options, options.digest.ok_or(Problem::DigestNeeded)?).await
}

/// Whether it is a backup for the same token, by the name at its beginning.
fn is_copy(path: &Path) -> Result<bool, Problem> {
    let mut begins = Vec::new();
    let length = u64::try_from(copy::MAGIC.len()).unwrap_or(u64::MAX);
    let read = File::open(path).and_then(|file| file.take(length).read_to_end(&mut begins));
    read.map_err(|error| files::error(path, &error))?;
    Ok(begins == copy::MAGIC)
}

/// The one result of a command, for standard output.
fn print(result: &str) {
    // Whoever closed it does not want to know.
    let _ = writeln!(std::io::stdout(), "{result}");
}

/// Tells on standard error how far long work has come.
struct Progress {
    done: u64,
    total: u64,
}

impl Progress {
    fn of(total: u64) -> Self {
        Self { done: 0, total }
    }

    fn step(&mut self) {
        let steps = |done: u64| done * PROGRESS_STEPS / self.total.max(1);
        self.done += 1;
        if self.total >= MANY_KEY_VERSIONS && steps(self.done) > steps(self.done - 1) {
            eprintln!("dewpoint: {} of {} key versions", self.done, self.total);
        }
    }
}

/// Refuses a data directory with a store, or with anything in the place that the restored one is to have.
fn refuse_store(data_dir: &Path) -> Result<(), Problem> {
    if store_exists(data_dir) {
        return Err(Problem::StoreExists(data_dir.to_owned()));
    }
    let in_the_way = fs::read_dir(data_dir.join("store")).into_iter().flatten().count() > 0;
    if in_the_way { Err(Problem::StoreInTheWay(data_dir.to_owned())) } else { Ok(()) }
}

/// Where a store is put together before it gets its name.
pub(crate) fn unfinished_store(data_dir: &Path) -> PathBuf {
    data_dir.join("store.restoring")
}
