//! `dewpoint backup`: every key leaves the source's token under the transport key.

use std::{fs::File, io::BufWriter};

use kms_core::{Carried, CheckKey, key::WrappedKey, operation::OperationName};
use kms_hsm::{Passage, TransferKey};

use super::{
    BackupError, BackupOptions, Problem, Progress, Site, VALUES_AT_A_TIME,
    files::{self, NewFile},
    format::{Counts, Digest, Header, Source, Value, Writer},
    print, site, transfer_key,
};
use crate::{
    config::Config,
    opening::{self, store_exists},
    server,
    start_watch::StartWatch,
};

pub(super) async fn run(options: &BackupOptions) -> Result<(), BackupError> {
    let key = transfer_key::read(&options.transfer_key, &options.fingerprint)?;
    let config = Config::load(&options.config)?;
    if !store_exists(&config.data_dir) {
        return Err(Problem::NoStore(config.data_dir).into());
    }
    if options.out.exists() {
        return Err(Problem::FileExists(options.out.clone()).into());
    }
    let site =
        Site::open(opening::open(&config, &StartWatch::default())?, OperationName::CreateBackup).await?;
    site.settle().await?;
    site.begin(None).await?;
    let ended = match write(&site, &key, options).await {
        Ok((file, digest)) => conclude(&site, file, digest).await,
        Err(error) => site.end(None).await.and(Err(error)),
    };
    site.close();
    let digest = ended?;
    eprintln!("dewpoint: {} is the backup; its digest, SHA-256 of the file:", options.out.display());
    print(&hex::encode(digest));
    Ok(())
}

/// The file gets its name when its making is recorded.
async fn conclude(site: &Site, file: NewFile, digest: Digest) -> Result<Digest, BackupError> {
    site.end(Some(digest)).await?;
    file.finish()?;
    Ok(digest)
}

/// Writes all but the name of the backup.
async fn write(
    site: &Site,
    key: &TransferKey,
    options: &BackupOptions,
) -> Result<(NewFile, Digest), BackupError> {
    let counts = count(site).await?;
    let transfer = site.transfer()?;
    let (token_label, token_serial) = transfer.token()?;
    let deployment = site.service.deployment().await?;
    let root_generations = transfer.root_generations();
    let source = Source { deployment, token_label, token_serial, root_generations };
    let (passage, transport) = transfer.depart(key)?;
    let fingerprint = hex::encode(options.fingerprint);
    let header = Header::new(server::now().to_string(), source, fingerprint, counts, transport);
    let file = NewFile::begin(&options.out)?;
    let failed = |error: std::io::Error| files::error(&options.out, &error);
    let checks = (site.service.check_key().await?, CheckKey::new(&passage.seal(CheckKey::LABEL)?));
    let mut writer = Writer::begin(BufWriter::new(file.writer()), &header).map_err(failed)?;
    let (mut after, mut progress) = (None, Progress::of(counts.key_versions));
    loop {
        let (values, next) = site.service.carried(after.as_deref(), VALUES_AT_A_TIME).await?;
        for mut value in values {
            site::take_check_along(&mut value, &checks.0, &checks.1);
            let value = hand_over(value, &passage, &mut progress)?;
            writer.value(&value).map_err(failed)?;
        }
        if next.is_none() {
            break;
        }
        after = next;
    }
    let digest = seal(writer, &passage)?;
    file.sync()?;
    Ok((file, digest))
}

fn seal(writer: Writer<BufWriter<&File>>, passage: &Passage) -> Result<Digest, BackupError> {
    let sealed = writer.finish(|bytes| Ok::<_, Unsealed>(*passage.seal(bytes).map_err(Problem::from)?));
    let (_, digest) = sealed.map_err(|Unsealed(problem)| problem)?;
    Ok(digest)
}

/// Why the end of a backup could not be written.
struct Unsealed(Problem);

impl From<Problem> for Unsealed {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<std::io::Error> for Unsealed {
    fn from(error: std::io::Error) -> Self {
        Self(files::error("the backup".as_ref(), &error))
    }
}

async fn count(site: &Site) -> Result<Counts, BackupError> {
    let (mut counts, mut after) = (Counts::default(), None);
    loop {
        let (values, next) = site.service.carried(after.as_deref(), VALUES_AT_A_TIME).await?;
        for value in &values {
            counts.add(value);
        }
        if next.is_none() {
            return Ok(counts);
        }
        after = next;
    }
}

fn hand_over(mut value: Carried, passage: &Passage, progress: &mut Progress) -> Result<Value, BackupError> {
    let mut proofs = Vec::new();
    let id = value.key().map(|record| record.id);
    value.rewrap(|key| {
        let id = id.unwrap_or(key.material.key_id()); // only key records have versions
        let moved = passage.hand_over(key).map_err(site::with_key(id, key.version))?;
        proofs.push(moved.proof);
        progress.step();
        // Generation 0: no root key's, but the transport key's.
        Ok::<_, BackupError>(WrappedKey { root_generation: 0, blob: moved.blob })
    })?;
    Ok(Value { path: value.path().to_vec(), payload: value.payload()?, proofs })
}
