//! A service on fakes, callers, and every operation in a form that tables can hold.

mod attempts;
mod other_keys;
mod store;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use futures_executor::block_on;
use kms_core::{
    AccountQuotas, Call, Error, OpenIntent, Phase, Ports, Record, Recorded, Refused, Service, Settings,
    StartError, Timestamp,
    context::EncryptionContext,
    identity::{AccountId, Caller, Credential, KeystoreId, ProjectId, Region, UserId},
    key::{KeyId, KeyRecord, KeySpec},
    operation::Permissions,
    ops::{Alias, CreateKey, CreateKeystore, GenerateDataKey, KeySelector, Operation},
    ports::Hsm,
    testing::{audit::FakeAuditLog, clock::FakeClock, hsm::FakeHsm},
};
use uuid::Uuid;

pub(crate) use attempts::{
    Attempt, FOR_ANYONE, NO_CALLS_OF_USERS, NOT_OFFERED, Sealed, attempts, bucket_key, decrypt_data,
    encrypt_data, further, grant, replicate,
};
pub(crate) use other_keys::{
    OTHER_KINDS, external_attempts, import_attempts, import_of, import_of_material, other_attempts,
    other_key, wrapped_material,
};
pub(crate) use store::SpyStore;

/// 2026-11-24, in microseconds.
const NOW: Timestamp = Timestamp::from_micros(1_795_526_645_000_000);

/// The configured tokens that can become keystores.
pub(crate) const VAULT: &str = "vault";
pub(crate) const SPARE: &str = "spare";

/// How long calls wait for the HSM.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A service and the fakes that it stands on.
pub(crate) struct World {
    pub(crate) hsm: Arc<FakeHsm>,
    /// The tokens of [`VAULT`] and [`SPARE`].
    pub(crate) tokens: [Arc<FakeHsm>; 2],
    pub(crate) store: Arc<SpyStore>,
    pub(crate) audit: Arc<FakeAuditLog>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) service: Arc<Service>,
    settings: Settings,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(Arc::default(), Arc::default()).expect("fakes start")
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::start(Arc::default(), Default::default(), Arc::default(), settings).expect("fakes start")
    }

    /// A service with a new log on a given token and store: after a crash, or a second one.
    pub(crate) fn on(hsm: Arc<FakeHsm>, store: Arc<SpyStore>) -> Result<Self, StartError> {
        // Room for tests with many keys; `quotas.rs` tries the limit.
        let quotas = AccountQuotas { custom_keys: 10_000, ..AccountQuotas::default() };
        let settings = Settings { quotas, ..Settings::default() };
        Self::start(hsm, Default::default(), store, settings)
    }

    pub(crate) fn start(
        hsm: Arc<FakeHsm>,
        tokens: [Arc<FakeHsm>; 2],
        store: Arc<SpyStore>,
        settings: Settings,
    ) -> Result<Self, StartError> {
        let (audit, clock) = (Arc::new(FakeAuditLog::new()), Arc::new(FakeClock::at(NOW)));
        let named = [VAULT, SPARE].map(keystore).into_iter().zip(tokens.clone());
        let keystores = named.map(|(id, token)| (id, token as Arc<dyn Hsm>));
        let ports = Ports {
            hsm: hsm.clone(),
            keystores: keystores.collect(),
            store: store.clone(),
            audit: audit.clone(),
            clock: clock.clone(),
        };
        let service = Arc::new(block_on(Service::start(ports, settings))?);
        Ok(Self { hsm, tokens, store, audit, clock, service, settings })
    }

    /// Another service on the same token and store.
    pub(crate) fn sibling(&self) -> Self {
        self.restarted(self.settings)
    }

    /// The same with other settings.
    pub(crate) fn restarted(&self, settings: Settings) -> Self {
        Self::start(self.hsm.clone(), self.tokens.clone(), self.store.clone(), settings)
            .expect("the store belongs to the token")
    }

    pub(crate) fn run<O: Operation>(&self, caller: &Caller, operation: O) -> Result<O::Output, Error> {
        finish(self.begin(caller, operation))
    }

    /// What a dry run of it answers.
    pub(crate) fn try_out<O: Operation>(&self, caller: &Caller, operation: O) -> Error {
        let call =
            Call { request_id: Uuid::new_v4(), caller: caller.clone(), patience: PATIENCE, dry_run: true };
        let ended = block_on(self.service.run(call, Ok(operation))).map(Recorded::into_inner);
        ended.map(drop).expect_err("a dry run has no answer").error().clone()
    }

    /// A call, not yet driven.
    pub(crate) fn begin<'a, O: Operation>(&'a self, caller: &Caller, operation: O) -> Running<'a, O> {
        let call =
            Call { request_id: Uuid::new_v4(), caller: caller.clone(), patience: PATIENCE, dry_run: false };
        Box::pin(self.service.run(call, Ok(operation)))
    }

    pub(crate) fn key(&self, caller: &Caller, alias: &str) -> KeyRecord {
        self.run(caller, create(alias)).expect("nothing is in the way")
    }

    /// What the records say that `work` left in the log.
    pub(crate) fn records_of<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<Record>) {
        let before = self.audit.records().len();
        let result = work();
        (result, self.audit.records().split_off(before))
    }

    /// The intents in the log whose outcome it does not hold.
    pub(crate) fn open_intents(&self) -> Vec<OpenIntent> {
        let records = self.audit.records();
        let ended = |intent: &Record| {
            let mut later = records.iter().filter(|record| record.request_id == intent.request_id);
            later.any(|record| matches!(record.phase, Phase::Outcome | Phase::Recovery))
        };
        let open = records.iter().filter(|record| record.phase == Phase::Intent && !ended(record));
        open.map(|intent| OpenIntent {
            request_id: intent.request_id,
            operation: intent.operation,
            key_id: intent.key_id,
        })
        .collect()
    }
}

