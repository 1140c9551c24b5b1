//! What billing would need, counted from the log alone: for how long keys of each kind lived, and which calls were made,
//! for each account and month.

mod calendar;
mod counting;
mod lives;
mod snapshot;
mod sums;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

use kms_core::{
    Phase, RequestId, Verdict,
    key::{KeyClass, KeyId, KeyOrigin, KeySpec},
    operation::{OperationClass, OperationName},
};

use crate::line::RecordLine;
use lives::{Life, Lives, Owner};
use sums::Account;

pub use calendar::Month;
pub use counting::{MeteringError, count};
/// The moments that a meter counts by.
pub use kms_core::Timestamp;
pub use snapshot::SnapshotError;

/// How keys differ in what they would cost.
// DEW: custom keys cost by the hour from the moment at which they are made or imported; default keys are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// The key of a service, which costs nothing.
    Default,
    /// Made by the HSM; seals, or authenticates messages.
    Symmetric,
    /// Made by the HSM; a pair.
    Asymmetric,
    /// Its material was, or is to be, imported.
    Imported,
    /// A custom key whose records, by an earlier build, do not tell its kind.
    Unknown,
}

impl KeyKind {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] =
        [Self::Default, Self::Symmetric, Self::Asymmetric, Self::Imported, Self::Unknown];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Symmetric => "custom-symmetric",
            Self::Asymmetric => "custom-asymmetric",
            Self::Imported => "custom-imported",
            Self::Unknown => "custom-unknown",
        }
    }

    fn made_by(line: &RecordLine<'_>) -> Self {
        match (line.operation, line.key_origin, line.key_spec.map(KeySpec::class)) {
            (OperationName::CreateDefaultKey, ..) => Self::Default,
            (_, Some(KeyOrigin::External), _) => Self::Imported,
            (_, _, Some(KeyClass::Symmetric | KeyClass::Mac)) => Self::Symmetric,
            (_, _, Some(_)) => Self::Asymmetric,
            (_, _, None) => Self::Unknown,
        }
    }
}

/// Calls of one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Those that did what was asked.
    pub answered: u64,
    /// Those that were refused or failed.
    pub refused: u64,
}

/// What an account did in a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metered {
    /// The account; `None`: calls whose caller is not known.
    pub account: Option<Arc<str>>,
    /// The month, in UTC.
    pub month: Month,
    /// How long its keys of each kind lived in that month, all of them together, in microseconds.
    pub keys: BTreeMap<KeyKind, u64>,
    /// Its calls, by the names of the operations.
    pub calls: BTreeMap<&'static str, Calls>,
}

/// An account and a month, in the order of reports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The account; `None`: calls whose caller is not known.
    pub account: Option<Arc<str>>,
    /// The month.
    pub month: Month,
}

/// What a report is to tell.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The months.
    pub months: RangeInclusive<Month>,
    /// Only this account.
    pub account: Option<Arc<str>>,
    /// Keys that live are counted up to this moment, or to that of the latest record if that is later.
    pub until: Timestamp,
    /// Only what follows this.
    pub after: Option<Place>,
    /// The most accounts and months to tell of.
    pub limit: usize,
}

/// A change of a key that is under way.
#[derive(Debug, PartialEq, Eq)]
struct Opened {
    time: Timestamp,
    key: Option<KeyId>,
    /// Of a key that is made.
    made: Option<Arc<Owner>>,
}

/// Counts records in the order of the log. Its memory is bounded by the keys that are not destroyed, some 36 bytes each,
/// the accounts and the months.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// The place behind the last line that was counted.
    next: u64,
    /// Where counting began, if not at the log's beginning.
    begin: Option<u64>,
    /// The time of the first record that was counted, if others came before it; or that of the latest restoration.
    whole_since: Option<Timestamp>,
    latest: Option<Timestamp>,
    keys: Lives,
    /// Since when the deletion of these is scheduled.
    ended: HashMap<KeyId, Timestamp>,
    opened: HashMap<RequestId, Opened>,
    accounts: BTreeMap<Option<Arc<str>>, Account>,
    owners: BTreeSet<Arc<Owner>>,
}

impl Meter {
    /// The place of the next line to count.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Since when the figures are whole; `None`: from the beginning. Keys that were made before that moment may be
    /// missing: the lines that tell of them are not in the log any more, or they came with a backup.
    pub const fn whole_since(&self) -> Option<Timestamp> {
        self.whole_since
    }

    /// The time of the latest record that was counted.
    pub const fn latest(&self) -> Option<Timestamp> {
        self.latest
    }

    /// How many keys are not destroyed.
    pub fn keys(&self) -> u64 {
        self.keys.len()
    }

    /// Counts one record.
    pub fn take(&mut self, line: &RecordLine<'_>) {
        self.next = line.seq + 1;
        self.latest = self.latest.max(Some(line.time));
        if self.begin.is_some() && self.whole_since.is_none() {
            self.whole_since = Some(line.time);
        }
        self.take_call(line);
        self.take_change(line);
    }

    fn take_call(&mut self, line: &RecordLine<'_>) {
        if !is_call(line) {
            return;
        }
        let account = line.account.as_deref().map(|name| self.account(name));
        let month = self.accounts.entry(account).or_default().month(Month::of(line.time));
        let calls = month.calls.entry(line.operation.info().name).or_default();
        let counted =
            if line.verdict == Verdict::Succeeded { &mut calls.answered } else { &mut calls.refused };
        *counted = counted.saturating_add(line.count);
    }

