//! The uses of key versions that seal in the HSM: handed out from blocks that the store has counted.
//!
//! A use is counted in the store before it is made, whole blocks at a time. What is reserved and not
//! used when the process ends, or when a version is forgotten here, is forfeited.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_channel::oneshot;

use crate::{error::Error, key::MaterialId};

/// How many versions are remembered; each takes about 100 bytes.
const REMEMBERED_VERSIONS: usize = 65_536;

/// What is left of the reserved blocks, by key version.
#[derive(Default)]
pub(crate) struct Uses {
    versions: Mutex<HashMap<VersionId, Version>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct VersionId(MaterialId, u32);

#[derive(Default)]
struct Version {
    /// Uses that are reserved in the store and not handed out.
    left: u64,
    /// What the store's count was after the last reservation: it never falls.
    reserved: u64,
    /// Who waits for the reservation that is under way; `None`: none is.
    waiting: Option<Vec<oneshot::Sender<Error>>>,
}

/// What a caller that wants to seal gets.
pub(crate) enum Use<'a> {
    /// One use: counted, and his alone.
    Granted,
    /// Another caller is reserving: its error, or no value when it is time to look again.
    Wait(oneshot::Receiver<Error>),
    /// Nothing is left: this caller reserves for all.
    Reserve(Reservation<'a>),
}

impl Uses {
    /// Takes one use of a version.
    pub(crate) fn take(&self, material: MaterialId, version: u32) -> Use<'_> {
        let id = VersionId(material, version);
        let mut versions = self.versions();
        if versions.len() >= REMEMBERED_VERSIONS && !versions.contains_key(&id) {
            // Rare, and it costs each version one block: simpler than an order of last use.
            versions.retain(|_, version| version.waiting.is_some());
        }
        let known = versions.entry(id).or_default();
        if known.left > 0 {
            known.left -= 1;
            return Use::Granted;
        }
        if let Some(waiting) = &mut known.waiting {
            let (sender, receiver) = oneshot::channel();
            waiting.push(sender);
            return Use::Wait(receiver);
        }
        known.waiting = Some(Vec::new());
        Use::Reserve(Reservation { uses: self, id, reserved: known.reserved, end: End::LookAgain })
    }

    fn versions(&self) -> MutexGuard<'_, HashMap<VersionId, Version>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to reserve uses of one version: one caller has it at a time. However it ends, also by
/// being dropped half-way, those who wait go on.
pub(crate) struct Reservation<'a> {
    uses: &'a Uses,
    id: VersionId,
    reserved: u64,
    end: End,
}

enum End {
    LookAgain,
    Granted { block: u64, reserved: u64 },
    Failed(Error),
    Retired,
}

impl Reservation<'_> {
    /// Which version it is of.
    pub(crate) fn version(&self) -> u32 {
        self.id.1
    }

    /// What the store must have counted at least.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved
    }

    /// `block` uses, at least 1, are reserved, after which the store counts `reserved`. The first is the reserving caller's.
    pub(crate) fn grant(mut self, block: u64, reserved: u64) {
        self.end = End::Granted { block, reserved };
    }

    /// Those who wait are refused for the same reason: each trying in vain would help nobody.
    pub(crate) fn fail(mut self, error: Error) {
        self.end = End::Failed(error);
    }

    /// The version seals no more, or another service knows more of it.
    pub(crate) fn retire(mut self) {
        self.end = End::Retired;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut versions = self.uses.versions();
        let Some(version) = versions.get_mut(&self.id) else { return };
        // Dropping the senders tells those who wait to look again.
        let waiting = version.waiting.take().unwrap_or_default();
        match mem::replace(&mut self.end, End::LookAgain) {
            End::LookAgain => {}
            End::Granted { block, reserved } => {
                version.left += block.saturating_sub(1);
                version.reserved = reserved;
            }
            End::Failed(error) => waiting.into_iter().for_each(|one| drop(one.send(error.clone()))),
            End::Retired => drop(versions.remove(&self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use uuid::Uuid;

    use super::*;
    use crate::key::KeyId;

    fn material(number: u128) -> MaterialId {
        MaterialId::of(KeyId::from_uuid(Uuid::from_u128(number)))
    }

    fn reserve(uses: &Uses) -> Reservation<'_> {
        let Use::Reserve(reservation) = uses.take(material(1), 1) else { panic!("nothing is left") };
        reservation
    }

    #[test]
    fn a_block_grants_as_many_uses_as_it_has() {
        let uses = Uses::default();
        reserve(&uses).grant(3, 3); // the first is the reserving caller's
        let granted = (0..2).filter(|_| matches!(uses.take(material(1), 1), Use::Granted)).count();
        assert_eq!(granted, 2);
        assert_eq!(reserve(&uses).reserved(), 3);
        assert!(matches!(uses.take(material(1), 2), Use::Reserve(_)), "another version has uses of its own");
    }

    #[test]
    fn one_reserves_and_the_others_hear_how_it_ended() {
        let uses = Uses::default();
        let wait = || match uses.take(material(1), 1) {
            Use::Wait(receiver) => receiver,
            _ => panic!("another one is reserving"),
        };
        let reservation = reserve(&uses);
        let mut waiting = wait();
        reservation.fail(Error::Contention);
        assert_eq!(waiting.try_recv(), Ok(Some(Error::Contention)));
        for end in [End::LookAgain, End::Granted { block: 1, reserved: 1 }, End::Retired] {
            let mut reservation = reserve(&uses);
            let mut waiting = wait();
            assert_eq!(waiting.try_recv(), Ok(None));
            reservation.end = end;
            drop(reservation);
            waiting.try_recv().expect_err("looks again");
        }
    }

    #[test]
    fn threads_never_get_more_than_was_reserved() {
        const BLOCK: u64 = 7;
        let (uses, reserved, granted) = (Uses::default(), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        match uses.take(material(1), 1) {
                            Use::Granted => drop(granted.fetch_add(1, Ordering::SeqCst)),
                            Use::Wait(_) => {}
                            Use::Reserve(reservation) => {
                                let before = reserved.fetch_add(BLOCK, Ordering::SeqCst);
                                reservation.grant(BLOCK, before + BLOCK);
                                granted.fetch_add(1, Ordering::SeqCst);
                            }
                        }
                    }
                });
            }
        });
        let left = uses.versions()[&VersionId(material(1), 1)].left;
        let (reserved, granted) = (reserved.into_inner(), granted.into_inner());
        assert_eq!(granted + left, reserved);
        assert!(left < BLOCK, "two reserved at once");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_reservation_under_way_is_not_forgotten() {
        let uses = Uses::default();
        let under_way = reserve(&uses);
        for number in 2..(REMEMBERED_VERSIONS as u128 + 2) {
            match uses.take(material(number), 1) {
                Use::Reserve(reservation) => reservation.grant(2, 2),
                _ => panic!("a new version"),
            }
        }
        assert!(uses.versions().len() <= REMEMBERED_VERSIONS);
        assert!(matches!(uses.take(material(1), 1), Use::Wait(_)));
        drop(under_way);
    }
}
