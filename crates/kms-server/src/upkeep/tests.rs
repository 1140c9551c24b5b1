use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use kms_core::{
    Call, Phase, Ports, Timestamp,
    identity::{AccountId, Caller, Credential, ProjectId, Region, UserId},
    key::{KeyId, KeySpec},
    operation::{OperationName, Permissions},
    ops::{
        Alias, CancelKeyDeletion, CreateKey, ListDestroyedKeys, Operation, PageSize, PendingDays,
        ScheduleKeyDeletion,
    },
    ports::{Clock, KeyStore as _, Mutation, StoreError, Transaction},
    testing::{audit::FakeAuditLog, clock::FakeClock, hsm::FakeHsm, store::FakeKeyStore},
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;

const START: Timestamp = Timestamp::from_micros(1_795_526_645_000_123);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct World {
    store: Arc<FakeKeyStore>,
    audit: Arc<FakeAuditLog>,
    clock: Arc<FakeClock>,
    service: Arc<Service>,
    upkeep: Arc<Upkeep>,
    stop: watch::Sender<bool>,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(FakeClock::at(START));
        Self::with_clock(clock.clone(), clock).await
    }

    async fn with_clock(clock: Arc<FakeClock>, domain: Arc<dyn Clock>) -> Self {
        let (store, audit) = (Arc::<FakeKeyStore>::default(), Arc::<FakeAuditLog>::default());
        let ports = Ports {
            hsm: Arc::<FakeHsm>::default(),
            keystores: BTreeMap::new(),
            store: store.clone(),
            audit: audit.clone(),
            clock: domain,
        };
        let quotas = kms_core::AccountQuotas { custom_keys: 10_000, ..Default::default() };
        let settings = kms_core::Settings { quotas, ..Default::default() };
        let service = Service::start(ports, settings).await.expect("fakes start");
        let (service, upkeep, stop) = (Arc::new(service), Arc::default(), watch::channel(false).0);
        Self { store, audit, clock, service, upkeep, stop }
    }

    async fn run<O: Operation>(&self, caller: Caller, operation: O) -> O::Output {
        let call =
            Call { request_id: Uuid::new_v4(), caller, patience: Duration::from_secs(10), dry_run: false };
        self.service.run(call, Ok(operation)).await.expect("nothing is in the way").into_inner()
    }

    /// A key whose deletion falls due after so many days.
    async fn doomed(&self, number: u32, days: u32) -> KeyId {
        let alias = Alias::parse(&format!("k{number}")).expect("an alias");
        let key_id = self.run(user(), CreateKey::new(alias, KeySpec::Aes256)).await.id;
        let pending = PendingDays::parse(days).expect("a waiting time");
        self.run(user(), ScheduleKeyDeletion { key: key_id.into(), pending }).await;
        key_id
    }

    async fn destroyed(&self) -> BTreeSet<KeyId> {
        let (mut found, mut after) = (BTreeSet::new(), None);
        loop {
            let size = PageSize::parse(1000).expect("a size");
            let page = self.run(operator(), ListDestroyedKeys { size, after }).await;
            found.extend(page.keys.into_iter().map(|key| key.record.id));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    }

    fn drive(&self) -> JoinHandle<()> {
        tokio::spawn(drive(self.upkeep.clone(), self.service.clone(), self.stop.subscribe()))
    }

    async fn stop(&self, driving: JoinHandle<()>) {
        self.stop.send_replace(true);
        driving.await.expect("no panic");
        self.stop.send_replace(false);
    }

    /// How many changes were begun by destroying keys, and how many ended well.
    fn destructions(&self) -> (usize, usize) {
        let records = self.audit.records();
        let of = |phase| {
            let these = records.iter().filter(|record| record.operation == OperationName::DestroyKey);
            these.filter(|record| record.phase == phase).count()
        };
        (of(Phase::Intent), of(Phase::Outcome))
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

fn set(keys: &[KeyId]) -> BTreeSet<KeyId> {
    keys.iter().copied().collect()
}

fn operator() -> Caller {
    Caller::operator(UserId::parse("olga").expect("a name"), [7; 32], user().source)
}

#[tokio::test]
async fn in_a_year_each_deletion_is_carried_out_when_it_is_due_and_not_before() {
    let world = World::new().await;
    let mut doomed = Vec::new();
    for number in 0..359 {
        doomed.push(world.doomed(number, number + 7).await);
    }
    let kept = world.doomed(400, 30).await;
    world.run(user(), CancelKeyDeletion { key: (kept).into() }).await;
    let driving = world.drive();
    for day in 0_usize..=365 {
        world.upkeep.settle().await.expect("nothing is in the way");
        let due = day.saturating_sub(6).min(doomed.len());
        assert_eq!(world.destroyed().await, set(&doomed[..due]), "day {day}");
        world.clock.advance(DAY);
    }
    world.stop(driving).await;
    assert_eq!(world.destructions(), (doomed.len(), doomed.len()), "each key once");
    assert!(world.store.range(b"s/", None, 1).await.expect("the fake works").is_empty());
}

#[tokio::test]
async fn what_fell_due_while_nobody_served_is_done_at_the_next_start() {
    let world = World::new().await;
    let mut doomed = Vec::new();
    for number in 0..PAGE + 10 {
        doomed.push(world.doomed(u32::try_from(number).expect("small"), 7).await);
    }
    world.clock.advance(400 * DAY);
    let driving = world.drive();
    world.upkeep.settle().await.expect("nothing is in the way");
    assert_eq!(world.destroyed().await, set(&doomed), "more than a page");
    world.stop(driving).await;
}

#[tokio::test]
async fn faults_hold_it_up_and_no_more() {
    let world = World::new().await;
    for number in 0..40 {
        world.doomed(number, 7).await;
    }
    world.clock.advance(7 * DAY);
    world.audit.fail_next(usize::MAX);
    let driving = world.drive();
    let told = world.upkeep.settle().await.expect_err("nothing can be recorded");
    assert!(told.starts_with("key "), "{told}");
    world.audit.fail_next(3);
    world.store.fail_next(StoreError::Unavailable { detail: "gone".into() });
    // Nobody asks: it tries again by itself.
    while world.store.range(b"x/", None, 41).await.map_or(0, |destroyed| destroyed.len()) < 40 {
        sleep(Duration::from_millis(10)).await;
    }
    world.upkeep.settle().await.expect("all is done");
    world.stop(driving).await;
}

#[tokio::test]
async fn a_key_that_cannot_be_destroyed_holds_up_no_other() {
    let world = World::new().await;
    let mut doomed = Vec::new();
    for number in 0..20 {
        doomed.push(world.doomed(number, 7).await);
    }
    let path = [b"k/", &doomed[3].as_bytes()[..]].concat();
    let stored = world.store.get_many(std::slice::from_ref(&path)).await.expect("the fake works")[0].clone();
    let put = async |value: Vec<u8>| {
        let mutations = vec![Mutation::Put(path.clone(), value)];
        world.store.transact(Transaction { conditions: vec![], mutations }).await.expect("the fake works");
    };
    put(b"altered".to_vec()).await;
    world.clock.advance(7 * DAY);
    let driving = world.drive();
    let told = world.upkeep.settle().await.expect_err("altered");
    assert!(told.starts_with(&format!("key {}: ", doomed[3])), "{told}");
    let others: Vec<_> = doomed.iter().copied().filter(|key| *key != doomed[3]).collect();
    assert_eq!(world.destroyed().await, set(&others));
    put(stored.expect("it was there").value.to_vec()).await;
    world.upkeep.settle().await.expect("repaired");
    assert_eq!(world.destroyed().await, set(&doomed));
    world.stop(driving).await;
}

#[tokio::test]
async fn it_stops_between_changes_and_goes_on_with_the_next_start() {
    let world = World::new().await;
    let mut doomed = Vec::new();
    for number in 0..100 {
        doomed.push(world.doomed(number, 7).await);
    }
    world.clock.advance(7 * DAY);
    world.audit.hold();
    let driving = world.drive();
    while world.audit.held() < IN_FLIGHT {
        tokio::task::yield_now().await;
    }
    world.stop.send_replace(true);
    world.audit.release();
    world.stop(driving).await;
    assert_eq!(world.destructions(), (IN_FLIGHT, IN_FLIGHT), "no change is left half-way, and none is begun");
    let driving = world.drive();
    world.upkeep.settle().await.expect("nothing is in the way");
    assert_eq!(world.destroyed().await, set(&doomed));
    world.stop(driving).await;
}

/// A world whose clock a tester keeps in this directory.
async fn by_hand(directory: &std::path::Path) -> (World, Arc<ManualClock>) {
    let machine = Arc::new(FakeClock::at(START));
    let clock = Arc::new(ManualClock::open(directory, machine.clone()).expect("new"));
    (World::with_clock(machine, clock.clone()).await, clock)
}

#[tokio::test]
async fn a_clock_that_is_advanced_stops_at_each_thing_that_falls_due() {
    let directory = tempfile::tempdir().expect("a directory");
    let (world, clock) = by_hand(directory.path()).await;
    for days in [300, 7, 31, 200, 500] {
        world.doomed(days, days).await;
    }
    let driving = world.drive();
    let reached = world.upkeep.pass_time(&world.service, &clock, 365 * DAY).await;
    assert_eq!((reached, clock.now()), (Ok(START.plus(365 * DAY)), START.plus(365 * DAY)));
    let records = world.audit.records();
    let ended = records.iter().filter(|record| record.operation == OperationName::DestroyKey);
    let times: Vec<_> =
        ended.filter(|record| record.phase == Phase::Outcome).map(|record| record.time).collect();
    assert_eq!(times, [7, 31, 200, 300].map(|day| START.plus(day * DAY)));
    world.stop(driving).await;
}

#[tokio::test]
async fn a_clock_stops_where_something_due_cannot_be_done_and_goes_on_when_it_can() {
    let directory = tempfile::tempdir().expect("a directory");
    let (world, clock) = by_hand(directory.path()).await;
    let key_id = world.doomed(1, 30).await;
    let path = [b"k/", &key_id.as_bytes()[..]].concat();
    let stored = world.store.get_many(std::slice::from_ref(&path)).await.expect("the fake works")[0].clone();
    let put = async |value: Vec<u8>| {
        let mutations = vec![Mutation::Put(path.clone(), value)];
        world.store.transact(Transaction { conditions: vec![], mutations }).await.expect("the fake works");
    };
    put(b"altered".to_vec()).await;
    let driving = world.drive();
    let told = world.upkeep.pass_time(&world.service, &clock, 365 * DAY).await.expect_err("altered");
    assert!(told.starts_with(&format!("key {key_id}: ")), "{told}");
    assert_eq!(clock.now(), START.plus(30 * DAY));
    put(stored.expect("it was there").value.to_vec()).await;
    let reached = world.upkeep.pass_time(&world.service, &clock, DAY).await;
    assert_eq!(reached, Ok(START.plus(31 * DAY)));
    assert_eq!(world.destroyed().await, set(&[key_id]));
    world.stop(driving).await;
}
