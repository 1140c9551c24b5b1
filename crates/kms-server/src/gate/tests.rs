use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    future::{poll_fn, ready},
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::Poll,
};

use kms_audit::testing::SoftwareSigner;
use kms_core::{
    Phase, Ports, Record, Settings, Timestamp, Verdict,
    error::Window,
    identity::{Permissions, UserId},
    operation::Action,
    ops::{IssueToken, ReloadIdentities},
    testing::{audit::FakeAuditLog, clock::FakeClock, hsm::FakeHsm, store::FakeKeyStore},
};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::{
    identity::Identities,
    reloading,
    traffic::{BudgetClock, DEW, Profile, ProfileSource, TrafficMode},
};

const SAMPLE: &str = include_str!("../../../../docs/examples/identity.toml");

/// A gate before fakes.
struct World {
    gate: Arc<Gate>,
    audit: Arc<FakeAuditLog>,
    _directory: TempDir,
}

impl World {
    async fn new(profile: &str) -> Self {
        let clock = Arc::new(FakeClock::at(Timestamp::from_micros(1_795_526_645_000_000)));
        let audit = Arc::<FakeAuditLog>::default();
        let ports = Ports {
            hsm: Arc::<FakeHsm>::default(),
            keystores: BTreeMap::new(),
            store: Arc::<FakeKeyStore>::default(),
            audit: audit.clone(),
            clock: clock.clone(),
        };
        let directory = tempfile::tempdir().expect("a directory");
        let identities = directory.path().join("identity.toml");
        fs::write(&identities, SAMPLE).expect("written");
        let own = SoftwareSigner::new([9; 32]).key();
        let profile = Profile::parse(profile).expect("a profile");
        let budget_clock = BudgetClock::new(clock.clone(), None);
        let source = ProfileSource::default();
        let gate = Gate {
            service: Arc::new(Service::start(ports, Settings::default()).await.expect("fakes start")),
            identities: CurrentIdentities::load(&identities).expect("the sample is valid"),
            traffic: TrafficControl::new(TrafficMode::Enforce, source, &profile, budget_clock),
            metrics: Metrics::of_calls(),
            floods: Arc::new(SummingLog::new(audit.clone(), || true, clock.clone())),
            rotation: Arc::new(Rotation::new(HSM_PATIENCE)),
            upkeep: Arc::default(),
            witness: Arc::new(
                Witness::open(directory.path(), &own, Vec::new(), clock.clone()).expect("it opens"),
            ),
            clock,
            changes: TaskTracker::new(),
        };
        Self { gate: Arc::new(gate), audit, _directory: directory }
    }

    /// What is in the log when all that was begun has ended.
    async fn ended(&self) -> Vec<Record> {
        self.gate.changes.close();
        timeout(Duration::from_secs(60), self.gate.changes.wait()).await.expect("all ends");
        self.audit.records()
    }
}

/// Credentials of this caller, or of nobody.
struct Shown(Result<Caller, Unauthenticated>);

impl Credentials for Shown {
    fn caller(&self, _: &Identities, _: Timestamp) -> Result<Caller, Unauthenticated> {
        self.0.clone()
    }

    fn stranger(&self) -> Stranger {
        stranger()
    }
}

fn stranger() -> Stranger {
    Stranger { source: ([127, 0, 0, 1], 1).into(), credential: None }
}

const UNKNOWN: Shown = Shown(Err(Unauthenticated::CertificateRevoked));

fn known(permissions: Permissions) -> Shown {
    Shown(Ok(caller(permissions)))
}

/// Drives a call as far as it goes by itself; it has to wait for something then.
async fn begin<T>(call: &mut Pin<Box<impl Future<Output = T>>>) {
    let waits = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await;
    assert!(waits, "it ended at once");
}

