//! `dewpoint restore` of a backup for the same token: value by value and key by key into a store that serves
//! nobody before all of it is proved; or, as a drill, into one that is removed again.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, BufReader},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kms_audit::{Line, RecordLine};
use kms_core::{
    Content, Error, OVERTAKEN, Record, Service, Settings, StartError, Timestamp, Verdict,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ports::{Acknowledge, AuditLog, Receipt, StoreKey},
};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    Counts,
    format::{End, Header, Next, Reader},
};
use crate::{
    backup::{
        BackupError, Problem, RestoreOptions, VALUES_AT_A_TIME, files, print, refuse_store, site::Site,
        unfinished_store,
    },
    clock::SystemClock,
    config::Config,
    keystores::Keystores,
    opening,
    rotation::concerns_one_key,
    serve_error::ServeError,
    start_watch::StartWatch,
};

/// How many faults are named.
const FAULTS_NAMED: u64 = 100;
/// How long it waits before it proves a key again, where the HSM could not say whether the key is sound.
const PROOF_RESTS: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// How often progress is told, in values.
const PROGRESS_STEP: u64 = 100_000;

pub(in crate::backup) async fn run(options: &RestoreOptions) -> Result<(), BackupError> {
    let config = Config::load(&options.config)?;
    let (header, end) = check_file(options)?;
    let report = if options.drill {
        drill(&config, options, &header).await?
    } else {
        restore(&config, options, &header, &end).await?
    };
    print(&report.sentences());
    match report.counts.unreadable {
        0 => Ok(()),
        _ if options.leave_out_faulty && !options.drill => Ok(()),
        faults => Err(Problem::Faulty { path: options.from.clone(), faults }.into()),
    }
}

/// Reads the whole file: it is whole, and the one that was meant, if that was said. Whose it is, its seal tells
/// later.
fn check_file(options: &RestoreOptions) -> Result<(Header, End), BackupError> {
    let (mut reader, header) = open(&options.from)?;
    let end = loop {
        if let Next::End(end) = next(&mut reader, &options.from)? {
            break end;
        }
    };
    if options.digest.is_some_and(|digest| digest != end.digest) {
        let (path, found) = (options.from.clone(), hex::encode(end.digest));
        return Err(Problem::OtherDigest { path, found }.into());
    }
    Ok((header, end))
}

/// What was found.
struct Report {
    counts: Counts,
    drill: bool,
}

impl Report {
    fn sentences(&self) -> String {
        let Counts { values, keys, key_versions, tombstones, grants, unreadable } = self.counts;
        let result = if self.drill { "drill" } else { "restored" };
        format!(
            "{result}: {values} values\nkeys: {keys} with {key_versions} versions\ntombstones: {tombstones}\n\
             grants: {grants}\nunreadable: {unreadable}"
        )
    }
}

/// All of the work of a restore, and nothing left of it. Not recorded: it answers nothing of any key, and the
/// log belongs to the service, which may be running.
async fn drill(config: &Config, options: &RestoreOptions, header: &Header) -> Result<Report, BackupError> {
    let hsm = Arc::new(opening::open_hsm(config, true)?);
    let keystores = Keystores::open(config, &StartWatch::default());
    let place = PassingDirectory::make()?;
    let store = opening::open_store(config, &place.0)?;
    let ports = opening::ports(
        hsm.clone(),
        keystores.ports(),
        store,
        Arc::new(NoLog),
        Arc::new(SystemClock::start()),
    );
    let service = Service::start(ports, Settings::default()).await.map_err(ServeError::Start)?;
    let counts = fill(&service, options, header).await;
    drop(service);
    hsm.shut_down();
    keystores.shut_down();
    Ok(Report { counts: counts?, drill: true })
}

