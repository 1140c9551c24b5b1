//! The parts of a deployment: opened, and made where they are new.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use kms_audit::{FileLog, Line, RecordLine};
use kms_core::{
    Phase, Ports, Verdict,
    key::BackingKind,
    ports::{AuditLog, Clock},
};
use kms_hsm::{Pkcs11Config, Pkcs11Hsm};
use kms_store::EmbeddedStore;
use tokio_util::task::TaskTracker;

use crate::{
    archiving::Archiver,
    backup::unfinished_store,
    carriers::Carried,
    clock::SystemClock,
    config::{CipherPlace, ClockKind, Config},
    keystores::{self, Keystores, check_modules},
    manual_clock::ManualClock,
    notary::{NewestCheckpoint, notarization},
    serve_error::ServeError,
    start_watch::StartWatch,
};

/// What has to be closed in order when the service ends.
#[derive(Clone)]
pub(crate) struct Adapters {
    pub(crate) hsm: Arc<Pkcs11Hsm>,
    pub(crate) keystores: Arc<Keystores>,
    pub(crate) log: Arc<FileLog>,
    pub(crate) checkpoints: NewestCheckpoint,
    /// What carries the checkpoints elsewhere has done.
    pub(crate) carried: Vec<Arc<Carried>>,
    /// What copies the log elsewhere, if anything does.
    pub(crate) archiver: Option<Arc<Archiver>>,
    /// The machine's clock: for latencies, and for certificates.
    pub(crate) machine: Arc<SystemClock>,
    /// The clock of the keys, if that is another one.
    pub(crate) manual_clock: Option<Arc<ManualClock>>,
    pub(crate) changes: TaskTracker,
}

/// Makes the root keys of a new deployment: once, before its first start. And those of its keystores' tokens, as far
/// as they have none.
///
/// `None`: the token has them already, and keeps them.
pub fn initialise(config: &Config) -> Result<Option<kms_hsm::RootKeys>, ServeError> {
    check_data_directory(&config.data_dir)?;
    check_modules(config)?;
    let made = initialise_token(config)?;
    keystores::initialise(config)?;
    Ok(made)
}

