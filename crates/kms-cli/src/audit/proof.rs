//! `dewctl audit checkpoint | prove | prove-growth`: what the service says of its log, checked here.

use std::path::PathBuf;

use kms_audit::{
    SignedCheckpoint, VerifierKey,
    merkle::{Hash, check_consistency, check_inclusion, leaf_hash},
};
use kms_client::{
    Client,
    proto::{ProveConsistencyRequest, ProveInclusionRequest},
};
use serde_json::json;

use super::verify::{parse_key, read};
use crate::{
    connection::ConnectionOptions,
    output::{Failure, print, show},
};

/// Whom to ask, and whom to believe.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// With --dev-json: as the operator
    #[arg(long)]
    operator: bool,
    /// The log's verifier key, or @FILE with it, from elsewhere; without it the one that the service tells is believed
    #[arg(long, value_name = "KEY")]
    log_key: Option<String>,
}

/// Which line to prove.
#[derive(Debug, clap::Args)]
pub(crate) struct ProveOptions {
    /// The line: the seq of its record
    seq: u64,
    /// A file with the record as it stands in the log, one line, as `audit export` writes it: that it is that line
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// From which checkpoint on.
#[derive(Debug, clap::Args)]
pub(crate) struct GrowthOptions {
    /// The checkpoint that was kept
    from: PathBuf,
    #[command(flatten)]
    asked: Asked,
}

impl Asked {
    async fn connect(&self, connection: &ConnectionOptions) -> Result<Client, Failure> {
        if self.operator { connection.operator().await } else { connection.user().await }
    }

    async fn key(&self, client: &Client) -> Result<VerifierKey, Failure> {
        match &self.log_key {
            Some(key) => parse_key(key),
            None => parse_key(&client.audit_checkpoint().await?.verifier_key),
        }
    }
}

/// Prints the newest checkpoint, as it is to be kept.
pub(super) async fn checkpoint(asked: &Asked, connection: &ConnectionOptions) -> Result<(), Failure> {
    let client = asked.connect(connection).await?;
    let answer = client.audit_checkpoint().await?;
    let key = asked.log_key.as_deref().map_or_else(|| parse_key(&answer.verifier_key), parse_key)?;
    let signed = open(&answer.checkpoint, &key)?;
    print(signed.note.trim_end())
}

/// Proves that a line is in the log.
pub(super) async fn prove(
    options: &ProveOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = options.asked.connect(connection).await?;
    let key = options.asked.key(&client).await?;
    let answer = client.prove_inclusion(ProveInclusionRequest { seq: options.seq, size: None }).await?;
    let signed = open(&answer.checkpoint, &key)?;
    let leaf = hash(&answer.leaf_hash)?;
    if let Some(path) = &options.record {
        let record = read(path)?;
        if leaf_hash(record.trim_end_matches('\n').as_bytes()) != leaf {
            return Err(Failure::NotSound(format!("line {} of the log is another record", options.seq)));
        }
    }
    let proof = hashes(&answer.path)?;
    let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
    if answer.size != size || !check_inclusion(&proof, options.seq, &leaf, size, &root) {
        return Err(Failure::NotSound("the service's proof does not hold".to_owned()));
    }
    show(
        &json!({
            "proved": true, "seq": options.seq, "leaf_hash": hex::encode(leaf), "size": size,
            "root": hex::encode(root), "origin": signed.checkpoint.origin,
        }),
        as_json,
    )
}

/// Proves that the log continues what a kept checkpoint covers.
pub(super) async fn prove_growth(
    options: &GrowthOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = options.asked.connect(connection).await?;
    let key = options.asked.key(&client).await?;
    let kept = open(&read(&options.from)?, &key)?.checkpoint;
    let request = ProveConsistencyRequest { old_size: kept.size, new_size: None };
    let answer = client.prove_consistency(request).await?;
    let newest = open(&answer.checkpoint, &key)?.checkpoint;
    let proof = hashes(&answer.path)?;
    let holds = check_consistency(&proof, (kept.size, &kept.root), (newest.size, &newest.root));
    if answer.new_size != newest.size || !holds {
        return Err(Failure::NotSound(
            "the log does not continue what the kept checkpoint covers".to_owned(),
        ));
    }
    show(&json!({ "proved": true, "old_size": kept.size, "new_size": newest.size }), as_json)
}

fn open(note: &str, key: &VerifierKey) -> Result<SignedCheckpoint, Failure> {
    SignedCheckpoint::open(note, key).map_err(|error| Failure::NotSound(format!("the checkpoint: {error}")))
}

fn hashes(path: &[impl AsRef<[u8]>]) -> Result<Vec<Hash>, Failure> {
    path.iter().map(|bytes| hash(bytes.as_ref())).collect()
}

fn hash(bytes: &[u8]) -> Result<Hash, Failure> {
    bytes.try_into().map_err(|_| Failure::NotSound("the service's proof is malformed".to_owned()))
}