async fn eventually(what: &str, happened: impl Fn() -> bool) {
    for _ in 0..6000 {
        if happened() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

type Who = Result<Caller, Unauthenticated>;

fn caller(permissions: Permissions) -> Caller {
    let user = UserId::parse("u1").expect("a name");
    Caller { permissions, ..Caller::operator(user, [0; 32], ([127, 0, 0, 1], 1).into()) }
}

/// Lets the first of `identities` in, who has to wait once for each further one that comes in its place.
async fn let_in_after(identities: Vec<Who>, budget: Budget) -> Result<Permissions, Kept> {
    let (waits, later) = (Cell::new(identities.len() - 1), RefCell::new(identities.into_iter()));
    let next = || later.borrow_mut().next().expect("as many as waits");
    let who = RefCell::new(next());
    let may = |_: &Caller| match waits.get() {
        0 => Ok(Passage::default()),
        _ => Err(Throttled {
            subject: "user:u1".to_owned(),
            group: "life-cycle".into(),
            limit: 20,
            window: Window::Second,
            retry_after: Duration::ZERO,
        }),
    };
    let wait = |_| {
        waits.set(waits.get() - 1);
        let _before = who.replace(next());
        ready(())
    };
    let_in(|| who.borrow().clone(), may, budget, wait).await.map(|(caller, _)| caller.permissions)
}

#[tokio::test]
async fn whoever_waits_is_let_in_as_what_he_is_after_the_wait() {
    let (able, revoked) = (|| Ok(caller(Permissions::all())), || Ok(caller(Permissions::NONE)));
    let may = |let_in: Result<Permissions, Kept>| let_in.expect("it is known").allow(Action::CmkCreate);
    assert!(may(let_in_after(vec![able()], Budget::OrWait).await));
    assert!(!may(let_in_after(vec![able(), able(), revoked()], Budget::OrWait).await));
    let gone = vec![able(), Err(Unauthenticated::CertificateRevoked)];
    let kept = let_in_after(gone, Budget::OrWait).await.expect_err("it is not known any more");
    assert!(matches!(kept, Kept::Unknown(Unauthenticated::CertificateRevoked)));
    let kept = let_in_after(vec![able(), able()], Budget::OrRefuse).await.expect_err("over its budget");
    assert!(matches!(kept, Kept::Throttled(..)));
}

#[tokio::test]
async fn a_stream_is_opened_for_who_is_known_and_in_no_crowd() {
    let (all, few) =
        ("calls = 20000\nwindow = \"second\"\nburst = 20000", "calls = 2\nwindow = \"second\"\nburst = 2");
    assert!(DEW.contains(all));
    let world = World::new(&DEW.replace(all, few)).await;
    let open = async |shown: &Shown| {
        let opened = world.gate.open_stream(OperationName::Rewrap, Uuid::new_v4(), shown).await;
        opened.map_err(|refused| refused.error().code())
    };
    let user = known(Permissions::NONE);
    assert_eq!(open(&user).await, Ok(()), "each of its calls is asked for its permission");
    assert!(world.audit.records().is_empty());
    assert_eq!(open(&UNKNOWN).await, Err("CERTIFICATE_REVOKED"));
    assert_eq!(open(&user).await, Err("THROTTLED"));
    let told: Vec<_> =
        world.audit.records().iter().map(|record| (record.operation, record.verdict)).collect();
    assert_eq!(told, [(OperationName::Rewrap, Verdict::Denied); 2]);
}

#[tokio::test]
async fn a_guess_has_its_record_although_its_client_has_gone() {
    let world = World::new(DEW).await;
    let (tell, found) = oneshot::channel();
    let identify = async { Err::<(Caller, IssueToken), _>(found.await.expect("it is found out")) };
    let mut passing = Box::pin(world.gate.pass_when_known(Uuid::new_v4(), stranger(), identify));
    begin(&mut passing).await;
    drop(passing);
    tell.send(Error::Unauthenticated(Unauthenticated::PasswordWrong)).expect("it is still to be found out");
    let records = world.ended().await;
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.operation, record.verdict), (OperationName::IssueToken, Verdict::Denied));
}

#[tokio::test]
async fn a_backup_whose_client_leaves_early_has_its_outcome() {
    let world = World::new(DEW).await;
    let operator = known(Permissions::OPERATOR);
    world.audit.hold();
    let mut passing = Box::pin(world.gate.back_up(Uuid::new_v4(), &operator));
    begin(&mut passing).await;
    eventually("the intent waits for the log", || world.audit.held() == 1).await;
    drop(passing);
    world.audit.release();
    let records = world.ended().await;
    let [intent, outcome] = &records[..] else { panic!("two records, not {}", records.len()) };
    assert_eq!((intent.phase, outcome.phase), (Phase::Intent, Phase::Outcome));
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Failed, Some("ABANDONED")));
}

/// A reload that sets `holds` to 7 when it takes effect.
async fn reload(world: &World, shown: &Shown, holds: &Arc<AtomicU32>) -> Result<(), &'static str> {
    let holds = holds.clone();
    let (load, take_effect) = reloading::prepare(
        world.gate.identities.reloading(),
        || Ok((7, [1; 32])),
        move |read| holds.store(read, Ordering::Relaxed),
    );
    let (operation, mut remaining) = (ReloadIdentities::new(load), None);
    let passed =
        world.gate.pass_to_effect(Uuid::new_v4(), shown, operation, take_effect, &mut remaining).await;
    passed.map(drop).map_err(|refused| refused.error().code())
}

#[tokio::test]
async fn who_may_not_have_a_file_read_anew_does_not_wait_for_who_may() {
    let (world, holds) = (World::new(DEW).await, Arc::default());
    let turn = world.gate.identities.reloading().clone().lock_owned().await;
    let at_once = async |shown: &Shown| {
        timeout(Duration::from_secs(60), reload(&world, shown, &holds)).await.expect("it waits for nobody")
    };
    assert_eq!(at_once(&UNKNOWN).await, Err("CERTIFICATE_REVOKED"));
    assert_eq!(at_once(&known(Permissions::NONE)).await, Err("PERMISSION_DENIED"));
    assert!(world.gate.changes.is_empty());
    let operator = known(Permissions::OPERATOR);
    let mut waiting = Box::pin(reload(&world, &operator, &holds));
    begin(&mut waiting).await;
    drop(waiting);
    drop(turn);
    let records = world.ended().await;
    assert_eq!(records.last().map(|record| record.verdict), Some(Verdict::Succeeded));
    assert_eq!(holds.load(Ordering::Relaxed), 7, "what was recorded holds although its client has gone");
}