async fn restore(
    config: &Config,
    options: &RestoreOptions,
    header: &Header,
    end: &End,
) -> Result<Report, BackupError> {
    refuse_store(&config.data_dir)?;
    let hsm = Arc::new(opening::open_hsm(config, true)?);
    // The log is locked before what a killed restore left is removed.
    let unwatched = StartWatch::default(); // an operator waits
    let log = opening::open_log(config, &hsm, opening::TokenKey::Same, &unwatched)?;
    let destroyed = destroyed_keys(&config.data_dir)?;
    let unfinished = unfinished_store(&config.data_dir);
    remove(&unfinished)?;
    let store = opening::open_store(config, &unfinished)?;
    let opened = opening::Opened::of(hsm, Keystores::open(config, &unwatched), store, log);
    let site = Site::open(opened, OperationName::RestoreBackup).await?;
    site.begin(Some(end.digest)).await?;
    let ended = match take_all(&site, options, (header, end), destroyed).await {
        Ok(counts) => conclude(&site, &config.data_dir, end).await.map(|()| counts),
        Err(error) => site.end(None).await.and(Err(error)),
    };
    site.close();
    if ended.is_err() {
        remove(&unfinished)?;
    }
    Ok(Report { counts: ended?, drill: false })
}

/// The keys of whose destruction the deployment's log tells, and when it was.
fn destroyed_keys(data_dir: &Path) -> Result<BTreeMap<KeyId, Timestamp>, BackupError> {
    let unreadable = |error: kms_audit::ReadError| Problem::Internal(error.to_string());
    let mut destroyed = BTreeMap::new();
    let first = kms_audit::first_sequence(&data_dir.join("audit")).map_err(unreadable)?;
    if first > 0 {
        return Err(Problem::LogArchived { data_dir: data_dir.to_owned(), first }.into());
    }
    for entry in kms_audit::read(&data_dir.join("audit")).map_err(unreadable)? {
        let Line::Record(record) = entry.map_err(unreadable)?.line else { continue };
        if tells_of_destruction(&record) {
            destroyed.extend(record.key_id.map(|key| (key, record.time)));
        }
    }
    Ok(destroyed)
}

/// Whether a record says that a key is destroyed, or begins to be: one that found nothing due says so.
fn tells_of_destruction(record: &RecordLine<'_>) -> bool {
    record.operation == OperationName::DestroyKey
        && record.verdict == Verdict::Succeeded
        && record.reason.as_deref() != Some(OVERTAKEN)
}

async fn take_all(
    site: &Site,
    options: &RestoreOptions,
    (header, end): (&Header, &End),
    destroyed: BTreeMap<KeyId, Timestamp>,
) -> Result<Counts, BackupError> {
    let counts = fill(&site.service, options, header).await?;
    if counts.unreadable > 0 && !options.leave_out_faulty {
        let (path, faults) = (options.from.clone(), counts.unreadable);
        return Err(Problem::Faulty { path, faults }.into());
    }
    for (key, at) in destroyed {
        if site.service.destroy_again(key, at).await? {
            eprintln!("dewpoint: key {key} was destroyed after the backup was made: it is so again");
        }
    }
    site.service.seal_arrival(site.request, header.deployment, end.digest, None).await?;
    Ok(counts)
}

/// The store gets its name, and then the log says so. If a crash comes between, the next start finds the trace
/// in the store and says it. What the log was told before the store was lost, that start settles, too.
async fn conclude(site: &Site, data_dir: &Path, end: &End) -> Result<(), BackupError> {
    let store = data_dir.join("store");
    fs::rename(unfinished_store(data_dir), &store).map_err(|error| files::error(&store, &error))?;
    files::sync_directory_of(&store)?;
    site.end(Some(end.digest)).await
}

/// Proves all values and puts them into the store, but for faulty ones. Their number is in the counts.
async fn fill(service: &Service, options: &RestoreOptions, header: &Header) -> Result<Counts, BackupError> {
    if service.deployment().await? != header.deployment {
        return Err(Problem::OtherToken(options.from.clone()).into());
    }
    let (mut reader, found) = open(&options.from)?;
    let (mut counts, mut values) = (Counts::default(), Vec::new());
    loop {
        let ended = match next(&mut reader, &options.from)? {
            Next::Value(path, value) => {
                if prove(service, &path, &value, &mut counts).await? {
                    values.push((path, value));
                }
                None
            }
            Next::End(end) => Some(end),
        };
        if values.len() >= VALUES_AT_A_TIME || ended.is_some() {
            service.put_back(std::mem::take(&mut values)).await?;
        }
        if let Some(end) = ended {
            // What is proved by this: nothing is left out, and it is still the file that was checked.
            let whole = service.is_backup_seal(&end.sealed, &end.seal) && end.counts.values == counts.values;
            if !whole || found != *header {
                return Err(Problem::WrongSeal(options.from.clone()).into());
            }
            service.check_root_keys().await.map_err(|error: StartError| ServeError::Start(error))?;
            return Ok(counts);
        }
    }
}

