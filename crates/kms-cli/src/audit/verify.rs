//! `dewctl audit verify`: the log's files alone, without the service and without its HSM.

use std::{
    fs,
    path::{Path, PathBuf},
};

use indicatif::{ProgressBar, ProgressStyle};
use kms_audit::{CosignerKey, Expected, Summary, VerifierKey, bytes_to_read, verify_against};
use serde_json::json;

use crate::output::{Failure, show};

/// What to verify, and against what.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyOptions {
    /// The data directory of the service, its `audit` directory, or a copy of one; the service may be running
    directory: PathBuf,
    /// The log's verifier key, or @FILE with it, from elsewhere. Without it the key beside the log is believed, which
    /// whoever can replace the log can replace
    #[arg(long, value_name = "KEY")]
    log_key: Option<String>,
    /// A checkpoint that was kept elsewhere: the log must continue it. May be repeated
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The key of a witness, or @FILE with it: the newest checkpoint must carry its cosignature. May be repeated
    #[arg(long, value_name = "KEY")]
    witness: Vec<String>,
    /// Segments at the beginning may be missing, because they were archived: their hashes are proved all the same
    #[arg(long)]
    archived: bool,
}

fn parse_cosigner(text: &str) -> Result<CosignerKey, Failure> {
    let content = match text.strip_prefix('@') {
        Some(path) => read(Path::new(path))?,
        None => text.to_owned(),
    };
    CosignerKey::parse(content.trim_end()).map_err(|error| Failure::Usage(format!("--witness: {error}")))
}

/// Reads a verifier key, given by itself or as @FILE.
pub(super) fn parse_key(text: &str) -> Result<VerifierKey, Failure> {
    let content = match text.strip_prefix('@') {
        Some(path) => read(Path::new(path))?,
        None => text.to_owned(),
    };
    // A file may hold the keys of a log that has moved to another token: the newest is the last.
    let newest = content.lines().last().unwrap_or_default();
    VerifierKey::parse(newest).map_err(|error| Failure::Usage(format!("--log-key: {error}")))
}

pub(super) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

pub(super) fn run(options: &VerifyOptions, as_json: bool) -> Result<(), Failure> {
    let inner = options.directory.join("audit");
    let directory = if inner.is_dir() { &inner } else { &options.directory };
    let unreadable = |error| Failure::Usage(format!("{}: {error}", directory.display()));
    let expected = Expected {
        key: options.log_key.as_deref().map(parse_key).transpose()?,
        checkpoints: options.checkpoint.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
        archived: options.archived,
        witnesses: options.witness.iter().map(|key| parse_cosigner(key)).collect::<Result<_, _>>()?,
    };
    let bar = ProgressBar::new(bytes_to_read(directory).map_err(unreadable)?);
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let verified = verify_against(directory, &expected, |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let summary = verified.map_err(|error| Failure::NotSound(error.to_string()))?;
    if summary.segments == 0 {
        return Err(Failure::Usage(format!("{} holds no audit log", directory.display())));
    }
    report(&summary, &expected, as_json)
}

fn report(summary: &Summary, expected: &Expected, as_json: bool) -> Result<(), Failure> {
    let uncovered = summary.lines.saturating_sub(summary.covered);
    show(
        &json!({
            "sound": true,
            "lines": summary.lines,
            "records": summary.records,
            "segments": summary.segments,
            "archived_lines": summary.archived,
            "checkpoints": summary.checkpoints,
            "covered_lines": summary.covered,
            "uncovered_lines": uncovered,
            "open_intents": summary.open_intents.len(),
            "torn_bytes": summary.torn_bytes,
        }),
        as_json,
    )?;
    if expected.key.is_none() {
        eprintln!(
            "dewctl: the key beside the log was believed; give --log-key from elsewhere to trust nobody"
        );
    }
    if expected.checkpoints.is_empty() {
        eprintln!(
            "dewctl: an older copy of the whole log looks sound, too, unless a --checkpoint from elsewhere says more"
        );
    }
    if uncovered > 0 {
        eprintln!("dewctl: the last {uncovered} lines are under no checkpoint: only their form was checked");
    }
    Ok(())
}