    fn take_change(&mut self, line: &RecordLine<'_>) {
        use OperationName::{
            CancelKeyDeletion, CreateDefaultKey, CreateKey, DestroyKey, ReplicateKey, RestoreBackup,
            ScheduleKeyDeletion,
        };
        let makes = matches!(line.operation, CreateKey | CreateDefaultKey | ReplicateKey);
        let ends = matches!(line.operation, ScheduleKeyDeletion | CancelKeyDeletion | DestroyKey);
        if !makes && !ends {
            if line.operation == RestoreBackup && is_done(line) {
                self.whole_since = self.whole_since.max(Some(line.time));
            }
            return;
        }
        if line.phase == Phase::Intent {
            let opened = self.opening(line, makes);
            self.opened.insert(line.request_id, opened);
            return;
        }
        // What a crash cut off was done when its intent says, and its intent says by whom.
        let opened = self.opened.remove(&line.request_id).unwrap_or_else(|| self.opening(line, makes));
        if let Some(key) = line.key_id.or(opened.key).filter(|_| is_done(line)) {
            match (line.operation, opened.made) {
                (ScheduleKeyDeletion, _) => self.end(key, opened.time),
                (CancelKeyDeletion, _) => self.revive(key),
                (DestroyKey, _) => self.destroy(key, opened.time),
                (_, Some(owner)) => self.begin(key, &owner, opened.time),
                (_, None) => {}
            }
        }
    }

    fn opening(&mut self, line: &RecordLine<'_>, makes: bool) -> Opened {
        let account = line.account.as_deref().filter(|_| makes);
        let made = account.map(|account| self.owner(account, KeyKind::made_by(line)));
        Opened { time: line.time, key: line.key_id, made }
    }

    fn begin(&mut self, key: KeyId, owner: &Arc<Owner>, made: Timestamp) {
        if self.keys.insert(Life { key, owner: owner.clone(), made }) {
            self.change(owner, made, 1);
        }
    }

    /// So many keys of an owner more from this moment on.
    fn change(&mut self, owner: &Owner, time: Timestamp, by: i64) {
        self.accounts.entry(Some(owner.account.clone())).or_default().change(owner.kind, time, by);
    }

    // DEW: a disabled key costs, one that waits for its deletion does not, unless that is cancelled.
    fn end(&mut self, key: KeyId, time: Timestamp) {
        let Some(life) = self.keys.get(key).filter(|_| !self.ended.contains_key(&key)) else { return };
        let (owner, time) = (life.owner.clone(), time.max(life.made));
        self.ended.insert(key, time);
        self.change(&owner, time, -1);
    }

    /// It lived all the time.
    fn revive(&mut self, key: KeyId) {
        let owner = self.keys.get(key).map(|life| life.owner.clone());
        if let Some((owner, time)) = owner.zip(self.ended.remove(&key)) {
            self.change(&owner, time, 1);
        }
    }

    fn destroy(&mut self, key: KeyId, time: Timestamp) {
        self.end(key, time);
        self.keys.remove(key);
        self.ended.remove(&key);
    }

    /// The account's name, held once.
    fn account(&self, name: &str) -> Arc<str> {
        let name: Arc<str> = name.into();
        match self.accounts.get_key_value(&Some(name.clone())) {
            Some((Some(known), _)) => known.clone(),
            _ => name,
        }
    }

    /// The account and the kind, held once.
    fn owner(&mut self, account: &str, kind: KeyKind) -> Arc<Owner> {
        let owner = Owner { account: self.account(account), kind };
        if let Some(known) = self.owners.get(&owner) {
            return known.clone();
        }
        let owner = Arc::new(owner);
        self.owners.insert(owner.clone());
        owner
    }

    /// What was counted, by account and month. Accounts and months without anything are left out.
    pub fn report(&self, asked: &Asked) -> Vec<Metered> {
        let until = self.latest.map_or(asked.until, |latest| latest.max(asked.until));
        let (start, end) = match (&asked.account, &asked.after) {
            (Some(account), _) => {
                (Bound::Included(Some(account.clone())), Bound::Included(Some(account.clone())))
            }
            (None, Some(Place { account, .. })) => (Bound::Included(account.clone()), Bound::Unbounded),
            (None, None) => (Bound::Unbounded, Bound::Unbounded),
        };
        let all = self.accounts.range((start, end)).flat_map(|(account, sums)| {
            let months = sums.report(until, asked.months.clone());
            months.map(move |(month, keys, calls)| Metered { account: account.clone(), month, keys, calls })
        });
        let follows = |one: &Metered| match &asked.after {
            Some(after) => (&one.account, one.month) > (&after.account, after.month),
            None => true,
        };
        all.filter(follows).take(asked.limit).collect()
    }
}

/// Whether a record stands for calls that were made, and answered by it.
fn is_call(line: &RecordLine<'_>) -> bool {
    let answers = matches!(line.phase, Phase::Complete | Phase::Outcome);
    // The service has no address.
    let is_foreign = line.source.is_some();
    // The data keys of a batch are calls, and the batch is none; other parts are work of the service, and so is the
    // making of a default key.
    let is_part = line.request_id.get_version_num() == 8;
    let is_work = line.operation == OperationName::CreateDefaultKey
        || (is_part && line.operation.info().class == OperationClass::Change);
    let is_batch = line.operation == OperationName::GenerateDataKeys && line.verdict == Verdict::Succeeded;
    answers && is_foreign && !is_work && !is_batch
}

/// Whether a change was made, and is no step towards it or one that was found unnecessary.
fn is_done(line: &RecordLine<'_>) -> bool {
    matches!(line.phase, Phase::Outcome | Phase::Recovery)
        && line.verdict == Verdict::Succeeded
        && line.reason.is_none()
}

#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod tests;
