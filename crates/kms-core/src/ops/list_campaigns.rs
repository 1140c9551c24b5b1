//! ListCampaigns: all campaigns of a key.

use crate::{
    campaign::Campaign,
    directory::campaign_prefix,
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{CampaignStatus, KeySelector, Operation, Prepared, new_version::MAX_VERSIONS},
    service::Scope,
};

/// Reads the campaigns of a key, in the order of their targets.
#[derive(Debug, Clone)]
pub struct ListCampaigns {
    /// Of which key.
    pub key: KeySelector,
}

impl Operation for ListCampaigns {
    const NAME: OperationName = OperationName::ListCampaigns;
    type Output = Vec<CampaignStatus>;

    async fn prepare(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Prepared<Vec<CampaignStatus>>, Error> {
        let record = scope.key(&self.key, draft).await?;
        record.check(Self::NAME, scope.now)?;
        // One for each version at the most.
        let found = scope.directory().index(&campaign_prefix(record.id), None, MAX_VERSIONS).await?;
        let mut campaigns = Vec::with_capacity(found.len());
        for (path, versioned) in found {
            let campaign: Campaign = scope.directory().open(&path, &versioned.value)?;
            campaigns.push(CampaignStatus::of(campaign, &record, scope).await?);
        }
        Ok(Prepared::Answer(campaigns))
    }
}
