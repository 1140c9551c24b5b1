//! Who may move a clock, and how far.

use std::time::Duration;

use kms_core::{
    Error, Phase, Timestamp, Verdict,
    error::Field,
    identity::{Caller, UserId},
    operation::{Action, OperationName},
    ops::{AdvanceClock, ReadClock},
};

use crate::support::{World, owner};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn operator() -> Caller {
    Caller::operator(UserId::parse("olga").expect("a name"), [9; 32], ([127, 0, 0, 1], 4712).into())
}

fn advance(by: Duration) -> AdvanceClock {
    AdvanceClock::parse(Some(by)).expect("not too much")
}

#[test]
fn only_operators_touch_the_clock() {
    let world = World::new();
    let denied = Error::denied(Action::RootManage);
    assert_eq!(world.run(&owner(), advance(DAY)), Err(denied.clone()));
    assert_eq!(world.run(&owner(), ReadClock), Err(denied));
    assert_eq!(world.run(&operator(), ReadClock).expect("may").to_string(), "2026-11-24T13:24:05.000000Z");
}

#[test]
fn who_may_move_the_clock_leaves_a_record_of_the_time_before() {
    let world = World::new();
    let (by, records) = world.records_of(|| world.run(&operator(), advance(DAY)));
    assert_eq!(by, Ok(DAY));
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.operation, record.phase), (OperationName::AdvanceClock, Phase::Complete));
    assert_eq!(record.verdict, Verdict::Succeeded);
    assert_eq!(record.time.to_string(), "2026-11-24T13:24:05.000000Z");
}

#[test]
fn a_clock_goes_on_by_more_than_nothing_and_at_most_ten_years() {
    let refused = |by| AdvanceClock::parse(by).map(drop).expect_err("out of range");
    for by in [None, Some(Duration::ZERO), Some(3653 * DAY + Duration::from_nanos(1)), Some(Duration::MAX)] {
        assert!(matches!(refused(by), Error::InvalidField { field: Field::By, .. }), "{by:?}");
    }
    AdvanceClock::parse(Some(Duration::from_nanos(1))).expect("something");
    AdvanceClock::parse(Some(3653 * DAY)).expect("ten years");
}

#[test]
fn a_clock_stops_before_the_year_2200() {
    let world = World::new();
    world.clock.set(Timestamp::from_micros(7_258_118_400_000_000 - 2));
    world.run(&operator(), advance(Duration::from_micros(2))).expect("the last moment");
    let beyond = world.run(&operator(), advance(Duration::from_micros(3)));
    assert!(matches!(beyond, Err(Error::InvalidField { field: Field::By, .. })), "{beyond:?}");
}
