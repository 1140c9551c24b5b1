//! Budgets of calls: what subjects have spent of their limits, by the generic cell rate algorithm of `governor`.

use std::{
    cell::Cell,
    collections::HashMap,
    hash::{Hash, Hasher},
    num::{NonZeroU32, NonZeroU64},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{self, Clock as _},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::StateStore,
};
use kms_core::{operation::OperationName, ports::Clock};

use super::profile::{Figure, Limit, Per, Pool};
use crate::manual_clock::ManualClock;

/// The time by which budgets refill: the machine's, and what a tester advanced a clock of his own by. A clock that
/// stands still starves nobody.
#[derive(Clone)]
pub(crate) struct BudgetClock {
    machine: Arc<dyn Clock>,
    manual: Option<Arc<ManualClock>>,
}

impl BudgetClock {
    pub(crate) fn new(machine: Arc<dyn Clock>, manual: Option<Arc<ManualClock>>) -> Self {
        Self { machine, manual }
    }
}

impl clock::Clock for BudgetClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        let advanced = self.manual.as_ref().map_or(Duration::ZERO, |manual| manual.advanced());
        self.machine.monotonic().saturating_add(advanced)
    }
}

/// Decides by one figure about any budget that has it.
type Limiter = RateLimiter<Draw, Ledger, BudgetClock, StateInformationMiddleware>;

/// One limiter for each figure there ever was. A limiter measures time from when it was made, so what was spent under it
/// means something under it only.
pub(super) struct Limiters {
    clock: BudgetClock,
    made: HashMap<Figure, Arc<Limiter>>,
}

impl Limiters {
    pub(super) fn new(clock: BudgetClock) -> Self {
        Self { clock, made: HashMap::new() }
    }

    fn of(&mut self, figure: Figure) -> Arc<Limiter> {
        let make = || {
            // A figure has at most a million calls in a second or longer: its interval is not 0.
            let quota = Quota::with_period(figure.interval()).unwrap_or(Quota::per_second(figure.calls));
            Arc::new(Limiter::new(quota.allow_burst(figure.burst), Ledger, self.clock.clone()))
        };
        self.made.entry(figure).or_insert_with(make).clone()
    }
}

/// The limits of one kind of subject.
pub(super) struct Limits {
    list: Vec<PoolLimit>,
    /// Which of them an operation draws on: by its place in [`OperationName::ALL`].
    of_operation: Vec<Range<usize>>,
}

struct PoolLimit {
    pool: Arc<str>,
    limit: Limit,
    limiter: Arc<Limiter>,
}

impl Limits {
    pub(super) fn new(pools: Vec<Pool>, limiters: &mut Limiters) -> Arc<Self> {
        let mut limits = Self { list: Vec::new(), of_operation: vec![0..0; OperationName::ALL.len()] };
        for pool in pools {
            let first = limits.list.len();
            limits.list.extend(pool.limits.into_iter().map(|limit| {
                let limiter = limiters.of(limit.figure);
                PoolLimit { pool: pool.name.clone(), limit, limiter }
            }));
            for operation in pool.operations {
                limits.of_operation[operation as usize] = first..limits.list.len();
            }
        }
        Arc::new(limits)
    }

    /// One limit, which every operation draws on.
    pub(super) fn single(name: &str, figure: Figure, limiters: &mut Limiters) -> Arc<Self> {
        let limit = Limit { per: Per::Global, figure, documented: false };
        Self::new(
            vec![Pool { name: name.into(), operations: OperationName::ALL.to_vec(), limits: vec![limit] }],
            limiters,
        )
    }

    /// Which limits the operation draws on.
    pub(super) fn of(&self, operation: OperationName) -> Range<usize> {
        self.of_operation.get(operation as usize).cloned().unwrap_or_default()
    }

    /// The limit with the shortest window that the operation draws on.
    pub(super) fn first(&self, operation: OperationName) -> Option<(&Arc<str>, Figure)> {
        let limit = self.list.get(self.of(operation).next()?)?;
        Some((&limit.pool, limit.limit.figure))
    }
}

/// What one subject has spent. A clone is a second handle to the same.
#[derive(Clone)]
pub(super) struct Budgets {
    pub(super) limits: Arc<Limits>,
    /// For each limit the time until which it is spent, in its limiter's nanoseconds; 0: never used. Nothing else of a
    /// subject is read by a check: with a million of them, each further place in memory is what costs.
    spent: Arc<[AtomicU64]>,
}

/// What is left of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remaining {
    /// What draws on it: a group, or one operation of a group.
    pub group: Arc<str>,
    /// Whose it is.
    pub per: Per,
    /// How much it allows.
    pub figure: Figure,
    /// Whether the documents of DEW have that figure.
    pub documented: bool,
    /// How many calls could pass now.
    pub left: u32,
}

impl Remaining {
    /// Whether a caller may know.
    pub(crate) fn may_be_told(&self) -> bool {
        self.per.may_be_told()
    }

    /// How long until it is full again, to the next whole call.
    pub(crate) fn full_in(&self) -> Duration {
        self.figure.interval() * self.figure.burst.get().saturating_sub(self.left)
    }
}

