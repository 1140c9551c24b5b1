use std::collections::BTreeMap;
use std::net::SocketAddr;

use kms_core::{
    Call, Phase, Ports, Timestamp,
    identity::{AccountId, Caller, Credential, ProjectId, Region, UserId},
    key::KeySpec,
    operation::{OperationName, Permissions},
    ops::{Alias, CreateKey, Operation, RetireRoot, RotateRoot},
    ports::{KeyStore as _, Mutation, StoreError, Transaction},
    testing::{
        audit::FakeAuditLog,
        clock::FakeClock,
        hsm::{FakeHsm, on_session},
        store::FakeKeyStore,
    },
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;

/// More than are moved at the same time, and more than one page.
const KEYS: usize = 300;

struct World {
    hsm: Arc<FakeHsm>,
    store: Arc<FakeKeyStore>,
    audit: Arc<FakeAuditLog>,
    clock: Arc<FakeClock>,
    service: Arc<Service>,
    rotation: Arc<Rotation>,
    stop: watch::Sender<bool>,
}

impl World {
    async fn with_keys(keys: usize) -> Self {
        let clock = Arc::new(FakeClock::at(Timestamp::from_micros(1_795_526_645_000_000)));
        let (hsm, store, audit) =
            (Arc::<FakeHsm>::default(), Arc::<FakeKeyStore>::default(), Arc::<FakeAuditLog>::default());
        let ports = Ports {
            hsm: hsm.clone(),
            keystores: BTreeMap::new(),
            store: store.clone(),
            audit: audit.clone(),
            clock: clock.clone(),
        };
        let quotas = kms_core::AccountQuotas { custom_keys: 10_000, ..Default::default() };
        let settings = kms_core::Settings { quotas, ..Default::default() };
        let service = Arc::new(Service::start(ports, settings).await.expect("fakes start"));
        let stop = watch::channel(false).0;
        let rotation = Arc::new(Rotation::new(Duration::ZERO));
        let world = Self { hsm, store, audit, clock, service, rotation, stop };
        for number in 0..keys {
            let create =
                CreateKey::new(Alias::parse(&format!("k{number}")).expect("an alias"), KeySpec::Aes256);
            world.run(user(), create).await;
        }
        world
    }

    async fn run<O: Operation>(&self, caller: Caller, operation: O) {
        let call =
            Call { request_id: Uuid::new_v4(), caller, patience: Duration::from_secs(10), dry_run: false };
        self.service.run(call, Ok(operation)).await.expect("nothing is in the way");
    }

    async fn rotate(&self, keep_old_root: bool) {
        self.run(operator(), RotateRoot { keep_old_root }).await;
    }

    fn drive(&self) -> JoinHandle<()> {
        let driving =
            drive(self.rotation.clone(), self.service.clone(), self.clock.clone(), self.stop.subscribe());
        tokio::spawn(driving)
    }

    fn generations(&self) -> Vec<u32> {
        on_session(&*self.hsm, |session| session.root_generations()).expect("the fake works")
    }

    async fn is_over(&self) -> bool {
        self.service.root().await.is_ok_and(|root| root.rotation.is_none())
    }

    async fn stop(self, driving: JoinHandle<()>) -> Vec<kms_core::Record> {
        self.stop.send_replace(true);
        driving.await.expect("no panic");
        self.audit.records()
    }
}

fn user() -> Caller {
    Caller {
        account: AccountId::parse("acme").expect("a name"),
        user: UserId::parse("admin").expect("a name"),
        project: ProjectId::parse("p").expect("a name"),
        region: Region::parse("r").expect("a name"),
        projects: Arc::new([]),
        acting_service: None,
        permissions: Permissions::all(),
        credential: Credential::Certificate([7; 32]),
        source: SocketAddr::from(([127, 0, 0, 1], 1)),
    }
}

fn operator() -> Caller {
    Caller::operator(UserId::parse("olga").expect("a name"), [7; 32], user().source)
}

/// Waits for what happens by itself; a test that waits in vain fails instead of hanging.
async fn eventually(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if happened().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

fn moved(records: &[kms_core::Record]) -> usize {
    let of = |record: &&kms_core::Record| record.operation == OperationName::RewrapKey;
    records.iter().filter(of).filter(|record| record.phase == Phase::Outcome).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_begun_before_the_start_is_carried_out() {
    let world = World::with_keys(KEYS).await;
    world.rotate(false).await;
    let driving = world.drive();
    eventually("the rotation is over", async || world.is_over().await).await;
    assert_eq!((world.generations(), world.rotation.moved_in_all()), (vec![2], KEYS as u64));
    let records = world.stop(driving).await;
    assert_eq!(moved(&records), KEYS, "each key once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_root_key_stays_as_long_as_a_slow_call_may_need_it() {
    let world = World::with_keys(3).await;
    let slow = world.rotation.slow_call();
    world.rotate(false).await;
    let driving = world.drive();
    eventually("all keys are moved", async || world.rotation.progress().all_moved).await;
    sleep(3 * SLOW_CALLS_LOOK).await;
    let later = world.rotation.slow_call();
    assert_eq!(world.generations(), [1, 2]);
    drop(slow);
    eventually("the rotation is over", async || world.is_over().await).await;
    assert_eq!(world.generations(), [2], "a call that began later needs no old root key");
    drop(later);
    world.stop(driving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_noticed_while_it_runs() {
    let world = World::with_keys(3).await;
    let driving = world.drive();
    for generation in 2..=3 {
        world.rotate(false).await;
        world.rotation.look();
        eventually("the rotation is over", async || world.is_over().await).await;
        assert_eq!(world.generations(), [generation]);
    }
    assert_eq!(moved(&world.stop(driving).await), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_hold_it_up_and_no_more() {
    let world = World::with_keys(40).await;
    world.rotate(false).await;
    world.store.fail_next(StoreError::Unavailable { detail: "gone".into() });
    world.audit.fail_next(3);
    for _ in 0..3 {
        world.hsm.fail_next(HsmError::Unavailable { function: "C_WrapKey", detail: "gone".into() });
    }
    let driving = world.drive();
    eventually("it tells the problem", async || world.rotation.progress().problem.is_some()).await;
    eventually("the rotation is over", async || world.is_over().await).await;
    assert_eq!((world.generations(), world.rotation.progress().problem), (vec![2], None));
    world.stop(driving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_moved_keeps_the_old_root_key() {
    let world = World::with_keys(20).await;
    let (path, stored) = world.store.range(b"k/", None, 1).await.expect("the fake works").remove(0);
    let put = async |value: Vec<u8>| {
        let mutations = vec![Mutation::Put(path.clone(), value)];
        world.store.transact(Transaction { conditions: vec![], mutations }).await.expect("the fake works");
    };
    put(b"altered".to_vec()).await;
    world.rotate(false).await;
    let driving = world.drive();
    eventually("it tells the problem", async || world.rotation.progress().problem.is_some()).await;
    let progress = world.rotation.progress();
    assert_eq!((progress.moved, progress.left, progress.blocked), (19, 1, 1));
    assert!(!progress.all_moved && world.generations() == [1, 2]);
    put(stored.value.to_vec()).await;
    world.rotation.look();
    eventually("the rotation is over", async || world.is_over().await).await;
    assert_eq!(world.generations(), [2]);
    world.stop(driving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_token_refuses_does_not_hold_up_the_others() {
    let world = World::with_keys(20).await;
    world.rotate(false).await;
    world.hsm.fail_next(HsmError::WrappedKeyRefused { function: "C_UnwrapKey", detail: "bad".into() });
    let driving = world.drive();
    eventually("it tells the problem", async || world.rotation.progress().problem.is_some()).await;
    let progress = world.rotation.progress();
    assert_eq!((progress.moved, progress.left, progress.blocked), (19, 1, 1));
    assert_eq!(world.generations(), [1, 2]);
    world.stop(driving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_root_key_is_kept_until_it_is_retired() {
    let world = World::with_keys(3).await;
    world.rotate(true).await;
    let driving = world.drive();
    eventually("all keys are moved", async || world.rotation.progress().all_moved).await;
    assert!(!world.is_over().await && world.generations() == [1, 2]);
    world.run(operator(), RetireRoot).await;
    world.rotation.look();
    eventually("the rotation is over", async || world.is_over().await).await;
    assert_eq!(world.generations(), [2]);
    world.stop(driving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_between_changes() {
    let world = World::with_keys(KEYS).await;
    world.rotate(false).await;
    world.hsm.hold();
    let driving = world.drive();
    eventually("keys are on their way", async || world.hsm.queued() == IN_FLIGHT).await;
    world.stop.send_replace(true);
    world.hsm.release();
    let over = world.service.clone();
    let records = world.stop(driving).await;
    let begun = records.iter().filter(|record| record.phase == Phase::Intent).count();
    let ended = records.iter().filter(|record| record.phase == Phase::Outcome).count();
    assert_eq!(begun, ended, "no change is left half-way");
    assert!(over.root().await.is_ok_and(|root| root.rotation.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_root_key_outlives_the_calls_that_are_on_their_way() {
    let mut world = World::with_keys(1).await;
    world.rotation = Arc::new(Rotation::new(Duration::from_secs(3600)));
    world.rotate(false).await;
    let driving = world.drive();
    let forgotten = async || world.service.root().await.is_ok_and(|root| root.all_moved());
    eventually("no key needs it", forgotten).await;
    assert_eq!(world.generations(), [1, 2]);
    let records = world.stop(driving).await;
    assert!(records.iter().all(|record| record.operation != OperationName::DestroyRoots));
}
