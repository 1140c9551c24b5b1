use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::mpsc::channel,
    thread,
};

use kms_core::{
    Phase, RequestId, Timestamp, Verdict,
    identity::{
        AccessKeyId, AccountId, Caller, Credential, Permissions, ProjectId, Region, Stranger, UserId,
    },
    operation::{Action, OperationName},
    testing::{
        audit::{AuditSubject, FakeAuditLog, audit_log_contract, sample_record},
        clock::FakeClock,
    },
};
use uuid::Uuid;

use super::*;

const START: Timestamp = Timestamp::from_micros(1_795_526_645_000_000);

struct World {
    fake: Arc<FakeAuditLog>,
    clock: Arc<FakeClock>,
    log: SummingLog,
}

impl World {
    fn new() -> Self {
        let (fake, clock) = (Arc::new(FakeAuditLog::new()), Arc::new(FakeClock::at(START)));
        let log = SummingLog::new(fake.clone(), || true, clock.clone());
        Self { fake, clock, log }
    }

    /// How it is answered, if at once.
    fn append(&self, record: Record) -> Option<Result<Receipt, AuditError>> {
        let (sender, answer) = channel();
        self.log.append(record, Box::new(move |answer| drop(sender.send(answer))));
        answer.try_recv().ok()
    }

    /// Appends it; it has to be acknowledged at once.
    fn refused(&self, record: Record) -> Receipt {
        self.append(record).expect("an answer").expect("a receipt")
    }

    /// The same of denied calls of one user.
    fn refused_all(&self, requests: Range<u16>) {
        for request in requests {
            self.refused(denied("u", request));
        }
    }

    fn end_window(&self) {
        self.clock.advance(WINDOW);
        self.log.sweep();
    }

    fn counts(&self) -> Vec<u64> {
        self.fake.records().iter().map(|record| record.count).collect()
    }
}

impl AuditSubject for World {
    fn log(&self) -> &dyn AuditLog {
        &self.log
    }

    fn break_next_commit(&self) {
        self.fake.fail_next(1);
    }

    fn durable(&self) -> Vec<(RequestId, Phase)> {
        self.fake.durable()
    }
}

fn source(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, 0, host]), port)
}

/// A denied call of this user, from a port of its own.
fn denied(user: &str, request: u16) -> Record {
    let caller = Caller {
        account: AccountId::parse("d1").expect("a name"),
        user: UserId::parse(user).expect("a name"),
        project: ProjectId::parse("p1").expect("a name"),
        region: Region::parse("r1").expect("a name"),
        projects: Arc::new([]),
        acting_service: None,
        permissions: Permissions::NONE,
        credential: Credential::Certificate([1; 32]),
        source: source(1, request),
    };
    Record {
        verdict: Verdict::Denied,
        reason: Some("PERMISSION_DENIED"),
        missing_action: Some(Action::CmkGet),
        operation: OperationName::DescribeKey,
        caller: Some(caller),
        time: START.plus(Duration::from_millis(request.into())),
        ..sample_record(request.into(), Phase::Complete)
    }
}

fn caller(record: &mut Record) -> &mut Caller {
    record.caller.as_mut().expect("one")
}

fn access_key(id: &str) -> Credential {
    Credential::AccessKey(AccessKeyId::parse(id).expect("a name"))
}

#[test]
fn it_is_a_log() {
    audit_log_contract(World::new);
}