/// Whether a value is authentic and, if it is a key, each of its versions works. Trouble that is not the value's own
/// says nothing of it, and ends the restore: a sound key must not be left out for it.
async fn prove(
    service: &Service,
    path: &StoreKey,
    value: &[u8],
    counts: &mut Counts,
) -> Result<bool, BackupError> {
    let content = service.content(path, value);
    counts.add(content.as_ref().ok());
    if counts.values.is_multiple_of(PROGRESS_STEP) {
        eprintln!("dewpoint: {} values, {} key versions so far", counts.values, counts.key_versions);
    }
    let fault = match content {
        Ok(Content::Key(record)) => {
            fault_of(service, &record, &PROOF_RESTS).await?.inspect(|_| counts.unreadable += 1)
        }
        Ok(_) => None,
        Err(error) if concerns_one_key(&error) => Some(operator_text(&error)),
        Err(error) => return Err(error.into()),
    };
    let Some(fault) = fault else { return Ok(true) };
    if counts.unreadable <= FAULTS_NAMED {
        eprintln!("dewpoint: faulty: {fault}");
    }
    Ok(false)
}

/// What is wrong with a key. It is tried again after each of `rests`, until the HSM can say.
async fn fault_of(
    service: &Service,
    record: &KeyRecord,
    rests: &[Duration],
) -> Result<Option<String>, BackupError> {
    let key = record.id;
    if let Some(keystore) = record.keystore.as_ref().filter(|keystore| !service.has_token_of(keystore)) {
        return Ok(Some(format!("key {key}: keystore {keystore} is not configured")));
    }
    let mut rests = rests.iter();
    loop {
        let Err((version, error)) = service.prove_key(record).await else { return Ok(None) };
        let detail = operator_text(&error);
        if concerns_one_key(&error) {
            return Ok(Some(format!("key {key}, version {version}: {detail}")));
        }
        let Some(rest) = rests.next() else {
            return Err(Problem::Unproved { key, version, detail }.into());
        };
        eprintln!("dewpoint: key {key} is proved again in {rest:?}: {detail}");
        sleep(*rest).await;
    }
}

fn operator_text(error: &Error) -> String {
    error.operator_detail().unwrap_or_else(|| error.to_string())
}

/// Takes what a drill would record, which is nothing.
struct NoLog;

impl AuditLog for NoLog {
    fn append(&self, _: Record, acknowledge: Acknowledge) {
        acknowledge(Ok(Receipt::durable(0)));
    }
}

/// A directory of a name of its own, removed with all that is in it.
struct PassingDirectory(PathBuf);

impl PassingDirectory {
    fn make() -> Result<Self, Problem> {
        let path = std::env::temp_dir().join(format!("dewpoint-drill-{}", Uuid::new_v4()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| files::error(&path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for PassingDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("dewpoint: {} cannot be removed: {error}", self.0.display());
        }
    }
}

fn remove(directory: &Path) -> Result<(), Problem> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files::error(directory, &error)),
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kms_core::{
        Call, Phase, Ports,
        identity::{AccountId, Caller, Credential, KeystoreId, ProjectId, Region, UserId},
        key::KeySpec,
        operation::Permissions,
        ops::{Alias, CreateKey},
        ports::{Hsm, HsmError, StoreError},
        testing::{
            audit::{FakeAuditLog, sample_record},
            hsm::FakeHsm,
            store::FakeKeyStore,
        },
    };

    use super::*;

    const RESTS: [Duration; 2] = [Duration::ZERO; 2];

