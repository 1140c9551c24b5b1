//! CountKeys and DescribeQuotas: what the account has in the region, and what it may have.

use crate::{
    directory::{Directory, index_prefix},
    draft::Draft,
    error::Error,
    identity::{AccountId, Region},
    operation::OperationName,
    ops::{Operation, Prepared, forget_roots::give_way},
    service::Scope,
    settings::AccountQuotas,
};

/// How many entries of the list are read at once.
const PAGE: usize = 1000;

/// Counts the custom keys of the account in the region, of all its projects.
#[derive(Debug, Clone, Copy)]
pub struct CountKeys;

impl Operation for CountKeys {
    const NAME: OperationName = OperationName::CountKeys;
    type Output = u64;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<u64>, Error> {
        let caller = scope.caller();
        Ok(Prepared::Answer(scope.directory().custom_keys(&caller.account, &caller.region).await?))
    }
}

/// Tells the quotas of the account in the region.
#[derive(Debug, Clone, Copy)]
pub struct DescribeQuotas;

/// How much there may be of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// What the account may have.
    pub limits: AccountQuotas,
    /// How many custom keys it has in the region.
    pub used_custom_keys: u64,
}

impl Operation for DescribeQuotas {
    const NAME: OperationName = OperationName::DescribeQuotas;
    type Output = Quotas;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Quotas>, Error> {
        let caller = scope.caller();
        Ok(Prepared::Answer(Quotas {
            limits: scope.quotas(),
            used_custom_keys: scope.directory().custom_keys(&caller.account, &caller.region).await?,
        }))
    }
}

impl Directory {
    /// How many custom keys are listed: those that are not destroyed.
    pub(crate) async fn custom_keys(&self, account: &AccountId, region: &Region) -> Result<u64, Error> {
        let prefix = index_prefix(account, region);
        let (mut count, mut after) = (0_u64, None);
        loop {
            let page = self.index(&prefix, after.as_deref(), PAGE).await?;
            count = count.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
            match page.into_iter().next_back() {
                Some((last, _)) => after = Some(last),
                None => return Ok(count),
            }
            give_way().await;
        }
    }
}