#[test]
fn the_first_refusals_are_recorded_one_by_one_and_the_others_in_one_record() {
    let world = World::new();
    let receipts: Vec<_> = (0..100).map(|request| world.refused(denied("u", request))).collect();
    assert_eq!(world.counts(), [1; 10]);
    assert_eq!(receipts[9].sequence(), 9);
    assert!(receipts[10..].iter().all(|receipt| receipt == &receipts[9]), "a durable record of this kind");
    world.clock.advance(WINDOW.saturating_sub(Duration::from_micros(1)));
    world.log.sweep();
    assert_eq!(world.counts(), [1; 10], "the window is open");
    world.clock.advance(Duration::from_micros(1));
    world.log.sweep();
    let records = world.fake.records();
    let [.., sum] = &records[..] else { panic!("no record") };
    assert_eq!((records.len(), sum.count, world.log.summed()), (11, 90, 90));
    let first = denied("u", 10);
    assert_eq!((sum.request_id, sum.time), (first.request_id, first.time), "the first of them");
    assert_eq!((sum.operation, sum.missing_action), (first.operation, first.missing_action));
    world.end_window();
    assert_eq!(world.counts().len(), 11, "nothing happened since");
    world.refused(denied("u", 200));
    assert_eq!(world.counts()[11..], [1], "a new window begins exactly");
}

#[test]
fn nothing_is_counted_before_one_of_its_kind_is_durable() {
    let world = World::new();
    world.fake.hold();
    let answers: Vec<_> = (0..30).map(|request| world.append(denied("u", request))).collect();
    assert!(answers.iter().all(Option::is_none), "answered before any record was durable");
    assert_eq!(world.fake.held(), 30);
    world.fake.release();
    world.refused(denied("u", 30));
    assert_eq!(world.counts(), [1; 30]);
}

#[test]
fn only_refusals_are_counted_and_each_kind_by_itself() {
    let world = World::new();
    let mut others: Vec<Record> = [
        |record: &mut Record| record.verdict = Verdict::Succeeded,
        |record: &mut Record| record.verdict = Verdict::Failed,
        |record: &mut Record| record.phase = Phase::Outcome,
        |record: &mut Record| record.caller = None,
    ]
    .map(|alter| {
        let mut record = denied("u", 0);
        alter(&mut record);
        record
    })
    .into();
    world.refused_all(0..20);
    for record in &others {
        for _ in 0..20 {
            world.refused(record.clone());
        }
    }
    assert_eq!(world.counts().len(), 10 + 4 * 20, "these are never counted");
    others = [
        |record: &mut Record| record.operation = OperationName::ListKeys,
        |record: &mut Record| record.reason = Some("THROTTLED"),
        |record: &mut Record| record.missing_action = None,
        |record: &mut Record| record.ruling = Some("denied by s".to_owned()),
        |record: &mut Record| record.key_id = Some(kms_core::key::KeyId::from_uuid(Uuid::from_u128(9))),
        |record: &mut Record| drop(record.context.insert("bucket".to_owned(), "00".to_owned())),
        |record: &mut Record| caller(record).source = source(2, 1),
        |record: &mut Record| caller(record).credential = Credential::Certificate([2; 32]),
        |record: &mut Record| caller(record).credential = access_key("AK1"),
        |record: &mut Record| caller(record).credential = access_key("AK2"),
        |record: &mut Record| caller(record).user = UserId::parse("v").expect("a name"),
        |record: &mut Record| {
            record.caller = None;
            record.stranger = Some(Stranger { source: source(1, 1), credential: None });
        },
    ]
    .map(|alter| {
        let mut record = denied("u", 0);
        alter(&mut record);
        record
    })
    .into();
    let before = world.counts().len();
    for record in &others {
        for _ in 0..EXACT {
            world.refused(record.clone());
        }
    }
    assert_eq!(world.counts().len(), before + others.len() * 10, "each of them is a kind of its own");
}

#[test]
fn what_a_caller_varies_makes_no_more_kinds_than_there_is_room_for() {
    let world = World::new();
    let varied = |user: &str, request: u16| {
        let mut record = denied(user, request);
        record.context.insert("object".to_owned(), request.to_string());
        record
    };
    for request in 0..5000 {
        world.refused(varied("u", request));
    }
    assert_eq!(world.counts(), [1; KINDS + 10], "{KINDS} kinds, and several as one");
    world.refused(varied("v", 0));
    assert_eq!(world.counts().len(), KINDS + 11, "another user's are not lost in them");
    world.log.close();
    let records = world.fake.records();
    let sum = records.last().expect("a record");
    assert_eq!(sum.count, 5000 - KINDS as u64 - 10);
    assert_eq!(
        (sum.ruling.as_deref(), sum.context.len(), sum.missing_action),
        (Some("several kinds"), 0, None)
    );
    assert_eq!(sum.request_id, varied("u", 74).request_id);
}

