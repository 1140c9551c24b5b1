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
use smallvec::SmallVec;

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

/// What one subject has spent.
pub(super) struct Budgets {
    pub(super) limits: Arc<Limits>,
    /// By place, of the limits that were [opened](Self::open): most subjects call few operations. It lies here and not
    /// elsewhere because a check reads nothing else of a subject: with a million of them, each further place in memory is
    /// what costs.
    spent: SmallVec<[Spent; 2]>,
}

/// What is spent of one limit.
struct Spent {
    /// The limit's place.
    place: usize,
    /// The time until which it is spent, in its limiter's nanoseconds; 0: never used.
    until: AtomicU64,
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
    /// Full ones, none of which is opened.
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, spent: SmallVec::new() }
    }

    /// The same under other limits: what was spent of a limit that stays as it is stays spent, the others are full.
    pub(super) fn renewed(&self, limits: Arc<Limits>) -> Self {
        let mut renewed = Self::new(limits);
        for Spent { place, until } in &self.spent {
            let old = &self.limits.list[*place];
            let is_same = |new: &PoolLimit| new.pool == old.pool && Arc::ptr_eq(&new.limiter, &old.limiter);
            if let Some(place) = renewed.limits.list.iter().position(is_same) {
                renewed.insert(place, until.load(Ordering::Acquire));
            }
        }
        renewed
    }

    /// Whether those that the operation draws on are opened.
    pub(super) fn has_opened(&self, operation: OperationName) -> bool {
        self.limits.of(operation).all(|place| self.spent(place).is_some())
    }

    /// Opens those that the operation draws on.
    pub(super) fn open(&mut self, operation: OperationName) {
        self.limits.of(operation).for_each(|place| self.insert(place, 0));
    }

    /// These, with all of them opened.
    pub(super) fn all_opened(mut self) -> Self {
        (0..self.limits.list.len()).for_each(|place| self.insert(place, 0));
        self
    }

    /// Opens one, of which so much is spent, if it is not opened.
    fn insert(&mut self, place: usize, until: u64) {
        if let Err(at) = self.find(place) {
            self.spent.insert(at, Spent { place, until: AtomicU64::new(until) });
        }
    }

    fn find(&self, place: usize) -> Result<usize, usize> {
        self.spent.binary_search_by_key(&place, |spent| spent.place)
    }

    fn spent(&self, place: usize) -> Option<&AtomicU64> {
        self.find(place).ok().map(|at| &self.spent[at].until)
    }

    /// Whether nothing is spent any more.
    pub(super) fn are_full(&self) -> bool {
        let mut used = self.spent.iter().filter(|spent| spent.until.load(Ordering::Acquire) != 0);
        used.all(|spent| {
            let remaining = self.remaining(spent.place);
            remaining.left >= remaining.figure.burst.get()
        })
    }

    /// Takes so many calls from one budget, or none; answers how many are left. One that is not opened has none.
    pub(super) fn take(&self, place: usize, calls: NonZeroU32) -> Result<u32, Exhausted> {
        let limiter = &self.limits.list[place].limiter;
        let exhausted = |wait| Exhausted { budget: self.told(place, 0), wait };
        let Some(spent) = self.spent(place) else { return Err(exhausted(Duration::MAX)) };
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
        if let Some(spent) = self.spent(place) {
            spent.fetch_sub(taken, Ordering::AcqRel);
        }
    }

    /// What is left of one budget.
    pub(super) fn remaining(&self, place: usize) -> Remaining {
        let full = AtomicU64::new(0);
        let draw = Draw::new(self.spent(place).unwrap_or(&full));
        let answer = self.limits.list[place].limiter.check_key(&draw);
        self.told(place, answer.map_or(0, |snapshot| snapshot.remaining_burst_capacity() + 1))
    }

    /// What is left of all of them.
    pub(super) fn all_remaining(&self) -> impl Iterator<Item = Remaining> {
        (0..self.limits.list.len()).map(|place| self.remaining(place))
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
