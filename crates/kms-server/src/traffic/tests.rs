//! On a clock that stands still until a test moves it, counts are exact.

use kms_core::{
    Timestamp,
    identity::{Permissions, ProjectId, Region},
    ports::Clock as _,
    testing::clock::FakeClock,
};

use super::{profile::DEW, *};
use crate::manual_clock::ManualClock;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// A control on a clock of its own, under the profile that is built in, with these changes.
struct World {
    clock: Arc<FakeClock>,
    control: TrafficControl,
}

fn changed(changes: &[(&str, &str)]) -> Profile {
    let text = changes.iter().fold(DEW.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    Profile::parse(&text).expect("a profile")
}

impl World {
    fn new(mode: TrafficMode, profile: &Profile) -> Self {
        let clock = Arc::new(FakeClock::at(Timestamp::from_micros(1_795_526_645_000_123)));
        let budget_clock = BudgetClock::new(clock.clone(), None);
        let control = TrafficControl::new(mode, ProfileSource::default(), profile, budget_clock);
        Self { clock, control }
    }

    fn dew() -> Self {
        Self::new(TrafficMode::Enforce, &changed(&[]))
    }

    fn call(&self, caller: &Caller, operation: OperationName) -> Result<Passage, Throttled> {
        self.control.check(caller, operation, NonZeroU32::MIN)
    }

    /// How many calls at once pass before the first that does not.
    fn burst(&self, caller: &Caller, operation: OperationName) -> usize {
        (0..2000).take_while(|_| self.call(caller, operation).is_ok()).count()
    }
}

fn user_of(account: &str, number: usize) -> Caller {
    let name = UserId::parse(&format!("u{number}")).expect("a name");
    Caller {
        account: AccountId::parse(account).expect("a name"),
        user: name,
        project: ProjectId::parse("p1").expect("a name"),
        region: Region::parse("r1").expect("a name"),
        projects: Arc::new([]),
        acting_service: None,
        permissions: Permissions::all(),
        credential: kms_core::identity::Credential::Certificate([0; 32]),
        source: ([127, 0, 0, 1], 1).into(),
    }
}

fn user(number: usize) -> Caller {
    user_of("acme", number)
}

use OperationName::{
    CosignCheckpoint, CreateKey, DescribeKey, DescribeRoot, EnableKey, GenerateDataKey, GenerateDataKeys,
    GetVersion, ListKeys, ListVersions,
};

#[test]
fn a_group_shares_one_budget_a_user_and_it_refills_call_by_call() {
    let world = World::dew();
    assert_eq!(world.burst(&user(1), CreateKey), 20);
    let refused = world.call(&user(1), EnableKey).expect_err("of the same group");
    let expected = Throttled {
        subject: "user:u1".to_owned(),
        group: "life-cycle".into(),
        limit: 20,
        window: Window::Second,
        retry_after: SECOND / 20,
    };
    assert_eq!(refused, expected);
    assert_eq!(world.burst(&user(2), CreateKey), 20, "another user");
    assert_eq!(world.burst(&user(1), GenerateDataKey), 800, "another group");
    // What is told to wait is exactly what is needed.
    world.clock.advance(Duration::from_nanos(49_999_999));
    let refused = world.call(&user(1), CreateKey).expect_err("a nanosecond too early");
    assert_eq!(refused.retry_after, Duration::from_nanos(1));
    world.clock.advance(Duration::from_nanos(1));
    assert_eq!(world.burst(&user(1), CreateKey), 1);
    world.clock.advance(SECOND);
    assert_eq!(world.burst(&user(1), CreateKey), 20);
}

#[test]
fn with_basic_control_each_operation_has_a_budget_of_its_own() {
    let world = World::dew();
    assert_eq!(world.burst(&user(1), ListKeys), 1000);
    assert_eq!(world.burst(&user(1), DescribeKey), 1000);
    let refused = world.call(&user(2), ListKeys).expect_err("of the same account");
    assert_eq!((&*refused.subject, &*refused.group), ("account:acme", "queries/ListKeys"));
    assert_eq!(world.burst(&user_of("globex", 3), ListKeys), 1000);
    assert_eq!(world.burst(&user(1), DescribeRoot), 2000, "unlimited");
}

#[test]
fn what_is_spent_stays_spent_whatever_else_is_called() {
    let world = World::dew();
    assert_eq!(world.burst(&user(1), GenerateDataKey), 800);
    assert_eq!(world.burst(&user(1), CreateKey), 20);
    for operation in OperationName::ALL.iter().rev() {
        drop(world.call(&user(1), *operation));
    }
    for spent in [GenerateDataKey, CreateKey] {
        assert!(world.call(&user(1), spent).is_err(), "{spent:?}");
    }
    let left = world.control.remaining(&user(1).account, &user(1).user);
    let untouched: Vec<_> = left.iter().filter(|budget| budget.left == budget.figure.burst.get()).collect();
    assert!(left.len() > 40 && untouched.is_empty(), "{untouched:?}");
}

#[test]
fn all_together_meet_the_global_limit_and_a_refusal_by_it_costs_nothing() {
    let world = World::dew();
    let passed: usize = (0..6).map(|number| world.burst(&user(number), CreateKey)).sum();
    assert_eq!(passed, 100);
    let refused = world.call(&user(5), CreateKey).expect_err("nothing is left for all");
    assert_eq!((&*refused.subject, refused.limit, refused.retry_after), ("global", 100, SECOND / 100));
    // The last user was refused by the global limit only, as often as his own limit is, and has all of it still.
    for _ in 0..20 {
        world.call(&user(5), CreateKey).expect_err("nothing is left for all");
    }
    world.clock.advance(SECOND / 5);
    assert_eq!(world.burst(&user(5), CreateKey), 20);
}

#[test]
fn a_user_over_his_own_limit_spends_nothing_of_others() {
    let world = World::dew();
    assert_eq!(world.burst(&user(0), CreateKey), 20);
    for _ in 0..2000 {
        world.call(&user(0), CreateKey).expect_err("over his limit");
    }
    let others: usize = (1..6).map(|number| world.burst(&user(number), CreateKey)).sum();
    assert_eq!(others, 80);
}

#[test]
fn several_windows_hold_together() {
    let per_day = r#"{ per = "user", calls = 30, window = "day", burst = 30 },
    { per = "user", calls = 20, window = "second", burst = 20, figure = "documented" },"#;
    let life_cycle = r#"{ per = "user", calls = 20, window = "second", burst = 20, figure = "documented" },"#;
    let world = World::new(TrafficMode::Enforce, &changed(&[(life_cycle, per_day)]));
    assert_eq!(world.burst(&user(1), CreateKey), 20);
    world.clock.advance(SECOND);
    // What the day does not have is not taken from the second either.
    assert_eq!(world.burst(&user(1), CreateKey), 10);
    let refused = world.call(&user(1), CreateKey).expect_err("the day's are spent");
    assert_eq!(
        (refused.limit, refused.window, refused.retry_after),
        (30, Window::Day, Duration::from_secs(2880 - 1))
    );
    world.clock.advance(DAY);
    assert_eq!(world.burst(&user(1), CreateKey), 20, "the second's limit");
}

#[test]
fn calls_that_are_taken_at_once_are_taken_all_or_none() {
    let world = World::dew();
    let take =
        |calls| world.control.check(&user(1), GenerateDataKeys, NonZeroU32::new(calls).expect("not 0"));
    for _ in 0..7 {
        take(100).expect("800 are there");
    }
    take(60).expect("100 are left");
    let refused = take(60).expect_err("40 are left");
    assert_eq!(refused.retry_after, SECOND / 800 * 20);
    assert_eq!(world.burst(&user(1), GenerateDataKey), 40, "the refused ones took nothing");
}

#[test]
fn what_is_left_is_told_of_the_scarcest_budget_and_nothing_of_others() {
    let world = World::dew();
    let passage = world.call(&user(1), CreateKey).expect("it passes");
    let left = passage.remaining.expect("there is a limit");
    assert_eq!((left.per, left.left, left.figure.calls.get()), (Per::User, 19, 20));
    assert_eq!(left.full_in(), SECOND / 20);
    assert_eq!(world.call(&user(1), DescribeRoot).expect("unlimited").remaining, None);
    let told = world.control.remaining(&user(1).account, &user(1).user);
    assert!(told.iter().all(Remaining::may_be_told));
    let life_cycle = told.iter().find(|left| &*left.group == "life-cycle").expect("told");
    assert_eq!((life_cycle.left, life_cycle.documented), (19, true));
    assert!(told.iter().filter(|left| &*left.group != "life-cycle").all(|left| left.full_in().is_zero()));
    assert_eq!(world.burst(&user(1), CreateKey), 19, "to look takes nothing");
}

#[test]
fn report_counts_and_off_does_nothing() {
    let report = World::new(TrafficMode::Report, &changed(&[]));
    assert_eq!((0..20).filter(|_| report.call(&user(1), CreateKey).expect("passes").over_limit).count(), 0);
    let over = report.call(&user(1), CreateKey).expect("passes");
    assert!(over.over_limit);
    assert_eq!(over.remaining.expect("told").left, 0);
    let off = World::new(TrafficMode::Off, &changed(&[]));
    assert_eq!(off.burst(&user(1), CreateKey), 2000);
    assert_eq!(off.call(&user(1), CreateKey), Ok(Passage::default()));
    assert!(off.control.users.is_empty());
}

#[test]
fn before_it_is_known_who_calls_one_limit_holds_for_all() {
    let door =
        [("calls = 20000\nwindow = \"second\"\nburst = 20000", "calls = 5\nwindow = \"second\"\nburst = 5")];
    let world = World::new(TrafficMode::Enforce, &changed(&door));
    assert_eq!((0..10).filter(|_| world.control.enter().is_ok()).count(), 5);
    let refused = world.control.enter().expect_err("full");
    assert_eq!((&*refused.subject, refused.retry_after), ("server", SECOND / 5));
    world.clock.advance(SECOND / 5);
    world.control.enter().expect("one more");
    let report = World::new(TrafficMode::Report, &changed(&door));
    assert_eq!((0..10).filter(|_| report.control.enter().expect("passes").over_limit).count(), 5);
}

#[test]
fn an_account_has_the_limits_that_are_its_own() {
    let own = format!(
        "{DEW}\n[[accounts]]\ndomain_id = \"acme\"\nlimits = [{}]",
        r#"{ group = "life-cycle", per = "user", calls = 50, window = "second", burst = 50 }"#
    );
    let world = World::new(TrafficMode::Enforce, &Profile::parse(&own).expect("a profile"));
    assert_eq!(world.burst(&user(1), CreateKey), 50);
    assert_eq!(world.burst(&user_of("globex", 2), CreateKey), 20);
}

#[test]
fn a_new_profile_leaves_spent_what_it_does_not_change() {
    let world = World::dew();
    assert_eq!(world.burst(&user(1), CreateKey), 20);
    assert_eq!(world.burst(&user(1), GenerateDataKey), 800);
    let life_cycle = r#"per = "user", calls = 20, window = "second", burst = 20, figure = "documented""#;
    let wider = r#"per = "user", calls = 40, window = "second", burst = 40, figure = "documented""#;
    world.control.replace(&changed(&[(life_cycle, wider)]));
    assert_eq!(world.burst(&user(1), GenerateDataKey), 0, "unchanged, and spent");
    assert_eq!(world.burst(&user(1), CreateKey), 40, "changed, and full");
    let others: usize = (2..10).map(|number| world.burst(&user(number), CreateKey)).sum();
    assert_eq!(others, 40, "of the global limit of 100, unchanged, 60 are spent");
    world.control.replace(&changed(&[(life_cycle, wider)]));
    assert_eq!(world.burst(&user(1), CreateKey), 0);
}

#[test]
fn only_who_has_spent_something_is_remembered() {
    let world = World::dew();
    for number in 0..1000 {
        world.call(&user(number), GenerateDataKey).expect("within all limits");
    }
    world.call(&user(2000), DescribeRoot).expect("unlimited");
    assert_eq!(world.control.users.len(), 1000);
    world.control.forget_idle();
    assert_eq!(world.control.users.len(), 1000, "nobody's budget is full");
    assert_eq!(world.burst(&user(2000), GenerateDataKey), 0, "1000 for all");
    world.clock.advance(SECOND / 800);
    world.control.forget_idle();
    assert!(world.control.users.is_empty());
    let operator = Caller::operator(user(1).user, [0; 32], ([127, 0, 0, 1], 1).into());
    assert_eq!(world.burst(&operator, ListKeys), 2000);
    assert_eq!(world.burst(&operator, CosignCheckpoint), 2000);
    assert!(world.control.users.is_empty() && world.control.accounts.is_empty());
}

#[test]
fn who_may_only_have_checkpoints_cosigned_is_limited() {
    let world = World::dew();
    let log = Caller::operator(user(1).user, [0; 32], ([127, 0, 0, 1], 1).into());
    let log = Caller { permissions: Permissions::Cosign, ..log };
    assert_eq!(world.burst(&log, CosignCheckpoint), 10);
    assert_eq!(world.burst(&log, ListKeys), 1000, "what it is refused, too");
}

#[test]
fn the_versions_of_the_api_are_queries_like_others() {
    let world = World::dew();
    for operation in [ListVersions, GetVersion] {
        assert_eq!(world.burst(&user(1), operation), 1000);
    }
}

#[test]
fn a_tester_has_calls_refused_in_any_mode() {
    for mode in [TrafficMode::Enforce, TrafficMode::Report, TrafficMode::Off] {
        let world = World::new(mode, &changed(&[]));
        world.control.refuse_next(CreateKey, 2);
        let refused = world.call(&user(1), CreateKey).expect_err("the first");
        assert_eq!((&*refused.subject, &*refused.group, refused.limit), ("user:u1", "life-cycle", 20));
        world.call(&user(1), EnableKey).expect("another operation");
        world.call(&user(2), CreateKey).expect_err("the second");
        world.call(&user(1), CreateKey).expect("the third");
        world.control.refuse_next(DescribeRoot, 5);
        world.call(&user(1), DescribeRoot).expect_err("also what has no limit");
        world.control.refuse_next(DescribeRoot, 0);
        world.call(&user(1), DescribeRoot).expect("taken back");
    }
}

#[test]
fn budgets_refill_by_the_machines_time_and_by_what_a_tester_advances() {
    let directory = tempfile::tempdir().expect("a directory");
    let machine = Arc::new(FakeClock::at(Timestamp::from_micros(1_795_526_645_000_123)));
    let manual = ManualClock::open(directory.path(), machine.clone()).expect("new");
    let manual = Arc::new(manual);
    let clock = BudgetClock::new(machine.clone(), Some(manual.clone()));
    let mode = TrafficMode::Enforce;
    let control = TrafficControl::new(mode, ProfileSource::default(), &changed(&[]), clock);
    let world = World { clock: machine, control };
    assert_eq!(world.burst(&user(1), CreateKey), 20);
    world.clock.advance(SECOND / 2);
    assert_eq!(world.burst(&user(1), CreateKey), 10, "the manual clock stands, and nobody starves");
    manual.advance_to(manual.now().plus(SECOND / 4)).expect("written");
    assert_eq!(world.burst(&user(1), CreateKey), 5);
    manual.advance_to(manual.now().plus(60 * 365 * DAY)).expect("written");
    assert_eq!(world.burst(&user(1), CreateKey), 20);
}

#[test]
fn threads_together_get_no_more_than_the_limit() {
    let world = World::dew();
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| (number, &world))
            .map(|(number, world)| {
                scope.spawn(move || {
                    (0..500).filter(|_| world.call(&user(number % 4), GenerateDataKey).is_ok()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
    });
    // A call that another budget refuses may have been in the way of one that would have passed.
    assert!(passed <= 1000, "{passed}");
    let rest: usize = (0..10).map(|number| world.burst(&user(number), GenerateDataKey)).sum();
    assert_eq!(passed + rest, 1000, "nothing is lost, and nothing is given twice");
}
