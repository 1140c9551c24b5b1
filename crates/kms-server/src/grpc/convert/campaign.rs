//! Conversions of the use of keys, and of campaigns.

use std::collections::BTreeSet;

use kms_core::{
    Error,
    campaign::VersionProgress,
    ops::{
        CampaignStatus, DescribeKeyUsage, GetCampaign, KeySelector, KeyUsagePage, ListCampaigns,
        ListKeyUsage, PageSize, Rewrap, StartCampaign, UsedKey,
    },
    usage::VersionUsage,
};
use kms_proto::v1;

use super::{after_key, either, optional_key, required_key, state_of, time};

pub(crate) fn describe_key_usage(request: v1::DescribeKeyUsageRequest) -> Result<DescribeKeyUsage, Error> {
    Ok(DescribeKeyUsage { key: required_key(request.key)? })
}

/// How a key was used: every version that it has or that was used.
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
    let has = used.record.versions.iter().map(|version| version.number);
    let numbers: BTreeSet<u32> = has.chain(used.usage.versions.keys().copied()).collect();
    v1::KeyUse {
        key_id: used.record.id.to_string(),
        last_used_at: used.usage.last_used().map(time),
        versions: numbers.into_iter().map(version).collect(),
        unknown_before: used.usage.unknown_before.map(time),
    }
}

pub(crate) fn list_key_usage(request: v1::ListKeyUsageRequest) -> Result<ListKeyUsage, Error> {
    Ok(ListKeyUsage {
        size: PageSize::parse(request.page_size)?,
        after: after_key(&request.page_token)?,
        only_pending_deletion: request.only_pending_deletion,
    })
}

pub(crate) fn key_usage_page(page: KeyUsagePage) -> v1::ListKeyUsageResponse {
    let next_page_token = page.next.map_or_else(String::new, |id| id.to_string());
    v1::ListKeyUsageResponse { keys: page.keys.iter().map(used_key).collect(), next_page_token }
}

fn used_key(used: &UsedKey) -> v1::UsedKey {
    let record = &used.record;
    let state = if record.is_destroyed() { v1::KeyState::Unspecified } else { state_of(record.state) };
    v1::UsedKey {
        domain_id: record.account.to_string(),
        region: record.region().map_or_else(String::new, ToString::to_string),
        alias: record.alias.clone(),
        state: state.into(),
        deletion_due_at: record.deletion_due.map(time),
        destroyed_at: record.destroyed.as_ref().map(|tombstone| time(tombstone.at)),
        usage: Some(usage(used)),
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
