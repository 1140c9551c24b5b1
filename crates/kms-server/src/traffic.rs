//! Traffic control: how often who may call what, by the groups and limits of a profile.

mod budgets;
mod profile;
pub(crate) mod reload;
#[cfg(test)]
mod tests;
pub(crate) mod told;

use std::{
    collections::HashMap,
    hash::Hash,
    num::NonZeroU32,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, mapref::one::Ref};
use kms_core::{
    error::{Throttled, Window},
    identity::{AccountId, Caller, Permissions, UserId},
    operation::OperationName,
};
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;

pub(crate) use budgets::{BudgetClock, Remaining};
use budgets::{Budgets, Exhausted, Limiters, Limits};
pub use profile::DEW;
pub(crate) use profile::{Per, Profile};
pub(crate) use reload::ProfileSource;

/// In how many parts the budgets of users lie: tidying up holds up the calls of one part at a time.
const PARTS: usize = 256;
/// What a tester's refusal tells of an operation that no user has a limit for.
const TEST_LIMIT: (u32, Window) = (1, Window::Second);
/// How long it tells to wait.
const TEST_WAIT: Duration = Duration::from_millis(50);

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

/// What the configuration says of traffic control.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficConfig {
    /// `enforce`, `report` or `off`.
    #[serde(default)]
    pub mode: TrafficMode,
    /// The file of limits and quotas; absent: those that are built in.
    pub profile: Option<PathBuf>,
    /// How many custom keys those that are built in allow. Not in the file: dev mode's.
    #[serde(skip)]
    pub custom_keys: Option<u64>,
}

/// All limits, and what is spent of them.
pub(crate) struct TrafficControl {
    mode: TrafficMode,
    /// Where the profile comes from.
    source: ProfileSource,
    limiters: Mutex<Limiters>,
    table: RwLock<Arc<Table>>,
    /// Of users who have called lately. Only who is authenticated has budgets, so the identity file bounds them.
    users: DashMap<UserId, Budgets>,
    /// Of their accounts.
    accounts: DashMap<AccountId, Budgets>,
    /// By operation: how many of its next calls a tester has refused.
    refused: Box<[AtomicU32]>,
}

/// What a profile makes of the limits, with the budgets that there is one of.
struct Table {
    usual: OfAccount,
    /// Accounts that have limits of their own.
    own: HashMap<AccountId, OfAccount>,
    /// Of all who call.
    global: Budgets,
    /// Of all calls, before it is known who calls.
    door: Budgets,
}

/// The limits of an account and of its users.
struct OfAccount {
    user: Arc<Limits>,
    account: Arc<Limits>,
}

/// What the control says of a call that passes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Passage {
    /// It was over a limit, but the mode only reports that.
    pub over_limit: bool,
    /// What is left of the scarcest budget of its user or account.
    pub remaining: Option<Remaining>,
}

impl Table {
    fn new(profile: &Profile, limiters: &mut Limiters, old: Option<&Self>) -> Self {
        let mut of = |account| OfAccount {
            user: Limits::new(profile.pools(Per::User, account), limiters),
            account: Limits::new(profile.pools(Per::Account, account), limiters),
        };
        let usual = of(None);
        let own = profile.limited_accounts().map(|account| (account.clone(), of(Some(account)))).collect();
        let renewed = |old: Option<&Budgets>, limits: Arc<Limits>| match old {
            Some(old) => old.renewed(limits).all_opened(),
            None => Budgets::new(limits).all_opened(),
        };
        let global = Limits::new(profile.pools(Per::Global, None), limiters);
        let door = Limits::single("before-authentication", profile.before_authentication, limiters);
        Self {
            usual,
            own,
            global: renewed(old.map(|old| &old.global), global),
            door: renewed(old.map(|old| &old.door), door),
        }
    }

    fn of(&self, account: &AccountId) -> &OfAccount {
        self.own.get(account).unwrap_or(&self.usual)
    }
}

