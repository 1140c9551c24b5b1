//! Conversions of the use of keys, and of campaigns.

use kms_core::{
    Error,
    campaign::VersionProgress,
    ops::{
        CampaignStatus, DescribeKeyUsage, GetCampaign, KeySelector, ListCampaigns, Rewrap, StartCampaign,
        UsedKey,
    },
    usage::VersionUsage,
};
use kms_proto::v1;

use super::{either, optional_key, required_key, time};

pub(crate) fn describe_key_usage(request: v1::DescribeKeyUsageRequest) -> Result<DescribeKeyUsage, Error> {
    Ok(DescribeKeyUsage { key: required_key(request.key)? })
}

/// How a key was used: every version that it has.
pub(crate) fn usage(used: &UsedKey) -> v1::KeyUse {
    let version = |number| {
        let VersionUsage { data_keys, encryptions, decryptions, others, moved_in, moved_out, last_used } =
            used.usage.version(number);
        let last_used_at = last_used.map(time);
        v1::KeyVersionUse {
            number,
            data_keys,
            encryptions,
            decryptions,
            others,
            moved_in,
            moved_out,
            last_used_at,
        }
    };
    v1::KeyUse {
        key_id: used.record.id.to_string(),
        last_used_at: used.usage.last_used().map(time),
        versions: used.record.versions.iter().map(|one| version(one.number)).collect(),
        unknown_before: used.usage.unknown_before.map(time),
    }
}

pub(crate) fn start_campaign(request: v1::StartCampaignRequest) -> Result<StartCampaign, Error> {
    Ok(StartCampaign { key: KeySelector::parse(&request.key_id)? })
}

pub(crate) fn get_campaign(request: v1::GetCampaignRequest) -> Result<GetCampaign, Error> {
    Ok(GetCampaign { key: required_key(request.key)?, target: request.target_version })
}

pub(crate) fn list_campaigns(request: v1::ListCampaignsRequest) -> Result<ListCampaigns, Error> {
    Ok(ListCampaigns { key: required_key(request.key)? })
}

pub(crate) fn rewrap(request: v1::RewrapRequest) -> Result<Rewrap, Error> {
    let context = either(request.encryption_context, &request.additional_authenticated_data)?;
    Rewrap::new(&request.ciphertext_blob, optional_key(request.key)?, context)
}

pub(crate) fn campaign(status: CampaignStatus) -> v1::Campaign {
    v1::Campaign {
        key_id: status.campaign.key_id.to_string(),
        target_version: status.campaign.target,
        started_at: Some(time(status.campaign.started)),
        started_by: status.campaign.started_by.to_string(),
        gate_open: status.is_open(),
        versions: status.versions.iter().map(progress).collect(),
    }
}

fn progress(version: &VersionProgress) -> v1::VersionProgress {
    v1::VersionProgress {
        number: version.number,
        sealed: version.sealed,
        moved: version.moved,
        left: version.left(),
        known: version.is_known,
        gate_open: version.is_open(),
    }
}
