//! The sums of one account, by month.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
};

use kms_core::Timestamp;

use super::{Calls, KeyKind, Month};

/// The kinds of keys.
const KINDS: usize = KeyKind::ALL.len();

/// How many keys of a kind there are more at the end of a month than at its beginning, and how long these lived in it
/// more than not at all, in microseconds: as if each that began in it lived to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) keys: i64,
    pub(super) micros: i128,
}

/// What was counted in one month.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) calls: BTreeMap<&'static str, Calls>,
    pub(super) changes: [Change; KINDS],
}

/// What was counted of an account. Keys that live through a month leave no trace in it: their time follows from the
/// months before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) months: BTreeMap<Month, Sums>,
}

impl Account {
    pub(super) fn month(&mut self, month: Month) -> &mut Sums {
        self.months.entry(month).or_default()
    }

    /// So many keys of a kind more from this moment on.
    pub(super) fn change(&mut self, kind: KeyKind, time: Timestamp, by: i64) {
        let month = Month::of(time);
        let change = &mut self.month(month).changes[kind as usize];
        change.keys += by;
        change.micros += i128::from(by) * span(&(time..month.end()));
    }

    /// What each of `months` tells, up to the moment `until`, which no change comes behind.
    pub(super) fn report(
        &self,
        until: Timestamp,
        months: RangeInclusive<Month>,
    ) -> impl Iterator<Item = (Month, BTreeMap<KeyKind, u64>, BTreeMap<&'static str, Calls>)> {
        let first = self.months.keys().next().copied().unwrap_or(Month::LAST);
        let last = Month::of(until);
        let all = std::iter::successors(Some(first), |month| Some(month.next()));
        let mut living = [0_i64; KINDS];
        let each = all.take_while(move |month| *month <= last).map(move |month| {
            let sums = self.months.get(&month);
            let changes = sums.map(|sums| sums.changes).unwrap_or_default();
            let keys = lived(&mut living, changes, month, until);
            (month, keys, sums.map(|sums| sums.calls.clone()).unwrap_or_default())
        });
        each.filter(move |(month, keys, calls)| {
            months.contains(month) && !(keys.is_empty() && calls.is_empty())
        })
    }
}

/// How long the keys of each kind lived in `month` until the moment `until`; `living` are those at its beginning, and
/// after this those at its end.
fn lived(
    living: &mut [i64; KINDS],
    changes: [Change; KINDS],
    month: Month,
    until: Timestamp,
) -> BTreeMap<KeyKind, u64> {
    let whole = span(&(month.start()..month.end()));
    let ahead = span(&(until.min(month.end())..month.end()));
    let each = KeyKind::ALL.into_iter().zip(living).zip(changes).map(|((kind, living), change)| {
        let through = i128::from(*living) * whole + change.micros;
        *living += change.keys;
        (kind, u64::try_from(through - i128::from(*living) * ahead).unwrap_or_default())
    });
    each.filter(|(_, micros)| *micros > 0).collect()
}

/// In microseconds.
fn span(moments: &Range<Timestamp>) -> i128 {
    i128::from(moments.end.as_micros()) - i128::from(moments.start.as_micros())
}