fn initialise_token(config: &Config) -> Result<Option<kms_hsm::RootKeys>, ServeError> {
    if store_exists(&config.data_dir) {
        return match Pkcs11Hsm::open(&pkcs11_config(config)) {
            Ok(_) => Ok(None),
            Err(kms_hsm::OpenError::RootKeysMissing { .. }) => Err(ServeError::RootKeyLost),
            Err(error) => Err(error.into()),
        };
    }
    match Pkcs11Hsm::create_root_keys(&pkcs11_config(config)) {
        Ok(made) => Ok(Some(made)),
        Err(kms_hsm::OpenError::RootKeysExist { .. }) => {
            // Who made them may have died before they were on the disk.
            rustix::fs::sync();
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the data directory holds a key store. An empty place for one is none: its volume may not be mounted.
pub(crate) fn store_exists(data_dir: &Path) -> bool {
    EmbeddedStore::exists(&data_dir.join("store"))
}

/// Whether it holds an audit log.
pub(crate) fn log_exists(data_dir: &Path) -> bool {
    let entries = fs::read_dir(data_dir.join("audit")).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
}

/// A deployment's parts, opened; nothing is put in order yet.
pub(crate) struct Opened {
    pub(crate) ports: Ports,
    pub(crate) adapters: Adapters,
    /// What a crash may have cut off.
    pub(crate) open_intents: Vec<kms_core::OpenIntent>,
}

impl Opened {
    pub(crate) fn of(
        hsm: Arc<Pkcs11Hsm>,
        keystores: Keystores,
        store: EmbeddedStore,
        OpenedLog { log, opened, checkpoints }: OpenedLog,
    ) -> Self {
        let machine = Arc::new(SystemClock::start());
        let (manual_clock, changes) = (None, TaskTracker::new());
        let (keystores, log) = (Arc::new(keystores), Arc::new(log));
        let adapters = Adapters {
            hsm,
            keystores,
            log,
            checkpoints,
            carried: Vec::new(),
            archiver: None,
            machine,
            manual_clock,
            changes,
        };
        let ports = ports(
            adapters.hsm.clone(),
            adapters.keystores.ports(),
            store,
            adapters.log.clone(),
            adapters.machine.clone(),
        );
        Self { ports, adapters, open_intents: opened.open_intents }
    }

    fn with_clock(mut self, config: &Config) -> Result<Self, ServeError> {
        if config.clock == ClockKind::Manual {
            let machine: Arc<dyn Clock> = self.adapters.machine.clone();
            let clock = Arc::new(ManualClock::open(&config.data_dir, machine)?);
            self.ports.clock = clock.clone();
            self.adapters.manual_clock = Some(clock);
        }
        Ok(self)
    }
}

/// The world of a service on these parts.
pub(crate) fn ports(
    hsm: Arc<Pkcs11Hsm>,
    keystores: BTreeMap<kms_core::identity::KeystoreId, Arc<dyn kms_core::ports::Hsm>>,
    store: EmbeddedStore,
    audit: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
) -> Ports {
    Ports { hsm, keystores, store: Arc::new(store), audit, clock }
}

/// Opens the parts of a deployment; a new one begins with an empty log and an empty store.
pub(crate) fn open(config: &Config, watch: &StartWatch) -> Result<Opened, ServeError> {
    let existed = store_exists(&config.data_dir);
    watch.waits_while("the token is opened");
    let hsm = Arc::new(open_hsm(config, existed)?);
    watch.goes_on();
    if !existed && unfinished_store(&config.data_dir).exists() {
        return Err(ServeError::RestoreUnfinished);
    }
    // The log is begun before the store: a store without a log has lost it.
    if existed && !log_exists(&config.data_dir) {
        return Err(ServeError::LogLost);
    }
    let log = open_log(config, &hsm, TokenKey::Same, watch)?;
    // A first start that was cut off leaves a log that tells of nothing.
    if !existed && log_tells_of_store(&config.data_dir)? {
        return Err(ServeError::StoreLost);
    }
    let store = open_store(config, &config.data_dir.join("store"))?;
    // Last: what stops the start does so before further tokens are logged in to.
    Opened::of(hsm, Keystores::open(config, watch), store, log).with_clock(config)
}

/// Whether there was a store when the log was written.
fn log_tells_of_store(data_dir: &Path) -> Result<bool, ServeError> {
    let directory = data_dir.join("audit");
    if kms_audit::first_sequence(&directory)? > 0 {
        return Ok(true); // what was archived is more than nothing
    }
    for entry in kms_audit::read(&directory)? {
        if let Line::Record(record) = entry?.line
            && tells_of_store(&record)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a record says that a change was committed; a restore is committed when the store has its name.
fn tells_of_store(record: &RecordLine<'_>) -> bool {
    matches!(record.phase, Phase::Outcome | Phase::Recovery) && record.verdict == Verdict::Succeeded
}

/// Opens the token; `existed`: there is a store that belongs to it.
pub(crate) fn open_hsm(config: &Config, existed: bool) -> Result<Pkcs11Hsm, ServeError> {
    check_data_directory(&config.data_dir)?;
    check_modules(config)?;
    let hsm = Pkcs11Hsm::open(&pkcs11_config(config)).map_err(|error| match error {
        kms_hsm::OpenError::RootKeysMissing { .. } if existed => ServeError::RootKeyLost,
        kms_hsm::OpenError::RootKeysMissing { .. } => ServeError::NoRootKey,
        error => error.into(),
    })?;
    let wanted = [
        ("aes_256", config.hsm.cipher.aes_256, BackingKind::Aes256),
        ("sm4", config.hsm.cipher.sm4, BackingKind::Sm4),
    ];
    for (name, place, kind) in wanted {
        if place == CipherPlace::Hsm && !hsm.offers(kind) {
            return Err(ServeError::CipherNotOffered(name));
        }
    }
    for label in hsm.strangers() {
        tracing::warn!(label, "the token holds an object that is none of Dewpoint's; it is left alone");
    }
    Ok(hsm)
}

/// A log that is open.
pub(crate) struct OpenedLog {
    log: FileLog,
    pub(crate) opened: kms_audit::Opened,
    checkpoints: NewestCheckpoint,
}

/// Which key of the token signs the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKey {
    /// The one that signed before.
    Same,
    /// It may be another: the deployment moves to this token.
    Other,
}

pub(crate) fn open_log(
    config: &Config,
    hsm: &Arc<Pkcs11Hsm>,
    key: TokenKey,
    watch: &StartWatch,
) -> Result<OpenedLog, ServeError> {
    let directory = config.data_dir.join("audit");
    let moved = key == TokenKey::Other;
    watch.waits_while("the key that signs the log is asked for");
    let (notarization, checkpoints) = notarization(hsm, &directory, moved)?;
    watch.goes_on();
    let (log, opened) = FileLog::open(&directory, config.audit.log_config(), Some(notarization))?;
    if let Some(repaired) = &opened.repaired {
        tracing::warn!(?repaired, "an unfinished, unacknowledged record was cut off the audit log");
    }
    Ok(OpenedLog { log, opened, checkpoints })
}

pub(crate) fn open_store(config: &Config, directory: &Path) -> Result<EmbeddedStore, ServeError> {
    private_directory(directory)?;
    Ok(EmbeddedStore::open(directory, config.store.into())?)
}

fn check_data_directory(path: &Path) -> Result<(), ServeError> {
    let probe = path.join(".writable");
    let written = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe));
    written.map_err(|error| data_directory_error(path, &error))
}

fn private_directory(path: &Path) -> Result<(), ServeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| data_directory_error(path, &error))
}

fn data_directory_error(path: &Path, error: &io::Error) -> ServeError {
    ServeError::DataDirectory {
        path: path.display().to_string(),
        problem: format!("cannot be written: {error}"),
    }
}

fn pkcs11_config(config: &Config) -> Pkcs11Config {
    let hsm = config.hsm.clone();
    Pkcs11Config {
        module: hsm.module,
        token_label: hsm.token_label,
        pin_file: hsm.pin_file,
        root_label: hsm.root_label,
        workers: hsm.workers,
        loaded_keys: hsm.loaded_keys,
        renew_after: hsm.renew_after,
        sm4: hsm.sm4.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use kms_core::{Record, operation::OperationName, testing::audit::sample_record};

    use super::*;

    #[test]
    fn a_change_that_was_committed_tells_of_a_store_and_nothing_else_does() {
        let tells = |record: &Record| tells_of_store(&RecordLine::new(1, record));
        for phase in [Phase::Outcome, Phase::Recovery] {
            let changed = sample_record(1, phase);
            let ended = |verdict| Record { verdict, ..changed.clone() };
            assert!(tells(&ended(Verdict::Succeeded)));
            assert!(!tells(&ended(Verdict::Failed)) && !tells(&ended(Verdict::Denied)));
            let restored = Record { operation: OperationName::RestoreBackup, ..changed.clone() };
            assert!(
                !tells(&Record { verdict: Verdict::Failed, ..restored }),
                "one that failed leaves no store"
            );
        }
        let begun = Record { verdict: Verdict::Pending, ..sample_record(1, Phase::Intent) };
        assert!(!tells(&begun) && !tells(&sample_record(1, Phase::Complete)));
    }
}
