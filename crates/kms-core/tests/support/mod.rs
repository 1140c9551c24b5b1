//! A service on fakes, and calls to it.
#![allow(unreachable_pub, reason = "a module of test programs")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_executor::block_on;
use kms_core::{
    Call, Error, OpenIntent, Phase, Ports, Record, Service, Timestamp,
    context::EncryptionContext,
    identity::{AccountId, Caller, ProjectId, Region, UserId},
    key::{KeyId, KeyRecord, KeySpec},
    operation::{Action, Permissions},
    ops::{Alias, CreateKey, Description, GenerateDataKey, KeySelector, Operation},
    ports::{
        BoxFuture, Condition, KeyStore, Mutation, Revision, StoreError, StoreKey, Transaction, Versioned,
    },
    testing::{audit::FakeAuditLog, clock::FakeClock, hsm::FakeHsm, store::FakeKeyStore},
};
use uuid::Uuid;

/// 2026-11-24T13:24:05Z
pub const START: Timestamp = Timestamp::from_micros(1_795_526_645_000_000);

/// A service and the fakes under it.
pub struct World {
    pub hsm: Arc<FakeHsm>,
    pub store: Arc<FakeKeyStore>,
    pub audit: Arc<FakeAuditLog>,
    pub clock: Arc<FakeClock>,
    pub service: Service,
}

impl World {
    pub fn new() -> Self {
        Self::on(Arc::new(FakeHsm::new()), Arc::new(FakeKeyStore::default()), None)
    }

    /// A service on these; `seen` is what the service is given as its store.
    pub fn on(hsm: Arc<FakeHsm>, store: Arc<FakeKeyStore>, seen: Option<Arc<dyn KeyStore>>) -> Self {
        let (audit, clock) = (Arc::new(FakeAuditLog::new()), Arc::new(FakeClock::at(START)));
        let ports = Ports {
            hsm: hsm.clone(),
            store: seen.unwrap_or_else(|| store.clone()),
            audit: audit.clone(),
            clock: clock.clone(),
        };
        let service = block_on(Service::start(ports)).expect("it starts");
        Self { hsm, store, audit, clock, service }
    }

    /// Runs an operation to its end as `caller`.
    pub fn run<O: Operation>(&self, caller: &Caller, operation: O) -> Result<O::Output, Error> {
        let call = Call { request_id: Uuid::new_v4(), caller: caller.clone() };
        let answered = block_on(self.service.run(call, Ok(operation)));
        answered.map(kms_core::Recorded::into_inner).map_err(|refused| refused.error().clone())
    }

    pub fn create(&self, caller: &Caller, alias: &str) -> Result<KeyRecord, Error> {
        self.run(caller, creation(alias))
    }

    /// The last record.
    pub fn last(&self) -> Record {
        self.audit.records().pop().expect("a record")
    }

    /// All intents without an outcome.
    pub fn open_intents(&self) -> Vec<OpenIntent> {
        let records = self.audit.records();
        let settled = |intent: &Record| {
            let same = |record: &&Record| record.request_id == intent.request_id;
            records.iter().filter(same).any(|record| matches!(record.phase, Phase::Outcome | Phase::Recovery))
        };
        let open = records.iter().filter(|record| record.phase == Phase::Intent && !settled(record));
        open.map(|intent| OpenIntent {
            request_id: intent.request_id,
            operation: intent.operation,
            key_id: intent.key_id,
        })
        .collect()
    }
}

pub fn creation(alias: &str) -> CreateKey {
    CreateKey {
        alias: Alias::parse(alias).expect("an alias"),
        description: Description::parse("").expect("a description"),
        spec: KeySpec::Aes256,
        idempotency_token: None,
    }
}

pub fn caller(account: &str, region: &str) -> Caller {
    Caller {
        account: AccountId::parse(account).expect("a name"),
        user: UserId::parse("user").expect("a name"),
        project: ProjectId::parse("project").expect("a name"),
        region: Region::parse(region).expect("a name"),
        acting_service: None,
        permissions: Permissions::all(),
        certificate: [7; 32],
        source: SocketAddr::from(([127, 0, 0, 1], 9)),
    }
}

pub fn admin() -> Caller {
    caller("account", "north")
}

pub fn only(actions: &[Action]) -> Caller {
    Caller { permissions: actions.iter().copied().collect(), ..admin() }
}

pub fn context(value: &str) -> EncryptionContext {
    EncryptionContext::new(BTreeMap::from([("bucket".to_owned(), value.to_owned())])).expect("short")
}

pub fn generate(key: KeySelector) -> GenerateDataKey {
    GenerateDataKey { key, length: None, encryption_context: context("photos") }
}

pub fn by_id(id: KeyId) -> KeySelector {
    KeySelector::Id(id)
}

/// What a test does between an operation's read and its commit.
pub type Interference = Box<dyn Fn(&FakeKeyStore, &Transaction) -> Option<StoreError> + Send + Sync>;

/// What a test does before a read of these keys.
pub type Watch = Box<dyn Fn(&[StoreKey]) + Send + Sync>;

/// A store in which somebody else acts just before each commit.
pub struct BusyStore {
    pub inner: Arc<FakeKeyStore>,
    pub before_commit: Interference,
    pub before_read: Watch,
}

impl KeyStore for BusyStore {
    fn get_many<'a>(
        &'a self,
        keys: &'a [StoreKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        (self.before_read)(keys);
        self.inner.get_many(keys)
    }

    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(StoreKey, Versioned)>, StoreError>> {
        self.inner.range(prefix, after, limit)
    }

    fn transact(&self, transaction: Transaction) -> BoxFuture<'_, Result<Revision, StoreError>> {
        match (self.before_commit)(&self.inner, &transaction) {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.inner.transact(transaction),
        }
    }
}

/// The fake's futures are ready at once: so they can be had inside of another one, too.
fn now<T>(mut future: BoxFuture<'_, T>) -> T {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the fake store made somebody wait"),
    }
}

/// Writes a value anew as it is: others see another revision of it.
pub fn touch(store: &FakeKeyStore, key: &StoreKey) {
    let found = now(store.get_many(std::slice::from_ref(key))).expect("read").pop().flatten();
    if let Some(versioned) = found {
        put(store, key.clone(), versioned.value.to_vec());
    }
}

pub fn put(store: &FakeKeyStore, key: StoreKey, value: Vec<u8>) {
    let transaction = Transaction { conditions: Vec::new(), mutations: vec![Mutation::Put(key, value)] };
    now(store.transact(transaction)).expect("written");
}

/// The first key that a condition of the transaction names by its revision.
pub fn contended(transaction: &Transaction) -> Option<StoreKey> {
    transaction.conditions.iter().find_map(|condition| match condition {
        Condition::Revision(key, _) => Some(key.clone()),
        Condition::Absent(_) => None,
    })
}

/// Everything in the store.
pub fn contents(store: &FakeKeyStore) -> Vec<(StoreKey, Versioned)> {
    block_on(store.range(b"", None, 10_000)).expect("read")
}