pub(crate) type Running<'a, O> =
    Pin<Box<dyn Future<Output = Result<Recorded<<O as Operation>::Output>, Refused>> + Send + 'a>>;

pub(crate) fn finish<T>(running: impl Future<Output = Result<Recorded<T>, Refused>>) -> Result<T, Error> {
    block_on(running).map(Recorded::into_inner).map_err(|refused| refused.error().clone())
}

/// Drives `future` as far as it goes by itself.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The result of a future that waits for nothing; may be called while another one is driven.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits for something"),
    }
}

/// Waits for what another thread does; a test that waits in vain fails instead of hanging.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if happened() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("waited in vain until {what}");
}

/// Where every account has a project.
pub(crate) const REGIONS: [&str; 3] = ["cn-north-4", "cn-east-3", "cn-south-1"];

pub(crate) fn region_named(name: &str) -> Region {
    Region::parse(name).expect("a name")
}

fn project_of(account: &str, region: &str) -> ProjectId {
    ProjectId::parse(&format!("{account}-{region}")).expect("a name")
}

/// The one user of an account who may do everything.
pub(crate) fn caller(account: &str, region: &str) -> Caller {
    Caller {
        account: AccountId::parse(account).expect("a name"),
        user: UserId::parse(&format!("{account}-admin")).expect("a name"),
        project: project_of(account, region),
        region: region_named(region),
        projects: REGIONS.map(|region| (project_of(account, region), region_named(region))).into(),
        acting_service: None,
        permissions: Permissions::all(),
        credential: Credential::Certificate([7; 32]),
        source: ([127, 0, 0, 1], 4711).into(),
    }
}

/// The owner of the keys in most tests.
pub(crate) fn owner() -> Caller {
    caller("acme", "cn-north-4")
}

pub(crate) fn with(permissions: Permissions) -> Caller {
    Caller { permissions, ..owner() }
}

pub(crate) fn create(alias: &str) -> CreateKey {
    CreateKey::new(Alias::parse(alias).expect("an alias"), KeySpec::Aes256)
}

pub(crate) fn generate(key: KeySelector) -> GenerateDataKey {
    GenerateDataKey { key, length: None, encryption_context: context() }
}

pub(crate) fn keystore(name: &str) -> KeystoreId {
    KeystoreId::parse(name).expect("a name")
}

pub(crate) fn create_keystore(name: &str) -> CreateKeystore {
    CreateKeystore { keystore_id: keystore(name), alias: Alias::parse(name).expect("an alias") }
}

pub(crate) fn obs() -> KeySelector {
    KeySelector::service("obs").expect("a known service")
}

pub(crate) fn alias(text: &str) -> KeySelector {
    KeySelector::alias(text).expect("an alias")
}

pub(crate) fn context() -> EncryptionContext {
    let pairs = [("bucket", "photos"), ("object", "harbour.jpg")];
    EncryptionContext::new(BTreeMap::from(pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))))
        .expect("short enough")
}

pub(crate) fn no_context() -> EncryptionContext {
    EncryptionContext::new(BTreeMap::new()).expect("short enough")
}

pub(crate) fn key_path(id: KeyId) -> Vec<u8> {
    [b"k/", &id.as_bytes()[..]].concat()
}
