//! Traffic control: DEW's two documented groups of operations, per user and global.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, InsufficientCapacity, NotUntil, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock, QuantaInstant},
};
use kms_core::{error::Throttled, identity::UserId, operation::TrafficGroup};
use serde::Deserialize;

/// What happens to a call that is over a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TrafficMode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is counted and passes.
    Report,
    /// Nothing; nothing is counted either.
    Off,
}

/// Calls per second that a group may make; a second's worth may come at once.
struct Limits {
    user: NonZeroU32,
    global: NonZeroU32,
}

// DEW: §7, the documented limits of the two shared groups.
const LIFE_CYCLE: Limits = Limits { user: per_second(20), global: per_second(100) };
const DATA_KEYS: Limits = Limits { user: per_second(800), global: per_second(1000) };

/// The two windows of one group.
#[derive(Debug)]
struct GroupControl {
    users: DefaultKeyedRateLimiter<UserId>,
    global: DefaultDirectRateLimiter,
    limits: (u32, u32),
}

/// All limits.
#[derive(Debug)]
pub(crate) struct TrafficControl {
    mode: TrafficMode,
    clock: DefaultClock,
    life_cycle: GroupControl,
    data_keys: GroupControl,
}

/// What the control says of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Within all limits.
    Free,
    /// Over a limit, but the mode only reports it.
    Reported,
}

impl TrafficControl {
    /// Fresh budgets.
    pub(crate) fn new(mode: TrafficMode) -> Self {
        let (life_cycle, data_keys) = (GroupControl::new(&LIFE_CYCLE), GroupControl::new(&DATA_KEYS));
        Self { mode, clock: DefaultClock::default(), life_cycle, data_keys }
    }

    /// Takes `calls` calls at once from the budgets of `user` and of all, or none and says how long to wait.
    pub(crate) fn check(
        &self,
        user: &UserId,
        group: TrafficGroup,
        calls: NonZeroU32,
    ) -> Result<Passage, Throttled> {
        let control = match (self.mode, group) {
            // DEW documents no limit for queries, and has no operators.
            (TrafficMode::Off, _) | (_, TrafficGroup::Queries | TrafficGroup::Administration) => {
                return Ok(Passage::Free);
            }
            (_, TrafficGroup::LifeCycle) => &self.life_cycle,
            (_, TrafficGroup::DataKeys) => &self.data_keys,
        };
        match (control.check(user, calls, &self.clock), self.mode) {
            (Ok(()), _) => Ok(Passage::Free),
            (Err(_), TrafficMode::Report) => Ok(Passage::Reported),
            (Err(throttled), _) => Err(throttled),
        }
    }

    /// Forgets users whose budgets are full again. Off the path of calls.
    pub(crate) fn forget_idle_users(&self) {
        for control in [&self.life_cycle, &self.data_keys] {
            control.users.retain_recent();
            control.users.shrink_to_fit();
        }
    }
}

impl GroupControl {
    fn new(limits: &Limits) -> Self {
        Self {
            users: RateLimiter::keyed(Quota::per_second(limits.user)),
            global: RateLimiter::direct(Quota::per_second(limits.global)),
            limits: (limits.user.get(), limits.global.get()),
        }
    }

    fn check(&self, user: &UserId, calls: NonZeroU32, clock: &DefaultClock) -> Result<(), Throttled> {
        let throttled =
            |subject: String, limit, wait: Duration| Throttled { subject, limit, retry_after: wait };
        // A user over its own limit does not spend what belongs to all.
        wait(self.users.check_key_n(user, calls), clock)
            .map_or(Ok(()), |wait| Err(throttled(format!("user:{user}"), self.limits.0, wait)))?;
        wait(self.global.check_n(calls), clock)
            .map_or(Ok(()), |wait| Err(throttled("global".to_owned(), self.limits.1, wait)))
    }
}

