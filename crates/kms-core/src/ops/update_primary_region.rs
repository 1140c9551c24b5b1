//! UpdatePrimaryRegion: of the keys that share a material, another one is managed from now on.

use crate::{
    draft::Draft,
    error::{Error, Field},
    identity::Region,
    key::{KeyRecord, Replication},
    operation::OperationName,
    ops::{
        KeySelector, Operation, Planned, Prepared,
        manage::{custom_key, plan},
        siblings::Siblings,
    },
    service::Scope,
};

/// Makes the replica of a region the primary, and the primary a replica. How it is rotated by time goes along.
#[derive(Debug, Clone)]
pub struct UpdatePrimaryRegion {
    /// The primary, in the caller's region.
    pub key: KeySelector,
    /// Where the next primary is.
    pub region: Region,
}

impl Operation for UpdatePrimaryRegion {
    const NAME: OperationName = OperationName::UpdatePrimaryRegion;
    /// The key that was the primary.
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let (mut record, mut change) = custom_key(&self.key, scope, draft).await?;
        record.check(Self::NAME, scope.now)?;
        if record.is_replica() {
            return Err(Error::ReplicaReadOnly);
        }
        let siblings = Siblings::of(scope.directory(), &record, &mut change).await?;
        let next = siblings.iter().find(|other| other.region() == Some(&self.region));
        let next = next.ok_or(Error::invalid(
            Field::PrimaryRegion,
            "must be a region that the key has a replica in: DescribeKey names them",
        ))?;
        scope.refuse_if_denied(Self::NAME, next, None, draft)?;
        // Who manages must be in use.
        next.check(Self::NAME, scope.now)?;
        let (primary, rotation) = (next.id, record.rotation.take());
        let promote = |shared: &mut Option<Replication>| {
            if let Some(shared) = shared {
                shared.primary = primary;
            }
        };
        siblings.change(scope.directory(), &mut change, |other| {
            promote(&mut other.replication);
            if other.id == primary {
                other.rotation.clone_from(&rotation);
            }
        })?;
        promote(&mut record.replication);
        let plan = plan(scope.directory(), change, &record, record.clone())?;
        Ok(Prepared::Change(Planned::Ready(plan)))
    }
}
