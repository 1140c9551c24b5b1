//! `dewpoint restore` of a move: the target's token takes every key over, into a store that begins with that.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::Path,
    sync::Arc,
};

use kms_audit::{Entry, Line};
use kms_core::{Carried, CheckKey, operation::OperationName};
use kms_hsm::{MovedKey, Passage, Pkcs11Hsm};

use super::{
    BackupError, Problem, Progress, RestoreOptions, Site, VALUES_AT_A_TIME, files,
    format::{Counts, Digest, End, Header, Next, Proof, Reader, Value},
    refuse_store, site, transfer_key, unfinished_store,
};
use crate::{
    config::Config,
    keystores::Keystores,
    opening::{self, TokenKey, log_exists},
    start_watch::StartWatch,
};

pub(super) async fn run(options: &RestoreOptions, digest: Digest) -> Result<(), BackupError> {
    let config = Config::load(&options.config)?;
    refuse_what_exists(&config.data_dir)?;
    let hsm = Arc::new(opening::open_hsm(&config, false)?);
    let passage = check(&hsm, options, digest)?;

    // From here on the data directory changes. The log is locked before what a killed restore left is removed.
    let log = opening::open_log(&config, &hsm, TokenKey::Other, &StartWatch::default())?;
    let unfinished = unfinished_store(&config.data_dir);
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(files::error(&unfinished, &error).into());
        }
        _ => {}
    }
    let store = opening::open_store(&config, &unfinished)?;
    let opened = opening::Opened::of(hsm, Keystores::none(), store, log);
    let site = Site::open(opened, OperationName::RestoreBackup).await?;
    site.settle().await?;
    site.begin(Some(digest)).await?;
    let ended = match fill(&site, &passage, options, digest).await {
        Ok(counts) => conclude(&site, &config.data_dir, digest).await.map(|()| counts),
        Err(error) => site.end(None).await.and(Err(error)),
    };
    drop(passage);
    let destroyed = match &ended {
        Ok(_) if !options.keep_transfer_key => site.transfer()?.destroy_key().map_err(BackupError::from),
        _ => Ok(()),
    };
    site.close();
    let counts = ended?;
    eprintln!("dewpoint: {} keys with {} versions are restored", counts.keys, counts.key_versions);
    destroyed
}

/// A backup is the beginning of a deployment: there is no store, and no log but of restores that were killed.
fn refuse_what_exists(data_dir: &Path) -> Result<(), BackupError> {
    refuse_store(data_dir)?;
    if !log_exists(data_dir) {
        return Ok(());
    }
    let foreign = |entry: Result<Entry, _>| match entry {
        Ok(Entry { line: Line::Record(record), .. }) => record.operation != OperationName::RestoreBackup,
        Ok(_) => false,
        Err(_) => true,
    };
    let lines = kms_audit::read(&data_dir.join("audit"));
    let lines = lines.map_err(|error| Problem::Internal(error.to_string()))?;
    if lines.into_iter().any(foreign) {
        return Err(Problem::LogExists(data_dir.to_owned()).into());
    }
    Ok(())
}

/// Reads the whole backup and opens its keys: it is the one that its maker told of, whole, made for this
/// token, and this token takes all that is in it. Changes nothing.
fn check(hsm: &Pkcs11Hsm, options: &RestoreOptions, digest: Digest) -> Result<Passage, BackupError> {
    let transfer = hsm.transfer()?;
    let key = transfer.key()?.ok_or(Problem::TransferKeyMissing)?;
    let (mut reader, header) = open(&options.from)?;
    if header.transfer_key != hex::encode(transfer_key::fingerprint(key)?) {
        return Err(Problem::OtherTransferKey(options.from.clone()).into());
    }
    let passage = transfer.arrive(&header.transport())?;
    let (mut counts, mut not_taken) = (Counts::default(), Vec::new());
    let end = loop {
        match next(&mut reader, &options.from)? {
            Next::Value(value) => {
                let (value, _) = parse(value, options)?;
                counts.add(&value);
                not_taken.extend(refusals(&value, &passage));
            }
            Next::End(end) => break end,
        }
    };
    refuse_wrong_end(&end, &passage, options, digest)?;
    if counts != header.counts {
        return Err(damaged(options, "it holds another number of values than it says"));
    }
    if !not_taken.is_empty() {
        return Err(Problem::NotTaken(not_taken.join("; ")).into());
    }
    Ok(passage)
}

