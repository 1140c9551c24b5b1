//! How a call that seals gets its use of a version that seals in the HSM.

use std::sync::Arc;

use crate::{
    directory::tampered,
    draft::Draft,
    error::Error,
    key::{KeyRecord, KeyVersion, Scheme},
    operation::OperationName,
    ops::{ReserveKeyUses, ReservedUses, RotateKey, RotationCause},
    service::Scope,
    uses::{Reservation, Use},
};

/// How many changes one call makes for its use: more are needed only if others take away what it gets.
const MAX_PARTS: u32 = 16;

impl Scope<'_> {
    /// Counts one use of the current version of `key` before it is made, where that is needed. Answers
    /// the key as it is then: its current version is the one to use. `None`: that takes a change, and
    /// nobody drives this call to its end.
    pub(crate) async fn counted(
        &self,
        key: Arc<KeyRecord>,
        draft: &mut Draft,
    ) -> Result<Option<Arc<KeyRecord>>, Error> {
        self.counted_for(key, draft, 0).await
    }

    /// The same for the data key with this number, counted from 0, of a call that makes several.
    pub(crate) async fn counted_for(
        &self,
        key: Arc<KeyRecord>,
        draft: &mut Draft,
        number: u32,
    ) -> Result<Option<Arc<KeyRecord>>, Error> {
        match in_hsm(&key) {
            None => Ok(Some(key)),
            // A dry run spends nothing.
            Some(_) if self.call.dry_run => Ok(Some(key)),
            // Boxed, because it runs changes inside of a preparation.
            Some(_) => Box::pin(self.take_use(key, draft, number * MAX_PARTS)).await,
        }
    }

    async fn take_use(
        &self,
        mut key: Arc<KeyRecord>,
        draft: &mut Draft,
        parts_before: u32,
    ) -> Result<Option<Arc<KeyRecord>>, Error> {
        let mut parts = 0;
        // A rotation may lead to a version of the other scheme.
        while let Some(version) = in_hsm(&key) {
            match self.service.uses().take(key.material, version.number) {
                Use::Granted => return Ok(Some(key)),
                Use::Wait(ended) => {
                    if let Ok(error) = ended.await {
                        return Err(error);
                    }
                }
                Use::Reserve(_) if !self.driven => return Ok(None),
                Use::Reserve(_) if parts == MAX_PARTS => return Err(Error::Contention),
                Use::Reserve(reservation) => {
                    parts += 1;
                    key = self.usable_key(&key, draft).await?;
                    if self.replenish(&key, reservation, parts_before + parts).await? {
                        return Ok(Some(key));
                    }
                }
            }
            key = self.usable_key(&key, draft).await?;
        }
        Ok(Some(key))
    }

    /// The same key as it is now.
    async fn usable_key(&self, key: &KeyRecord, draft: &mut Draft) -> Result<Arc<KeyRecord>, Error> {
        // Admitted it was, by whatever name the call has for it.
        let key = self.existing(key.id).await?.value;
        draft.key(key.id, None);
        key.check(OperationName::ReserveKeyUses, self.now)?;
        Ok(key)
    }

    /// Reserves uses of the current version, of which the caller gets one: `true`. Or makes the version
    /// that follows, or finds that there is one.
    async fn replenish(
        &self,
        key: &KeyRecord,
        reservation: Reservation<'_>,
        part: u32,
    ) -> Result<bool, Error> {
        let Some(version) = in_hsm(key).filter(|version| version.number == reservation.version()) else {
            reservation.retire();
            return Ok(false);
        };
        let ended = self.reserve_or_rotate(key, version, &reservation, part).await;
        match &ended {
            Ok(Some(reserved)) => reservation.grant(reserved.block, reserved.reserved),
            Ok(None) => reservation.retire(),
            Err(error) => reservation.fail(error.clone()),
        }
        ended.map(|reserved| reserved.is_some())
    }

    async fn reserve_or_rotate(
        &self,
        key: &KeyRecord,
        version: &KeyVersion,
        reservation: &Reservation<'_>,
        part: u32,
    ) -> Result<Option<ReservedUses>, Error> {
        if version.reserved_uses < reservation.reserved() {
            // An older record in the place of the newest one would let the budget begin anew.
            return Err(tampered("a version counts fewer uses than were reserved"));
        }
        let (key_id, version_number) = (key.id, version.number);
        if self.service.settings().next_block(version.reserved_uses) > 0 {
            let reserve = ReserveKeyUses { key_id, version: version_number };
            return self.service.run_part(self, part, &reserve).await;
        }
        let rotate = RotateKey { key_id, version: version_number, cause: RotationCause::BudgetSpent };
        self.service.run_part(self, part, &rotate).await.map(|()| None)
    }
}

/// The current version, if it seals in the HSM.
fn in_hsm(key: &KeyRecord) -> Option<&KeyVersion> {
    key.current_version().filter(|version| version.scheme == Scheme::InHsm)
}