#[test]
fn while_the_log_fails_nothing_is_counted_and_a_sum_is_owed() {
    let world = World::new();
    world.refused_all(0..50);
    world.fake.fail_next(1);
    world.end_window();
    assert_eq!(world.counts(), [1; 10]);
    world.refused_all(50..90);
    assert_eq!(world.counts(), [1; 50], "a sum is owed: nothing is counted");
    world.log.sweep();
    assert_eq!(world.counts()[50..], [40]);
    world.refused(denied("u", 90));
    assert_eq!(world.counts().len(), 51, "it works: what comes is counted");
    // And with a failure of the refusal itself, in another window.
    world.end_window();
    world.fake.fail_next(1);
    world.append(denied("u", 91)).expect("an answer").expect_err("was told to fail");
    let before = world.counts().len();
    world.refused_all(0..20);
    assert_eq!(world.counts().len(), before + 9, "one of the ten had failed");
}

#[test]
fn a_log_that_is_known_not_to_work_answers_for_itself() {
    let fake = Arc::new(FakeAuditLog::new());
    let log = SummingLog::new(fake.clone(), || false, Arc::new(FakeClock::at(START)));
    (0..50).for_each(|request| log.append(denied("u", request), Box::new(drop)));
    assert_eq!((fake.records().len(), log.summed()), (50, 0));
}

#[test]
fn what_is_counted_is_recorded_at_the_end_and_nothing_is_counted_after_it() {
    let world = World::new();
    world.refused_all(0..50);
    world.log.close();
    world.refused_all(50..70);
    let expected: Vec<u64> = [1; 10].into_iter().chain([40]).chain([1; 20]).collect();
    assert_eq!(world.counts(), expected);
    let other = World::new();
    other.refused_all(0..50);
    let World { fake, log, .. } = other;
    drop(log);
    assert_eq!(fake.records().iter().map(|record| record.count).sum::<u64>(), 50, "however it ends");
}

/// A sequence of numbers that look random, the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn the_counts_of_all_records_sum_up_to_the_refused_calls_whatever_happens_in_which_order() {
    for seed in 0..300 {
        let (world, mut numbers) = (World::new(), Numbers(seed));
        let (sender, answers) = channel();
        for request in 0..400 {
            match numbers.below(40) {
                0 => world.clock.advance(Duration::from_secs(numbers.below(12))),
                1 | 2 => world.log.sweep(),
                3 => world.fake.fail_next(usize::try_from(numbers.below(4)).expect("small")),
                4 => world.fake.hold(),
                5..8 => world.fake.release(),
                _ => {}
            }
            let mut record = denied(["u", "v"][usize::try_from(numbers.below(2)).expect("small")], request);
            record.reason = Some(["PERMISSION_DENIED", "THROTTLED"][usize::from(numbers.below(9) == 0)]);
            let sender = sender.clone();
            let acknowledge = move |answer| drop(sender.send(answer));
            world.log.append(record, Box::new(acknowledge));
        }
        world.fake.fail_next(0);
        world.fake.release();
        world.log.sweep(); // what was owed
        world.log.close();
        drop(sender);
        let acknowledged = answers.iter().flatten().count() as u64;
        assert_eq!(world.counts().iter().sum::<u64>(), acknowledged, "seed {seed}");
    }
}

#[test]
fn threads_lose_nothing_to_sweeps_and_to_the_end() {
    const THREADS: u16 = 8;
    const EACH: u16 = 500;
    let world = World::new();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let world = &world;
            scope.spawn(move || {
                world.refused_all(thread * EACH..(thread + 1) * EACH);
            });
        }
        scope.spawn(|| (0..50).for_each(|_| world.end_window()));
        scope.spawn(|| world.log.close());
    });
    assert_eq!(world.counts().iter().sum::<u64>(), u64::from(THREADS * EACH));
}
