//! StartCampaign: what older versions of a key sealed is to be moved under the current one.

use crate::{
    campaign::Campaign,
    directory::{Stored, absent, campaign_path, digest},
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{CampaignStatus, KeySelector, Operation, Plan, Planned, Prepared, manage::stored_key},
    ports::Transaction,
    service::Scope,
};

/// Begins a campaign to the current version of a key; one that was begun before is answered as it stands.
#[derive(Debug, Clone)]
pub struct StartCampaign {
    /// Which key.
    pub key: KeySelector,
}

impl Operation for StartCampaign {
    const NAME: OperationName = OperationName::StartCampaign;
    type Output = CampaignStatus;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<CampaignStatus>, Error> {
        let (record, change) = stored_key(&self.key, scope, draft).await?;
        record.check(Self::NAME, scope.now)?;
        let target = record.current_version().ok_or(Error::KeyPendingImport)?.number;
        let path = campaign_path(record.id, target);
        let directory = scope.directory();
        if let Some(Stored { value, .. }) = directory.read::<Campaign>(path.clone()).await? {
            draft.existed();
            return Ok(Prepared::Answer(CampaignStatus::of(value, &record, scope).await?));
        }
        let user = scope.caller().user.clone();
        let campaign = Campaign { key_id: record.id, target, started: scope.now, started_by: user };
        let put = directory.put(path.clone(), &campaign)?;
        let output = CampaignStatus::of(campaign, &record, scope).await?;
        let state_digest = digest(&put);
        let conditions = [change.conditions, vec![absent(path)]].concat();
        let transaction = Transaction { conditions, mutations: vec![put] };
        Ok(Prepared::Change(Planned::Ready(Plan { transaction, output, state_digest, evict: None })))
    }
}