/// How long to wait, if the answer is no.
fn wait(
    answer: Result<Result<(), NotUntil<QuantaInstant>>, InsufficientCapacity>,
    clock: &DefaultClock,
) -> Option<Duration> {
    match answer {
        Ok(Ok(())) => None,
        Ok(Err(not_until)) => Some(not_until.wait_time_from(clock.now())),
        // More than the limit at once: no waiting helps, and no operation stands for so many calls.
        Err(_) => Some(Duration::MAX),
    }
}

const fn per_second(calls: u32) -> NonZeroU32 {
    match NonZeroU32::new(calls) {
        Some(calls) => calls,
        None => NonZeroU32::MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: usize) -> UserId {
        UserId::parse(&format!("u{number}")).expect("a name")
    }

    /// How many of 900 calls at once pass. The budgets refill meanwhile, so counts have a slack.
    fn passed(control: &TrafficControl, user: &UserId, group: TrafficGroup) -> usize {
        (0..900).filter(|_| control.check(user, group, NonZeroU32::MIN).is_ok()).count()
    }

    #[test]
    fn a_user_is_throttled_at_its_limit_and_others_are_not() {
        let control = TrafficControl::new(TrafficMode::Enforce);
        let count = passed(&control, &user(1), TrafficGroup::LifeCycle);
        assert!((20..800).contains(&count), "{count}");
        let throttled = loop {
            if let Err(throttled) = control.check(&user(1), TrafficGroup::LifeCycle, NonZeroU32::MIN) {
                break throttled;
            }
        };
        assert_eq!((&*throttled.subject, throttled.limit), ("user:u1", 20));
        assert!(throttled.retry_after <= Duration::from_millis(50), "{throttled:?}");
        assert_eq!(control.check(&user(2), TrafficGroup::LifeCycle, NonZeroU32::MIN), Ok(Passage::Free));
        assert_eq!(control.check(&user(1), TrafficGroup::DataKeys, NonZeroU32::MIN), Ok(Passage::Free));
    }

    #[test]
    fn all_users_together_meet_the_global_limit() {
        let control = TrafficControl::new(TrafficMode::Enforce);
        let refused: Vec<_> = (0..2000)
            .filter_map(|number| control.check(&user(number), TrafficGroup::LifeCycle, NonZeroU32::MIN).err())
            .collect();
        assert!(refused.iter().all(|throttled| throttled.subject == "global" && throttled.limit == 100));
        assert!(!refused.is_empty());
    }

    #[test]
    fn the_other_modes_refuse_nothing() {
        let report = TrafficControl::new(TrafficMode::Report);
        assert_eq!(passed(&report, &user(1), TrafficGroup::LifeCycle), 900);
        let seen = (0..900).any(|_| {
            report.check(&user(1), TrafficGroup::LifeCycle, NonZeroU32::MIN) == Ok(Passage::Reported)
        });
        assert!(seen, "nothing was reported");
        let off = TrafficControl::new(TrafficMode::Off);
        assert_eq!(passed(&off, &user(1), TrafficGroup::LifeCycle), 900);
        assert_eq!(off.check(&user(1), TrafficGroup::LifeCycle, NonZeroU32::MIN), Ok(Passage::Free));
    }

    #[test]
    fn calls_that_are_taken_at_once_are_taken_all_or_none() {
        let control = TrafficControl::new(TrafficMode::Enforce);
        let (ten, fifteen) = (NonZeroU32::new(10).expect("not 0"), NonZeroU32::new(15).expect("not 0"));
        let check = |calls| control.check(&user(1), TrafficGroup::LifeCycle, calls);
        assert_eq!(check(fifteen), Ok(Passage::Free));
        check(ten).expect_err("about 5 of 20 are left");
        // The refused ones took nothing.
        let left = (0..900).take_while(|_| check(NonZeroU32::MIN).is_ok()).count();
        assert!(left >= 5, "{left}");
    }

    #[test]
    fn queries_have_no_limit() {
        let control = TrafficControl::new(TrafficMode::Enforce);
        assert_eq!(passed(&control, &user(1), TrafficGroup::Queries), 900);
    }
}