/// A budget does not have so many calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exhausted {
    /// It, with nothing left.
    pub budget: Remaining,
    /// How long until it has.
    pub wait: Duration,
}

impl Budgets {
    /// Full ones.
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        let spent = limits.list.iter().map(|_| AtomicU64::new(0)).collect();
        Self { limits, spent }
    }

    /// The same under other limits: what was spent of a limit that stays as it is stays spent, the others are full.
    pub(super) fn renewed(&self, limits: Arc<Limits>) -> Self {
        let old = &self.limits.list;
        let same = |new: &PoolLimit| {
            let is_same = |old: &PoolLimit| old.pool == new.pool && Arc::ptr_eq(&old.limiter, &new.limiter);
            old.iter().position(is_same).map_or(0, |place| self.spent[place].load(Ordering::Acquire))
        };
        let spent = limits.list.iter().map(|new| AtomicU64::new(same(new))).collect();
        Self { limits, spent }
    }

    /// Whether nothing is spent any more.
    pub(super) fn are_full(&self) -> bool {
        let used = (0..self.spent.len()).filter(|place| self.spent[*place].load(Ordering::Acquire) != 0);
        used.into_iter().all(|place| {
            let remaining = self.remaining(place);
            remaining.left >= remaining.figure.burst.get()
        })
    }

    /// Takes so many calls from one budget, or none; answers how many are left.
    pub(super) fn take(&self, place: usize, calls: NonZeroU32) -> Result<u32, Exhausted> {
        let (limiter, spent) = (&self.limits.list[place].limiter, &self.spent[place]);
        let exhausted = |wait| Exhausted { budget: self.told(place, 0), wait };
        loop {
            let draw = Draw::new(spent);
            let left = match limiter.check_key_n(&draw, calls) {
                Ok(Ok(snapshot)) => snapshot.remaining_burst_capacity(),
                Ok(Err(not_until)) => {
                    return Err(exhausted(not_until.wait_time_from(limiter.clock().now())));
                }
                // A profile whose budgets cannot hold what one call stands for is refused; no waiting would help.
                Err(_) => return Err(exhausted(Duration::MAX)),
            };
            if draw.note(spent) {
                return Ok(left);
            }
        }
    }

    /// Gives back what [`take`](Self::take) took, for another budget did not have it. A call that comes between the two
    /// may be refused for it; none passes that should not.
    pub(super) fn give_back(&self, place: usize, calls: NonZeroU32) {
        let interval = u64::try_from(self.limits.list[place].limit.figure.interval().as_nanos());
        let taken = interval.unwrap_or(0).saturating_mul(calls.get().into());
        self.spent[place].fetch_sub(taken, Ordering::AcqRel);
    }

    /// What is left of one budget.
    pub(super) fn remaining(&self, place: usize) -> Remaining {
        let answer = self.limits.list[place].limiter.check_key(&Draw::new(&self.spent[place]));
        self.told(place, answer.map_or(0, |snapshot| snapshot.remaining_burst_capacity() + 1))
    }

    /// What is left of all of them.
    pub(super) fn all_remaining(&self) -> impl Iterator<Item = Remaining> {
        (0..self.spent.len()).map(|place| self.remaining(place))
    }

    /// Whether a caller may know what is left of one of them.
    pub(super) fn may_be_told(&self, place: usize) -> bool {
        self.limits.list[place].limit.per.may_be_told()
    }

    /// One of them, of which so much is left.
    pub(super) fn told(&self, place: usize, left: u32) -> Remaining {
        let PoolLimit { pool, limit, .. } = &self.limits.list[place];
        let Limit { per, figure, documented } = *limit;
        Remaining { group: pool.clone(), per, figure, documented, left }
    }
}

/// A question about one budget: what is spent of it, and what would be spent once the answer is taken. It stands in the
/// place of the key that limiters know.
#[derive(Clone)]
struct Draw {
    before: u64,
    after: Cell<u64>,
}

impl Draw {
    fn new(spent: &AtomicU64) -> Self {
        let before = spent.load(Ordering::Acquire);
        Self { before, after: Cell::new(before) }
    }

    /// Notes what is spent now; `false` if something else was spent meanwhile.
    fn note(&self, spent: &AtomicU64) -> bool {
        spent.compare_exchange(self.before, self.after.get(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl PartialEq for Draw {
    fn eq(&self, other: &Self) -> bool {
        self.before == other.before
    }
}

impl Eq for Draw {}

impl Hash for Draw {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.before.hash(state);
    }
}

/// Where limiters find what is spent: in the question itself. Where it lies is known to who asks, who looks a subject up
/// once, whatever the number of its limits.
struct Ledger;

impl StateStore for Ledger {
    type Key = Draw;

    fn measure_and_replace<T, F, E>(&self, draw: &Draw, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (answer, after) = decide(NonZeroU64::new(draw.before).map(|nanos| nanos.get().into()))?;
        draw.after.set(after.into());
        Ok(answer)
    }
}