fn refuse_wrong_end(
    end: &End,
    passage: &Passage,
    options: &RestoreOptions,
    digest: Digest,
) -> Result<(), BackupError> {
    if end.digest != digest {
        let (path, found) = (options.from.clone(), hex::encode(end.digest));
        return Err(Problem::OtherDigest { path, found }.into());
    }
    // The seal is public: there is nothing to learn from how long the comparison takes.
    if *passage.seal(&end.sealed_bytes)? != end.seal {
        return Err(Problem::WrongSeal(options.from.clone()).into());
    }
    Ok(())
}

/// Which versions of a key this token has no place for.
fn refusals(value: &Carried, passage: &Passage) -> Vec<String> {
    let Some(record) = value.key() else { return Vec::new() };
    let refused = value.moving_versions().iter().filter_map(|version| {
        let refusal = passage.takes(record.backing_key(version).kind).err()?;
        Some(format!("key {}, version {}: {refusal}", record.id, version.number))
    });
    refused.collect()
}

/// Puts all values into the store.
async fn fill(
    site: &Site,
    passage: &Passage,
    options: &RestoreOptions,
    digest: Digest,
) -> Result<Counts, BackupError> {
    let (mut reader, header) = open(&options.from)?;
    let checks = (CheckKey::new(&passage.seal(CheckKey::LABEL)?), site.service.check_key().await?);
    let mut progress = Progress::of(header.counts.key_versions);
    let (mut values, mut moved_until) = (Vec::new(), None);
    loop {
        let ended = match next(&mut reader, &options.from)? {
            Next::Value(value) => {
                let mut value = take_over(value, passage, options, &mut progress)?;
                site::take_check_along(&mut value, &checks.0, &checks.1);
                moved_until = moved_until.max(value.newest());
                values.push(value);
                None
            }
            Next::End(end) => Some(end),
        };
        if values.len() >= VALUES_AT_A_TIME || ended.is_some() {
            site.service.take_in(&values).await?;
            values.clear();
        }
        if let Some(end) = ended {
            // It is still the file that was checked.
            refuse_wrong_end(&end, passage, options, digest)?;
            let deployment = header.source.deployment;
            site.service.seal_arrival(site.request, deployment, digest, moved_until).await?;
            return Ok(header.counts);
        }
    }
}

/// The store gets its name, and then the log says so. If a crash comes between, the next start finds the trace
/// in the store and says it.
async fn conclude(site: &Site, data_dir: &Path, digest: Digest) -> Result<(), BackupError> {
    let store = data_dir.join("store");
    fs::rename(unfinished_store(data_dir), &store).map_err(|error| files::error(&store, &error))?;
    files::sync_directory_of(&store)?;
    site.end(Some(digest)).await
}

fn take_over(
    value: Value,
    passage: &Passage,
    options: &RestoreOptions,
    progress: &mut Progress,
) -> Result<Carried, BackupError> {
    let (mut value, proofs) = parse(value, options)?;
    let id = value.key().map(|record| record.id);
    let mut proofs = proofs.into_iter();
    value.rewrap(|key| {
        let id = id.unwrap_or(key.material.key_id()); // only key records have versions
        let proof = proofs.next().ok_or_else(|| damaged(options, "a key version has no proof"))?;
        let moved = MovedKey { blob: key.wrapped.blob.clone(), proof };
        progress.step();
        passage.take_over(key.kind, &moved).map_err(site::with_key(id, key.version))
    })?;
    value.spend_budgets();
    value.never_final();
    Ok(value)
}

fn parse(value: Value, options: &RestoreOptions) -> Result<(Carried, Vec<Proof>), BackupError> {
    let carried = Carried::parse(value.path, value.payload)
        .map_err(|_| damaged(options, "a value that this version does not know"))?;
    if carried.moving_versions().len() != value.proofs.len() {
        return Err(damaged(options, "a key has not one proof for each version"));
    }
    Ok((carried, value.proofs))
}

type FileReader = Reader<BufReader<File>>;

fn open(path: &Path) -> Result<(FileReader, Header), BackupError> {
    let file = File::open(path).map_err(|error| files::error(path, &error))?;
    let begun = Reader::begin(BufReader::new(file));
    begun.map_err(|error| Problem::Format { path: path.to_owned(), error }.into())
}

fn next(reader: &mut FileReader, path: &Path) -> Result<Next, BackupError> {
    reader.next().map_err(|error| Problem::Format { path: path.to_owned(), error }.into())
}

fn damaged(options: &RestoreOptions, what: &'static str) -> BackupError {
    let error = super::FormatError::Damaged(what);
    Problem::Format { path: options.from.clone(), error }.into()
}
