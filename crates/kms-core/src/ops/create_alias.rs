//! CreateAlias: one more name of a key.

use crate::{
    draft::Draft,
    error::{Counted, Error, Quota},
    key::{AliasTimes, KeyRecord},
    operation::OperationName,
    ops::{
        AliasEntry, FurtherAlias, KeySelector, Operation, Planned, Prepared,
        manage::{custom_key, plan},
    },
    service::Scope,
    states,
};

/// Adds a further alias.
#[derive(Debug, Clone)]
pub struct CreateAlias {
    /// To which key.
    pub key: KeySelector,
    /// The new alias.
    pub alias: FurtherAlias,
}

impl Operation for CreateAlias {
    const NAME: OperationName = OperationName::CreateAlias;
    type Output = AliasEntry;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<AliasEntry>, Error> {
        let alias = self.alias.as_str();
        let (mut record, change) = custom_key(&self.key, scope, draft).await?;
        record.state = states::after(Self::NAME, record.state)?;
        if scope.directory().alias(scope.caller(), alias).await?.is_some() {
            return Err(Error::AliasExists);
        }
        let times = AliasTimes { created: scope.now, updated: scope.now };
        add_alias(&mut record, alias, times, scope.quotas().aliases_per_key)?;
        let entry = AliasEntry::of(&record, alias).ok_or(Error::AliasNotFound)?;
        Ok(Prepared::Change(Planned::Ready(plan(scope.directory(), change, &record, entry)?)))
    }
}

/// Gives `record`, which may have `limit` of them, an alias that it does not have.
pub(crate) fn add_alias(
    record: &mut KeyRecord,
    alias: &str,
    times: AliasTimes,
    limit: u64,
) -> Result<(), Error> {
    let used = record.aliases.len() as u64;
    if used >= limit {
        return Err(Error::QuotaExceeded(Quota { what: Counted::AliasesOfKey, limit, used }));
    }
    record.aliases.insert(alias.to_owned(), times);
    Ok(())
}
