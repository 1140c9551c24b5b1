//! GetCampaign: how far a campaign has come, and whether old versions are still referenced.

use crate::{
    campaign::{Campaign, VersionProgress},
    directory::campaign_path,
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared},
    service::Scope,
};

/// Reads one campaign.
#[derive(Debug, Clone)]
pub struct GetCampaign {
    /// Of which key.
    pub key: KeySelector,
    /// To which version.
    pub target: u32,
}

/// How far a campaign has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignStatus {
    /// The campaign.
    pub campaign: Campaign,
    /// Every version that is older than its target.
    pub versions: Vec<VersionProgress>,
}

impl CampaignStatus {
    pub(crate) async fn of(campaign: Campaign, record: &KeyRecord, scope: &Scope<'_>) -> Result<Self, Error> {
        let usage = scope.service.usage_of(campaign.key_id).await?;
        let older = record.versions.iter().filter(|version| version.number < campaign.target);
        let versions = older.map(|version| VersionProgress::of(record, version, &usage)).collect();
        Ok(Self { campaign, versions })
    }

    /// Whether nothing is left that the log knows of.
    pub fn is_open(&self) -> bool {
        self.versions.iter().all(VersionProgress::is_open)
    }
}

impl Operation for GetCampaign {
    const NAME: OperationName = OperationName::GetCampaign;
    type Output = CampaignStatus;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<CampaignStatus>, Error> {
        let record = scope.key(&self.key, draft).await?;
        record.check(Self::NAME, scope.now)?;
        let path = campaign_path(record.id, self.target);
        let stored = scope.directory().read::<Campaign>(path).await?.ok_or(Error::CampaignNotFound)?;
        Ok(Prepared::Answer(CampaignStatus::of(stored.value, &record, scope).await?))
    }
}