    /// A service, its HSM and a key.
    async fn service_with_key() -> (Service, Arc<FakeHsm>, KeyRecord) {
        let hsm = Arc::<FakeHsm>::default();
        let ports = Ports {
            hsm: hsm.clone() as Arc<dyn Hsm>,
            keystores: BTreeMap::new(),
            store: Arc::<FakeKeyStore>::default(),
            audit: Arc::<FakeAuditLog>::default(),
            clock: Arc::new(SystemClock::start()),
        };
        let service = Service::start(ports, Settings::default()).await.expect("fakes start");
        let caller = Caller {
            account: AccountId::parse("acme").expect("a name"),
            user: UserId::parse("admin").expect("a name"),
            project: ProjectId::parse("p").expect("a name"),
            region: Region::parse("r").expect("a name"),
            projects: Arc::new([]),
            acting_service: None,
            permissions: Permissions::all(),
            credential: Credential::Certificate([7; 32]),
            source: SocketAddr::from(([127, 0, 0, 1], 1)),
        };
        let call =
            Call { request_id: Uuid::new_v4(), caller, patience: Duration::from_secs(10), dry_run: false };
        let create = CreateKey::new(Alias::parse("key").expect("an alias"), KeySpec::Aes256);
        let made = service.run(call, Ok(create)).await.expect("nothing is in the way");
        (service, hsm, made.into_inner())
    }

    fn unavailable() -> HsmError {
        HsmError::Unavailable { function: "C_UnwrapKey", detail: "CKR_DEVICE_ERROR".to_owned() }
    }

    #[tokio::test]
    async fn a_key_is_not_faulty_because_its_hsm_cannot_be_used() {
        let (service, hsm, key) = service_with_key().await;
        for trouble in [unavailable(), HsmError::Busy, HsmError::TimedOut] {
            hsm.fail_next(trouble.clone());
            hsm.fail_next(unavailable());
            assert_eq!(fault_of(&service, &key, &RESTS).await.expect("in the end"), None);
            for _ in 0..=RESTS.len() {
                hsm.fail_next(trouble.clone());
            }
            let undecided = fault_of(&service, &key, &RESTS).await.expect_err("it stays so");
            assert!(undecided.to_string().contains("nothing is restored"), "{undecided}");
        }
        assert_eq!(fault_of(&service, &key, &RESTS).await.expect("sound"), None);
    }

    #[tokio::test]
    async fn a_key_that_the_token_refuses_is_faulty_at_once_and_so_is_one_of_no_configured_token() {
        let (service, hsm, key) = service_with_key().await;
        let refused =
            HsmError::WrappedKeyRefused { function: "C_UnwrapKey", detail: "CKR_WRAPPED_KEY_INVALID".into() };
        for fault in
            [refused, HsmError::RootMissing { generation: 1 }, HsmError::NotOffered { feature: "it" }]
        {
            hsm.fail_next(fault);
            let found = fault_of(&service, &key, &RESTS).await.expect("it is decided");
            assert!(found.is_some_and(|found| found.contains(&key.id.to_string())));
        }
        let elsewhere = KeyRecord { keystore: KeystoreId::parse("vault"), ..key };
        let found = fault_of(&service, &elsewhere, &RESTS).await.expect("it is decided");
        assert!(found.is_some_and(|found| found.contains("keystore vault is not configured")));
    }

    #[test]
    fn only_what_is_wrong_with_a_key_itself_concerns_one_key() {
        let refused = HsmError::WrappedKeyRefused { function: "C_UnwrapKey", detail: String::new() };
        assert!(concerns_one_key(&refused.into()));
        let full = StoreError::Unavailable { detail: "the disk is full".to_owned() };
        for error in [unavailable().into(), HsmError::Busy.into(), Error::StoreUnavailable(full)] {
            assert!(!concerns_one_key(&error), "{error}");
        }
    }

    #[test]
    fn a_key_whose_deletion_was_cancelled_is_not_taken_for_destroyed() {
        let sample = Record { operation: OperationName::DestroyKey, ..sample_record(1, Phase::Outcome) };
        let tells = |record: &Record| tells_of_destruction(&RecordLine::new(1, record));
        for reason in [None, Some("GRANTS_DELETED"), Some("REPLICAS_LEFT"), Some("CAMPAIGNS_DELETED")] {
            assert!(tells(&Record { reason, ..sample.clone() }), "{reason:?}");
        }
        assert!(!tells(&Record { reason: Some(OVERTAKEN), ..sample.clone() }));
        assert!(!tells(&Record { verdict: Verdict::Failed, ..sample.clone() }));
        assert!(!tells(&Record { phase: Phase::Intent, verdict: Verdict::Pending, ..sample.clone() }));
        assert!(!tells(&Record { operation: OperationName::CancelKeyDeletion, ..sample }));
    }
}