impl TrafficControl {
    /// Fresh budgets, by what `profile` from `source` says.
    pub(crate) fn new(
        mode: TrafficMode,
        source: ProfileSource,
        profile: &Profile,
        clock: BudgetClock,
    ) -> Self {
        let mut limiters = Limiters::new(clock);
        let table = Table::new(profile, &mut limiters, None);
        Self {
            mode,
            source,
            limiters: Mutex::new(limiters),
            table: RwLock::new(Arc::new(table)),
            users: DashMap::with_shard_amount(PARTS),
            accounts: DashMap::with_shard_amount(PARTS),
            refused: OperationName::ALL.iter().map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Lets this profile hold from the next call on. What is spent of a limit that stays as it is stays spent.
    pub(crate) fn replace(&self, profile: &Profile) {
        // Held to the end: of two who replace it, one comes after the other.
        let mut limiters = self.limiters.lock();
        let table = Table::new(profile, &mut limiters, Some(&self.table()));
        *self.table.write() = Arc::new(table);
    }

    /// Lets one more call in, of whoever it may be, or says how long to wait.
    pub(crate) fn enter(&self) -> Result<Passage, Throttled> {
        if self.mode == TrafficMode::Off {
            return Ok(Passage::default());
        }
        match self.table.read().door.take(0, NonZeroU32::MIN) {
            Ok(_) => Ok(Passage::default()),
            Err(exhausted) => self.over("server".to_owned(), exhausted),
        }
    }

    /// Takes `calls` calls at once from the budgets of the caller, of his account and of all; or none, and says how long
    /// to wait.
    ///
    /// A refusal costs nothing: what one budget has given is given back when another has nothing. A user over his own
    /// limit does not even touch what belongs to others.
    pub(crate) fn check(
        &self,
        caller: &Caller,
        operation: OperationName,
        calls: NonZeroU32,
    ) -> Result<Passage, Throttled> {
        let table = self.table.read();
        let limits = table.of(&caller.account);
        self.refuse_for_test(caller, operation, &limits.user)?;
        // DEW has no operators, and so no limits of theirs. Whoever may only have checkpoints cosigned is no operator of
        // this service, but another one's log.
        let is_free = caller.is_operator() && !matches!(caller.permissions, Permissions::Cosign);
        if self.mode == TrafficMode::Off || is_free {
            return Ok(Passage::default());
        }
        let user = budgets(&self.users, &caller.user, &limits.user, operation);
        let account = budgets(&self.accounts, &caller.account, &limits.account, operation);
        let holders = [user.as_deref(), account.as_deref(), Some(&table.global)];
        let wanted = || {
            let of = |holder: &'_ Budgets| holder.limits.of(operation);
            holders.iter().flatten().flat_map(move |holder| of(holder).map(move |place| (*holder, place)))
        };
        let mut scarcest: Option<(u32, &Budgets, usize)> = None;
        for (taken, (holder, place)) in wanted().enumerate() {
            match holder.take(place, calls) {
                Ok(left) => {
                    let is_scarcer = scarcest.is_none_or(|(other, ..)| left < other);
                    if is_scarcer && holder.may_be_told(place) {
                        scarcest = Some((left, holder, place));
                    }
                }
                Err(exhausted) => {
                    wanted().take(taken).for_each(|(holder, place)| holder.give_back(place, calls));
                    return self.over(subject(exhausted.budget.per, caller), exhausted);
                }
            }
        }
        let remaining = scarcest.map(|(left, holder, place)| holder.told(place, left));
        Ok(Passage { over_limit: false, remaining })
    }

    /// Refuses the next so many calls of an operation, whoever makes them and whatever the mode; 0: none any more.
    pub(crate) fn refuse_next(&self, operation: OperationName, calls: u32) {
        self.refused[operation as usize].store(calls, Ordering::Relaxed);
    }

    /// What is left of all budgets of this user and his account. Nobody is told what is left for all.
    pub(crate) fn remaining(&self, account: &AccountId, user: &UserId) -> Vec<Remaining> {
        if self.mode == TrafficMode::Off {
            return Vec::new();
        }
        let table = self.table();
        let limits = table.of(account);
        let of_user = kept(&self.users, user, &limits.user);
        let of_account = kept(&self.accounts, account, &limits.account);
        of_user.all_remaining().chain(of_account.all_remaining()).collect()
    }

    /// Forgets users and accounts whose budgets are full again. Off the path of calls.
    pub(crate) fn forget_idle(&self) {
        self.users.retain(|_, budgets| !budgets.are_full());
        self.users.shrink_to_fit();
        self.accounts.retain(|_, budgets| !budgets.are_full());
        self.accounts.shrink_to_fit();
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().clone()
    }

    fn over(&self, subject: String, exhausted: Exhausted) -> Result<Passage, Throttled> {
        let Exhausted { budget, wait } = exhausted;
        if self.mode == TrafficMode::Report {
            return Ok(Passage { over_limit: true, remaining: Some(budget).filter(Remaining::may_be_told) });
        }
        let (limit, window) = (budget.figure.calls.get(), budget.figure.window);
        Err(Throttled { subject, group: budget.group, limit, window, retry_after: wait })
    }

    fn refuse_for_test(
        &self,
        caller: &Caller,
        operation: OperationName,
        limits: &Limits,
    ) -> Result<(), Throttled> {
        let left = &self.refused[operation as usize];
        if left.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let one_less = |left: u32| left.checked_sub(1);
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return Ok(());
        }
        let (group, (limit, window)) = limits.first(operation).map_or_else(
            || ("test".into(), TEST_LIMIT),
            |(group, figure)| (group.clone(), (figure.calls.get(), figure.window)),
        );
        let subject = subject(Per::User, caller);
        Err(Throttled { subject, group, limit, window, retry_after: TEST_WAIT })
    }
}

/// The budgets of one who calls, if he has any that the operation draws on. As long as they are held, they are not
/// forgotten, and nothing that is taken of them is lost.
fn budgets<'a, K: Eq + Hash + Clone>(
    map: &'a DashMap<K, Budgets>,
    key: &K,
    limits: &Arc<Limits>,
    operation: OperationName,
) -> Option<Ref<'a, K, Budgets>> {
    if limits.of(operation).is_empty() {
        return None;
    }
    let current = |budgets: &Budgets| Arc::ptr_eq(&budgets.limits, limits);
    if let Some(found) = map.get(key).filter(|found| current(found) && found.has_opened(operation)) {
        return Some(found);
    }
    let mut entry = map.entry(key.clone()).or_insert_with(|| Budgets::new(limits.clone()));
    if !current(&entry) {
        // The first call since the profile was replaced.
        *entry = entry.renewed(limits.clone());
    }
    entry.open(operation);
    Some(entry.downgrade())
}

/// The same of whoever calls or not, to look at.
fn kept<K: Eq + Hash>(map: &DashMap<K, Budgets>, key: &K, limits: &Arc<Limits>) -> Budgets {
    map.get(key).map_or_else(|| Budgets::new(limits.clone()), |found| found.renewed(limits.clone()))
}

fn subject(per: Per, caller: &Caller) -> String {
    match per {
        Per::User => format!("user:{}", caller.user),
        Per::Account => format!("account:{}", caller.account),
        Per::Global => "global".to_owned(),
    }
}
